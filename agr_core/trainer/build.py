"""Construction of a training's and an evaluation's parts from a configuration and its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from agr_core.batch import AgeLabels, Labels
from agr_core.config import CascadeConfig, PlateauSchedule, StepSchedule, TrialConfig
from agr_core.errors import ConfigError
from agr_core.evaluation.metrics import PartMetrics
from agr_core.evaluation.names import allowed_schemes, is_of_the_machine, listed, metric_names
from agr_core.evaluation.routing import RoutingMetrics
from agr_core.identity import digest
from agr_core.labels.encodings import build_encoding
from agr_core.models import build_model
from agr_core.models.probe import check_model
from agr_core.models.weights_file import WeightsFile
from agr_core.objective import BEST, Objective
from agr_core.registry import did_you_mean
from agr_core.trainer.determinism import use_deterministic_algorithms
from agr_core.trainer.device import choose_device
from agr_core.trainer.image_weights import image_weights
from agr_core.trainer.images import Normalizer
from agr_core.trainer.losses import MultiTaskLoss
from agr_core.trainer.memory import keep_freed_memory
from agr_core.trainer.source import LabelSpace, TrainingData
from agr_core.trainer.steps import Predictor


def build_predictor(
    config: TrialConfig,
    data: LabelSpace,
    *,
    train_labels: Labels | None = None,
    weights: WeightsFile | None = None,
    untrained: bool = False,
) -> Predictor:
    """Build the model, with initial weights, and its loss on the trial's device.

    Args:
        config: The trial.
        data: Its data; only vocabularies and kinds of labels are used.
        train_labels: Labels of the training part, from which image weights are computed; None: the model is not
            trained.
        weights: Local file of ``model.weights``; see ``build_model``.
        untrained: Ignore ``model.weights`` and leave the weights random, because the caller replaces them.

    Raises:
        ConfigError: If the model cannot be built, or the device does not exist.
        DataError: If the age bins cut a label range of the data, or all images are of one class of a weighted task.
    """
    device = choose_device(config.compute)
    use_deterministic_algorithms(config.compute)
    if device.type == "cpu":
        keep_freed_memory()
    if train_labels is not None and config.batch_size == 1:
        check_model(config)
    encoding = build_encoding(config.age, ranges=data.age_ranges if "age" in config.tasks else ())
    model = build_model(
        config,
        age_outputs=encoding.outputs,
        num_genders=len(data.vocabulary.genders),
        num_races=len(data.vocabulary.races),
        num_attributes=len(data.vocabulary.attributes),
        age_layer=encoding.last_layer,
        weights=weights,
        untrained=untrained,
    )
    model = model.to(device)
    if config.compute.channels_last:
        model = model.to(memory_format=torch.channels_last)
    counted = None
    if train_labels is not None:
        counted = image_weights(
            config.loss,
            train_labels,
            tasks=config.tasks,
            bins=encoding.bins,
            vocabulary=data.vocabulary,
            device=device,
        )
    return Predictor(
        model=model,
        encoding=encoding,
        loss=MultiTaskLoss(config.loss, encoding, tasks=config.tasks, weights=counted).to(device),
        normalize=Normalizer(config.image, device),
        compute=config.compute,
        device=device,
        mirrored=config.image.mirrored,
    )


def part_metrics(
    config: TrialConfig,
    data: TrainingData,
    predictor: Predictor,
    *,
    ages: AgeLabels | None = None,
    brief: bool = False,
) -> PartMetrics:
    """Return an empty metrics accumulator for one part.

    ``ages`` describes the age labels of a foreign part; ``brief`` restricts the metrics to those of the training part.
    """
    kind, ranges = (data.label_kind, data.age_ranges) if ages is None else ages
    given = (predictor.encoding, config.tasks, data.vocabulary, kind)
    schemes = allowed_schemes(kind, ranges)
    if isinstance(config.model, CascadeConfig) and not brief:
        return RoutingMetrics(config.model.by, *given, schemes=schemes, loss_weights=config.loss.weights)
    return PartMetrics(*given, schemes=schemes, brief=brief, loss_weights=None if brief else config.loss.weights)


def check_watched_metrics(
    config: TrialConfig, data: TrainingData, objectives: Mapping[str, Objective], further: Sequence[Objective] = ()
) -> None:
    """Check before training that the trial reports every metric it watches.

    Raises:
        ConfigError: If a watched metric is not reported; the message names the field, its value and the reported
            metrics.
    """
    watched = [
        ("objective.metric" if label == BEST else f"keep.{label}.metric", name)
        for label, objective in objectives.items()
        for name in objective.weights
    ]
    watched += [
        (f"objective[{place}].metric", name) for place, each in enumerate(further, start=1) for name in each.weights
    ]
    if isinstance(config.schedule, PlateauSchedule):
        watched.append(("schedule.metric", config.schedule.metric))
    for number, phase in enumerate(config.loss.phases):
        if phase.once is not None:
            watched.append((f"loss.phases[{number}].once.metric", phase.once.metric))
    if config.early_stopping is not None:
        watched.append(("early_stopping.metric", config.early_stopping.metric))
    schemes = allowed_schemes(data.label_kind, data.age_ranges)
    known = metric_names(config, data.label_kind, schemes=schemes, vocabulary=data.vocabulary)
    for field, name in watched:
        if name not in known or is_of_the_machine(name):
            raise ConfigError(
                f"{field} is {name!r}, which this trial does not report.{did_you_mean(name, known)} "
                f"Reported: {listed(sorted(name for name in known if not is_of_the_machine(name)))}."
            )


def check_milestones(config: TrialConfig, data: TrainingData) -> None:
    """Check before training that every milestone in steps lies within the training.

    Raises:
        ConfigError: If one does not; the message names the milestone and the number of steps.
    """
    schedule = config.schedule
    if not isinstance(schedule, StepSchedule) or schedule.unit == "epoch":
        return
    steps = schedule.epochs * data.steps_per_epoch
    dead = schedule.never_reached(steps)
    if dead is not None:
        raise ConfigError(
            f"milestone {dead:,} is never reached: epochs={schedule.epochs} of {data.steps_per_epoch:,} steps "
            f"({data.images_per_epoch:,} images, batch_size={config.batch_size}, accumulate={config.accumulate}) are "
            f"{steps:,} steps. Lower it, or train longer."
        )


def training_identity(
    config: TrialConfig,
    data: TrainingData,
    objectives: Mapping[str, Objective],
    weights: WeightsFile | None,
    further: Sequence[Objective] = (),
    *,
    with_length: bool = False,
) -> str:
    """Return the digest of what a checkpoint belongs to.

    It covers the configuration, the objectives by label, and the content of data, split and weights. The number of
    epochs counts only where the first epochs depend on it, so that a training can go on from the checkpoint of a
    shorter one. ``with_length``: it counts always, as in checkpoints of earlier versions.
    """
    if not (with_length or config.schedule.length_matters):
        config = config.model_copy(update={"schedule": config.schedule.model_copy(update={"epochs": 1})})
    plain = {label: objective.model_dump(mode="json") for label, objective in objectives.items()}
    return digest(
        {
            "config": config.digest(
                data_digest=data.data_digest,
                split_digest=data.split_digest,
                weights_sha256=None if weights is None else weights.sha256,
            ),
            "objective": plain.pop(BEST),
        }
        | ({"keep": plain} if plain else {})
        | ({"further": [objective.model_dump(mode="json") for objective in further]} if further else {})
    )
