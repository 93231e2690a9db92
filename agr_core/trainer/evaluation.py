"""Evaluation outside of training: stored weights on a part, and baselines that need no image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from agr_core.config import EvaluateConfig, TrialConfig
from agr_core.errors import CheckpointError
from agr_core.evaluation.baseline import baseline
from agr_core.evaluation.names import own_bin_metrics
from agr_core.evaluation.predictions import Predictions
from agr_core.reporting import Metrics
from agr_core.trainer.build import build_predictor, part_metrics
from agr_core.trainer.checkpoint import load_weights
from agr_core.trainer.mixup import Mix, draw_mix
from agr_core.trainer.source import TrainingData
from agr_core.trainer.steps import evaluate

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class PartReport:
    """Metrics, tables and predictions of one part; metrics and tables are named ``<part>/...``."""

    part: str
    metrics: Metrics
    tables: Mapping[str, Any]
    predictions: Predictions


AUGMENTED = "_augmented"
"""Suffix of a part's name if its images are augmented as in training."""


def evaluate_part(
    config: TrialConfig, data: TrainingData, weights: Path, part: str, *, augmented: bool = False
) -> PartReport:
    """Evaluate stored weights on a part: the sealed test part, a foreign part, or train or val again.

    If the trial's bins cut age ranges of a foreign part, the true bin is unknown; losses and scores in the trial's own
    bins are then absent.

    Args:
        config: The trial.
        data: Its data.
        weights: File of the weights.
        part: Name of the part.
        augmented: Augment its images as in training, with MixUp if the trial uses it. Metrics are then named
            ``<part>_augmented/...``, and each image is scored by its own label.

    Raises:
        CheckpointError: If the weights cannot be read or belong to another model.
        DivergedError: If a loss or an estimate is not finite.
    """
    predictor = build_predictor(config, data, untrained=True)
    try:
        predictor.model.load_state_dict(load_weights(weights))
    except RuntimeError as error:
        raise CheckpointError(f"weights {weights} are of another model: {error}") from error
    foreign = data.foreign.get(part)
    collected = part_metrics(config, data, predictor, ages=foreign)
    mix_of = partial(_mix, config) if augmented and config.mixup is not None else None
    batches = data.batches(part, augmented=True) if augmented else data.batches(part)
    metrics, tables = evaluate(predictor, batches, collected, mix_of=mix_of)
    bins = predictor.encoding.bins
    if foreign is not None and bins is not None and any(bins.splits_range(*ages) for ages in foreign.ranges):
        undefined = own_bin_metrics()
        metrics = {name: value for name, value in metrics.items() if f"val/{name}" not in undefined}
    name = f"{part}{AUGMENTED}" if augmented else part
    return PartReport(
        part=name,
        metrics=prefixed(name, metrics),
        tables=prefixed(name, tables),
        predictions=collected.predictions(data.sample_ids(part)),
    )


def further_parts(config: EvaluateConfig, parts: Sequence[str]) -> list[tuple[str, bool]]:
    """Return the evaluations to run after the training, as (part, whether augmented).

    Args:
        config: Requested evaluations.
        parts: Parts with at least one image.
    """
    train = [("train", False)] if config.train else []
    return [*train, *((part, True) for part in ("val", "test") if config.augment and part in parts)]


def _mix(config: TrialConfig, batch: int, images: int) -> Mix:
    """Return how batch ``batch`` of an augmented evaluation is mixed; differs from every training epoch."""
    assert config.mixup is not None
    return draw_mix(config.mixup, images=images, seed=config.seed, epoch=-1, batch=batch)


def majority_baseline(data: TrainingData) -> dict[str, float]:
    """Return val metrics of the training part's mean age and most frequent gender and race."""
    return baseline(
        data.labels("train"),
        data.labels("val"),
        tasks=("age", "gender", "race", "attributes"),
        label_kind=data.label_kind,
    )


def prefixed(part: str, figures: Mapping[str, T]) -> dict[str, T]:
    """Return the same metrics, named ``<part>/...``."""
    return {f"{part}/{name}": value for name, value in figures.items()}
