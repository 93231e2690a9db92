"""TrialConfig: the whole of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from agr_core.config.age import AgeConfig, BinnedAge, OnehotAge
from agr_core.config.averaging import AveragingConfig, NoAveraging, SwaAveraging
from agr_core.config.base import StrictModel, Task
from agr_core.config.data import DataConfig, SamplerConfig, ShuffleSampler
from agr_core.config.image import AugmentConfig, CropFlipAugment, ImageConfig, NoAugment
from agr_core.config.loss import LossConfig
from agr_core.config.mixup import MixupConfig
from agr_core.config.model import BasicCnnConfig, CascadeConfig, HeadConfig, ModelConfig
from agr_core.config.optimizer import AdamConfig, OptimizerConfig
from agr_core.config.schedule import ConstantSchedule, EarlyStoppingConfig, PlateauSchedule, ScheduleConfig
from agr_core.identity import digest


class ComputeConfig(StrictModel):
    """How the arithmetic is done; part of the configuration because it changes the bits."""

    threads: int = Field(
        default=1, ge=1, le=256, description="CPU threads of torch; default: resources.cpus of the sweep."
    )
    processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Processes that share each batch, one a GPU; default: resources.gpus of the sweep. The same in all "
        "trials of a sweep.",
    )
    amp: Literal["none", "bf16", "fp16"] = Field(default="none", description="Automatic mixed precision.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto: a GPU where the trial was given one."
    )
    channels_last: bool = Field(
        default=False,
        description="Keep the weights of convolutions, too, in torch's channels_last memory format; images always are.",
    )

    @model_validator(mode="after")
    def _fp16_needs_a_gpu(self) -> Self:
        if self.amp == "fp16" and self.device == "cpu":
            raise ValueError("amp=fp16 with device=cpu: fp16 needs a GPU; on the CPU use bf16 or none.")
        return self


class TrialConfig(StrictModel):
    """One trial: data, model, labels, optimisation, seed. It fixes the result on given hardware to the last bit."""

    schema_version: Literal[1] = Field(default=1, description="Version of this schema.")
    seed: int = Field(default=42, ge=0, lt=2**63, description="Seed of initial weights, order and augmentation.")
    data: DataConfig = Field(default_factory=DataConfig, description="Which images, and how they are split.")
    tasks: tuple[Task, ...] = Field(
        default=("age", "gender", "race"), min_length=1, description="What is predicted, each by a head of its own."
    )
    image: ImageConfig = Field(default_factory=ImageConfig, description="What the model sees of an image.")
    augment: AugmentConfig = Field(default=NoAugment(name="none"), description="Random changes of training images.")
    mixup: MixupConfig | None = Field(
        default=None, description="Training images mixed with each other; null: they are not."
    )
    sampler: SamplerConfig = Field(default=ShuffleSampler(name="shuffle"), description="How training images are drawn.")
    batch_size: int = Field(default=64, ge=1, le=65_536, description="Images per forward pass.")
    accumulate: int = Field(
        default=1,
        ge=1,
        le=4096,
        description="Batches per optimizer step, whose gradients are added up as if they were one batch.",
    )
    model: ModelConfig = Field(default=BasicCnnConfig(name="basic_cnn"), description="The shared backbone.")
    head: HeadConfig = Field(default_factory=HeadConfig, description="Layers between backbone and each task's outputs.")
    age: AgeConfig = Field(
        default=OnehotAge(encoding="onehot"), description="How an age becomes a training target and is decoded."
    )
    loss: LossConfig = Field(default_factory=LossConfig, description="How the tasks' losses are summed.")
    optimizer: OptimizerConfig = Field(default=AdamConfig(name="adam"), description="Optimizer and its own arguments.")
    schedule: ScheduleConfig = Field(
        default=ConstantSchedule(name="constant"), description="Learning-rate schedule and number of epochs."
    )
    early_stopping: EarlyStoppingConfig | None = Field(default=None, description="None: train all epochs.")
    averaging: AveragingConfig = Field(
        default=NoAveraging(name="none"),
        description="Average of the weights, evaluated and kept instead of them.",
    )
    compute: ComputeConfig = Field(default_factory=ComputeConfig, description="Threads, precision, device.")
    init: StageConfig | None = Field(
        default=None, description="The training whose best weights this one starts from; made from `stages`."
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
            raise ValueError(f"init.id={self.init.id} gives the weights, and model.weights={self.model.weights}.")
        return self

    @property
    def stages(self) -> tuple[StageConfig, ...]:
        """The stages before this training, the first one first."""
        return () if self.init is None else (*self.init.config.stages, self.init)

    @property
    def head_tasks(self) -> tuple[Task, ...]:
        """The tasks that have a head of their own: all but those the age head speaks for."""
        spoken_for = self.age.speaks_for if "age" in self.tasks else ()
        return tuple(task for task in self.tasks if task not in spoken_for)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """The configuration a plain document (as YAML or JSON gives it) describes.

        Raises:
            pydantic.ValidationError: With every problem found.
        """
        return cls.model_validate_json(json.dumps(document))

    def to_document(self) -> dict[str, Any]:
        """The complete configuration as plain JSON, defaults included."""
        return self.model_dump(mode="json")

    def digest(self, *, data_digest: str, split_digest: str, weights_sha256: str | None = None) -> str:
        """Digest of what is trained: this configuration, with data, split and weights by content, not by address.

        Fields at their defaults do not take part (see the module's first words). ``schema_version`` always does.

        Args:
            data_digest: Digest of the packed data set.
            split_digest: Digest of the split.
            weights_sha256: SHA-256 of the file that ``model.weights`` stands for; it takes no part where that says
                ``none`` or ``timm``. None: by address, as in the first journals. A stage's is, before it is trained,
                its key (``StageConfig.key``).
        """
        document = self.model_dump(mode="json", exclude_defaults=True, exclude={"data", "init"})
        if weights_sha256 is not None and self.model.weights not in ("none", "timm"):
            del document["model"]["weights"]
            document["model"]["weights_sha256"] = weights_sha256
        document["schema_version"] = self.schema_version
        document["data"] = {"data_digest": data_digest, "split_digest": split_digest, "fraction": self.data.fraction}
        return digest(document)


class StageObjective(StrictModel):
    """What tells the best epoch of a stage."""

    metric: str = Field(default="val/loss", description="Name of a validation metric that the stage reports.")
    direction: Literal["minimize", "maximize"] = Field(default="minimize", description="minimize or maximize.")


class StageConfig(StrictModel):
    """A training that comes before another one, which starts from the weights of its best epoch."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,29}$", description="What the stage is called.")
    objective: StageObjective = Field(default_factory=StageObjective, description="What tells its best epoch.")
    config: TrialConfig = Field(description="All that is trained, with an `init` of its own where it has one.")

    def key(self, *, data_digest: str, split_digest: str, weights_sha256: str | None) -> str:
        """Digest of what the stage trains and which of its epochs counts: equal stages are trained once.

        Args:
            data_digest: Digest of its packed data set.
            split_digest: Digest of its split.
            weights_sha256: SHA-256 of the file it starts from, or the key of the stage; None: neither.
        """
        config = self.config.digest(data_digest=data_digest, split_digest=split_digest, weights_sha256=weights_sha256)
        return digest({"config": config, "objective": self.objective.model_dump(mode="json")})


TrialConfig.model_rebuild()
