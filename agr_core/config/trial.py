"""Complete configuration of a trial, its stages and its digest."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from agr_core import plugins
from agr_core.config.age import AgeConfig, BinnedAge, CumulativeAge, OnehotAge, SoftmaxAge
from agr_core.config.averaging import AveragingConfig, NoAveraging, SwaAveraging
from agr_core.config.base import StrictModel, Task
from agr_core.config.data import ClassSampler, DataConfig, SamplerConfig, ShuffleSampler
from agr_core.config.evaluate import EvaluateConfig
from agr_core.config.image import AugmentConfig, CropFlipAugment, ImageConfig, NoAugment
from agr_core.config.loss import CrossEntropyLoss, LossConfig, LossWeights
from agr_core.config.mixup import MixupConfig
from agr_core.config.model import BasicCnnConfig, CascadeConfig, HeadConfig, ModelConfig
from agr_core.config.optimizer import AdamConfig, OptimizerConfig
from agr_core.config.schedule import ConstantSchedule, EarlyStoppingConfig, PlateauSchedule, ScheduleConfig
from agr_core.identity import digest


class ComputeConfig(StrictModel):
    """Threads, processes, precision and device; part of the configuration because they affect the bits."""

    threads: int = Field(
        default=1, ge=1, le=256, description="Number of CPU threads of torch; default: resources.cpus of the sweep."
    )
    processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Number of processes that share each batch, one per GPU; default: resources.gpus of the sweep. "
        "Equal in all trials of a sweep.",
    )
    amp: Literal["none", "bf16", "fp16"] = Field(default="none", description="Automatic mixed precision.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="auto: a GPU if the trial has one.")
    channels_last: bool = Field(
        default=False,
        description="Store convolution weights in torch's channels_last memory format; images always use it.",
    )

    @model_validator(mode="after")
    def _fp16_needs_a_gpu(self) -> Self:
        if self.amp == "fp16" and self.device == "cpu":
            raise ValueError("amp=fp16 with device=cpu: fp16 needs a GPU; on the CPU use bf16 or none.")
        return self


class TrialConfig(StrictModel):
    """One trial: data, model, labels, optimisation, seed. On given hardware it determines the result bit for bit."""

    schema_version: Literal[1] = Field(default=1, description="Version of this schema.")
    seed: int = Field(default=42, ge=0, lt=2**63, description="Seed of initial weights, order and augmentation.")
    data: DataConfig = Field(default_factory=DataConfig, description="Data sets and their split.")
    tasks: tuple[Task, ...] = Field(
        default=("age", "gender", "race"), min_length=1, description="Predicted tasks, each with its own head."
    )
    image: ImageConfig = Field(
        default_factory=ImageConfig, description="Image size, colour, normalisation and caching."
    )
    augment: AugmentConfig = Field(default=NoAugment(name="none"), description="Augmentation of training images.")
    mixup: MixupConfig | None = Field(default=None, description="MixUp of training images; null: none.")
    sampler: SamplerConfig = Field(default=ShuffleSampler(name="shuffle"), description="Sampling of training images.")
    batch_size: int = Field(default=64, ge=1, le=65_536, description="Number of images per forward pass.")
    accumulate: int = Field(
        default=1,
        ge=1,
        le=4096,
        description="Number of batches per optimizer step; their gradients are accumulated as for one batch.",
    )
    model: ModelConfig = Field(default=BasicCnnConfig(name="basic_cnn"), description="The shared backbone.")
    head: HeadConfig = Field(default_factory=HeadConfig, description="Layers between backbone and each task's outputs.")
    age: AgeConfig = Field(
        default=OnehotAge(encoding="onehot"),
        description="Age encoding: conversion of ages to training targets and back.",
    )
    loss: LossConfig = Field(default_factory=LossConfig, description="Combination of the tasks' losses.")
    optimizer: OptimizerConfig = Field(default=AdamConfig(name="adam"), description="Optimizer and its own arguments.")
    schedule: ScheduleConfig = Field(
        default=ConstantSchedule(name="constant"), description="Learning-rate schedule and number of epochs."
    )
    early_stopping: EarlyStoppingConfig | None = Field(
        default=None, description="Early stopping; null: train all epochs."
    )
    averaging: AveragingConfig = Field(
        default=NoAveraging(name="none"),
        description="Average of the weights that is evaluated and kept in their place.",
    )
    evaluate: EvaluateConfig = Field(
        default_factory=EvaluateConfig, description="Evaluations of the kept weights besides val and test."
    )
    compute: ComputeConfig = Field(default_factory=ComputeConfig, description="Threads, precision, device.")
    init: StageConfig | None = Field(
        default=None, description="Training whose best weights this one starts from; set from `stages`."
    )

    @field_validator("tasks")
    @classmethod
    def _tasks_once(cls, value: tuple[Task, ...]) -> tuple[Task, ...]:
        if len(set(value)) != len(value):
            raise ValueError(f"tasks={list(value)} names a task twice.")
        return value

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        self.loss.check(self.tasks, epochs=self.schedule.epochs)
        no_classes = "age" in self.tasks and not isinstance(self.age, BinnedAge)
        if no_classes and self.loss.class_weights != "none" and self.loss.age_density == "none":
            raise ValueError(
                f"loss.class_weights={self.loss.class_weights} weighs ages by their bin, but "
                f"age.encoding={self.age.encoding} has none: set loss.age_density, which weighs them by their year."
            )
        missing = [task for task in self.age.speaks_for if task not in self.tasks]
        if "age" in self.tasks and missing:
            raise ValueError(
                f"age.encoding={self.age.encoding} predicts {' and '.join(missing)} with its age head, but "
                f"tasks={list(self.tasks)}: add {', '.join(missing)} to tasks, or choose another encoding."
            )
        backbone = self.model.base if isinstance(self.model, CascadeConfig) else self.model
        if isinstance(backbone, BasicCnnConfig) and self.image.size >> backbone.conv_layers < 1:
            raise ValueError(
                f"image.size={self.image.size} is too small for model.conv_layers={backbone.conv_layers}: "
                "each layer halves the image."
            )
        if isinstance(self.augment, CropFlipAugment) and self.image.crop_from is None:
            raise ValueError(
                f"augment=crop_flip cuts image.size={self.image.size} at random from a larger image: set "
                "image.crop_from, for instance image: {size: 227, crop_from: 256}."
            )
        return self

    @model_validator(mode="after")
    def _processes_share_batches(self) -> Self:
        processes = self.compute.processes
        if processes > 1 and self.batch_size < 2 * processes:
            raise ValueError(
                f"batch_size={self.batch_size} is shared by compute.processes={processes}, and each needs at least 2 "
                f"images: set batch_size to {2 * processes} or more, or use fewer processes (resources.gpus)."
            )
        if self.init is not None and self.init.config.compute.processes != 1:
            raise ValueError(
                f"stage {self.init.id} has compute.processes={self.init.config.compute.processes}: stages are trained "
                "by one process. Write `compute: {processes: 1}` in the stage."
            )
        return self

    @model_validator(mode="after")
    def _cascade_fits(self) -> Self:
        if not isinstance(self.model, CascadeConfig):
            return self
        by = self.model.by
        if by not in self.head_tasks or len(self.head_tasks) < 2:
            raise ValueError(
                f"model=cascade by {by} needs a head for {by}, and another task for its experts; "
                f"tasks={list(self.tasks)} with age.encoding={self.age.encoding} has heads for {list(self.head_tasks)}."
            )
        if getattr(self.loss.weights, by) == 0:
            raise ValueError(f"loss.weights.{by}=0 would leave the router of model=cascade by {by} untrained.")
        if self.image.mirrored:
            raise ValueError(
                f"image.mirrored averages outputs, and model=cascade by {by} might send an image and its mirror "
                "image to different experts: leave mirrored out, or choose another model."
            )
        if self.mixup is not None:
            raise ValueError(
                f"mixup mixes images of several groups, and model=cascade by {by} trains one expert on each: leave "
                "mixup out, or choose another model."
            )
        return self

    @model_validator(mode="after")
    def _averaging_fits_the_schedule(self) -> Self:
        averaging, schedule = self.averaging, self.schedule
        if not isinstance(averaging, SwaAveraging):
            return self
        if averaging.start_epoch >= schedule.epochs:
            raise ValueError(
                f"averaging.start_epoch={averaging.start_epoch} is never reached in schedule.epochs={schedule.epochs}: "
                "lower it or train longer."
            )
        if averaging.lr is not None and isinstance(schedule, PlateauSchedule):
            raise ValueError(
                f"averaging.lr={averaging.lr:g} and schedule=plateau would both set the learning rate: leave "
                "averaging.lr out, or choose another schedule."
            )
        return self

    @model_validator(mode="after")
    def _init_gives_the_weights(self) -> Self:
        if self.init is None and self.model.weights == "init":
            raise ValueError("model.weights=init means the weights of a stage, and there is none; write `stages`.")
        if self.init is not None and self.model.weights != "init":
            raise ValueError(
                f"init.id={self.init.id} gives the weights, but model.weights={self.model.weights}; set it to init."
            )
        return self

    @property
    def stages(self) -> tuple[StageConfig, ...]:
        """Stages before this training, in order."""
        return () if self.init is None else (*self.init.config.stages, self.init)

    @property
    def head_tasks(self) -> tuple[Task, ...]:
        """Tasks with a head of their own: all except those derived from the age head."""
        spoken_for = self.age.speaks_for if "age" in self.tasks else ()
        return tuple(task for task in self.tasks if task not in spoken_for)

    @property
    def packages(self) -> dict[str, str]:
        """Versions of the packages whose components this training and its stages use, by the package's name."""
        model = self.model.base if isinstance(self.model, CascadeConfig) else self.model
        used = {
            **plugins.package_of(plugins.BACKBONES, model.name),
            **plugins.package_of(plugins.ENCODINGS, self.age.encoding),
            **plugins.package_of(plugins.SAMPLERS, self.sampler.name),
            **plugins.package_of(plugins.LOSSES, self.loss.classification.name),
        }
        for stage in self.stages:
            used |= stage.config.packages
        return used

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Return the configuration described by a plain document, as parsed from YAML or JSON.

        Raises:
            pydantic.ValidationError: If it is invalid; lists every problem.
        """
        return cls.model_validate_json(json.dumps(document))

    def to_document(self) -> dict[str, Any]:
        """Return the complete configuration as plain JSON, defaults included."""
        return self.model_dump(mode="json")

    def digest(self, *, data_digest: str, split_digest: str, weights_sha256: str | None = None) -> str:
        """Return the digest of what is trained: this configuration, with data, split and weights by content.

        Fields at their defaults are omitted (see ``agr_core.config``), except ``schema_version``.

        Args:
            data_digest: Digest of the packed data set.
            split_digest: Digest of the split.
            weights_sha256: SHA-256 of the weights file of ``model.weights``; ignored for ``none`` and ``timm``. For a
                stage that is not yet trained, its key (``StageConfig.key``). None: weights are identified by address,
                as in the first journals.
        """
        document = self.model_dump(mode="json", exclude_defaults=True, exclude={"data", "init", "evaluate"})
        if weights_sha256 is not None and self.model.weights not in ("none", "timm"):
            del document["model"]["weights"]
            document["model"]["weights_sha256"] = weights_sha256
        document["schema_version"] = self.schema_version
        document["data"] = {"data_digest": data_digest, "split_digest": split_digest, "fraction": self.data.fraction}
        return digest(document)


class StageObjective(StrictModel):
    """Objective that selects the best epoch of a stage."""

    metric: str = Field(default="val/loss", description="Name of a validation metric that the stage reports.")
    direction: Literal["minimize", "maximize"] = Field(default="minimize", description="minimize or maximize.")


class StageConfig(StrictModel):
    """A training before another one, which starts from the weights of its best epoch."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,29}$", description="Name of the stage.")
    objective: StageObjective = Field(
        default_factory=StageObjective, description="Objective that selects its best epoch."
    )
    config: TrialConfig = Field(description="Complete configuration of the stage, including its own `init`, if any.")

    def key(self, *, data_digest: str, split_digest: str, weights_sha256: str | None) -> str:
        """Return the digest of what the stage trains and of its objective; equal stages are trained once.

        Settings that the training does not use are omitted (``used_settings``).

        Args:
            data_digest: Digest of its packed data set.
            split_digest: Digest of its split.
            weights_sha256: SHA-256 of its initial weights file, or the key of the preceding stage; None: neither.
        """
        used = used_settings(self.config, watched=self.objective.metric)
        config = used.digest(data_digest=data_digest, split_digest=split_digest, weights_sha256=weights_sha256)
        return digest({"config": config, "objective": self.objective.model_dump(mode="json")})


def used_settings(config: TrialConfig, *, watched: str) -> TrialConfig:
    """Return ``config`` with every setting at its default that affects neither training nor best epoch.

    These are settings of untrained tasks and unused losses, the pixel cache, and the decoding to years, unless a metric
    in years selects the best epoch, stops the training or reduces the rate.

    Args:
        config: Configuration of the training.
        watched: Metric that selects its best epoch.
    """
    tasks = set(config.tasks)
    labels = tasks & {"age", "gender", "race"}
    changes: dict[str, Any] = {"image": config.image.model_copy(update={"cache": "auto"})}
    if "age" not in tasks:
        bins_matter = (
            isinstance(config.sampler, ClassSampler) and config.sampler.by == "age" and not config.sampler.bins
        )
        changes["age"] = OnehotAge(encoding="onehot")
        if bins_matter and isinstance(config.age, BinnedAge):
            changes["age"] = OnehotAge(encoding="onehot", bins=config.age.bins)
    elif isinstance(config.age, SoftmaxAge | CumulativeAge) and not any(
        _reads_years(name, config.age.extra_metrics) for name in (watched, *_watched(config))
    ):
        changes["age"] = config.age.model_copy(update={"decode": type(config.age).model_fields["decode"].default})
    unused = [task for task in LossWeights.model_fields if task not in tasks]
    phases = [
        phase.model_copy(update={"weights": phase.weights.model_copy(update=dict.fromkeys(unused))})
        for phase in config.loss.phases
    ]
    of_loss: dict[str, Any] = {
        "weights": config.loss.weights.model_copy(update=dict.fromkeys(unused, 1.0)),
        "phases": tuple(phase for phase in phases if phase.weights.model_dump(exclude_none=True)),
    }
    of_loss |= {} if labels else {"class_weights": "none", "label_smoothing": 0.0}
    of_loss |= {} if "age" in tasks else {"age_density": "none"}
    of_loss |= {} if tasks & {"gender", "race"} else {"classification": CrossEntropyLoss(name="cross_entropy")}
    changes["loss"] = config.loss.model_copy(update=of_loss)
    return config.model_copy(update=changes)


def _watched(config: TrialConfig) -> list[str]:
    """Return the metrics that the training itself watches."""
    plateau = [config.schedule.metric] if isinstance(config.schedule, PlateauSchedule) else []
    stopping = [] if config.early_stopping is None else [config.early_stopping.metric]
    return [*plateau, *stopping, *(phase.once.metric for phase in config.loss.phases if phase.once is not None)]


def _reads_years(metric: str, extra_metrics: Collection[str]) -> bool:
    """Return whether a metric measures age in years, and so depends on the decoding.

    ``extra_metrics`` are those that only the trial's age encoding reports.
    """
    figure = metric.partition("/")[2].split(".")[0].removeprefix("oracle_")
    own_bins = metric.partition("/")[2].split(".by_")[0] in ("age_acc", "age_f1") or figure in extra_metrics
    return figure.startswith("age_") and not figure.endswith("_loss") and not own_bins


TrialConfig.model_rebuild()
