"""TrialConfig: everything that fixes what one trial trains, closed and frozen.

A field added later has a default that means "as before", and the digest leaves defaults out (``TrialConfig.digest``),
so a new field leaves the digest of every older configuration as it was. Changing what a default *means* needs a new
``schema_version``.

Where a part has a ``name``, the bare word stands for it: ``optimizer: adam`` is ``optimizer: {name: adam}``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from agr_core.identity import digest
from agr_core.labels.bins import SCHEMES, BinsSpec, check_bins
from agr_core.registry import did_you_mean

Task = Literal["age", "gender", "race"]
Probability = Annotated[float, Field(ge=0, le=1)]
DropoutRate = Annotated[float, Field(ge=0, lt=1)]


class StrictModel(BaseModel):
    """Base of every config: unknown keys, silent coercion, NaN and later mutation are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _bare_name(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, Mapping):
        # What a before-validator returns is validated as Python, no longer as JSON, and strict tuples refuse lists.
        return {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
    return value


# --------------------------------------------------------------------------------------------------------------------
# Data


class SyntheticConfig(StrictModel):
    """The drawn faces that ``source: synthetic`` stands for."""

    images: int = Field(default=4000, ge=10, description="Number of faces drawn.")
    size: int = Field(default=64, ge=16, le=512, description="Height and width of each drawn face, pixels.")
    seed: int = Field(default=0, ge=0, description="Seed of the drawing; it fixes every pixel.")


class SplitConfig(StrictModel):
    """How the data set is cut into train, val and test; byte-identical images always fall on one side."""

    strategy: Literal["stratified", "random"] = Field(
        default="stratified", description="stratified keeps the shares of the classes in `by` alike in all parts."
    )
    by: tuple[Task, ...] = Field(
        default=("age",), min_length=1, description="Labels whose joint classes are kept alike (stratified only)."
    )
    fractions: tuple[Probability, Probability, Probability] = Field(
        default=(0.8, 0.1, 0.1), description="Shares of train, val and test; they add up to 1."
    )
    seed: int = Field(default=42, ge=0, description="Seed of the cut; independent of the trial's seed.")

    @model_validator(mode="after")
    def _fractions_add_up(self) -> Self:
        total = sum(self.fractions)
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"fractions={list(self.fractions)} add up to {total:g}; they must add up to 1.")
        if self.fractions[0] <= 0 or self.fractions[1] <= 0:
            raise ValueError(f"fractions={list(self.fractions)} leave train or val empty; both need a share above 0.")
        return self


class DataConfig(StrictModel):
    """Which images a trial trains on and how they are split."""

    source: str = Field(
        default="synthetic",
        min_length=1,
        description="synthetic, a raw folder or archive, a packed folder, or s3://bucket/prefix of a packed data set.",
    )
    synthetic: SyntheticConfig = Field(
        default_factory=SyntheticConfig, description="What `source: synthetic` draws; unused otherwise."
    )
    fraction: float = Field(
        default=1.0, gt=0, le=1, description="Share of the training part that is trained on, drawn by split.seed."
    )
    split: SplitConfig = Field(default_factory=SplitConfig, description="How train, val and test are cut.")


class ImageConfig(StrictModel):
    """What the model sees of an image."""

    size: int = Field(default=224, ge=16, le=1024, description="Height and width given to the model, pixels.")
    color: Literal["rgb", "grey"] = Field(default="rgb", description="Three channels, or one of luminance.")
    normalize: Literal["none", "zero_one", "minus_one_one", "imagenet"] = Field(
        default="imagenet",
        description="none: 0..255; zero_one: 0..1; minus_one_one: -1..1; imagenet: ImageNet mean and deviation.",
    )
    cache: Literal["auto", "decoded", "jpeg"] = Field(
        default="auto",
        description="Keep decoded pixels in a memory map shared by the node, or decode at each use; auto: if it fits.",
    )


# --------------------------------------------------------------------------------------------------------------------
# Augmentation: applied to uint8 training images by albumentations


class NoAugment(StrictModel):
    """Training images as they are."""

    name: Literal["none"]


class LightAugment(StrictModel):
    """Flip, small shift / scale / rotation, brightness and contrast (report S0, S0-T7)."""

    name: Literal["light"]
    flip: Probability = Field(default=0.5, description="Probability of a horizontal flip.")
    shift: Probability = Field(default=0.03125, description="Largest shift, share of the side.")
    scale: Probability = Field(default=0.2, description="Largest relative change of scale.")
    rotate: float = Field(default=20.0, ge=0, le=180, description="Largest rotation, degrees.")
    affine_p: Probability = Field(default=1.0, description="Probability of the shift, scale and rotation.")
    brightness: Probability = Field(default=0.2, description="Largest relative change of brightness.")
    contrast: Probability = Field(default=0.2, description="Largest relative change of contrast.")
    light_p: Probability = Field(default=0.5, description="Probability of the brightness and contrast change.")


class AgecnnAugment(StrictModel):
    """Report S4's training transforms (S4-D5): shift/scale/rotate, crop, blur, brightness/contrast, each with p 0.5."""

    name: Literal["agecnn"]
    p: Probability = Field(default=0.5, description="Probability of each transform.")
    shift: Probability = Field(default=0.05, description="Largest shift, share of the side.")
    scale: Probability = Field(default=0.05, description="Largest relative change of scale.")
    rotate: float = Field(default=15.0, ge=0, le=180, description="Largest rotation, degrees.")
    blur_sigma: float = Field(default=9.0, gt=0, description="Largest deviation of the Gaussian blur, pixels at 224.")
    brightness: Probability = Field(default=0.2, description="Largest relative change of brightness.")
    contrast: Probability = Field(default=0.2, description="Largest relative change of contrast.")


AugmentConfig = Annotated[
    Annotated[NoAugment | LightAugment | AgecnnAugment, Field(discriminator="name")], BeforeValidator(_bare_name)
]


# --------------------------------------------------------------------------------------------------------------------
# Sampler


class ShuffleSampler(StrictModel):
    """Every training image once an epoch, in a new order each epoch."""

    name: Literal["shuffle"]


class WeightedSampler(StrictModel):
    """Images drawn with replacement, weight 1 / (count of the image's class), as many as there are (S4-W1)."""

    name: Literal["weighted"]
    by: Task = Field(default="age", description="Label whose classes are drawn equally often.")
    bins: BinsSpec | None = Field(
        default=None,
        description="Age scheme of the classes when `by: age`; default: the trial's own bins, else utk7.",
    )

    @field_validator("bins")
    @classmethod
    def _known_bins(cls, value: BinsSpec | None) -> BinsSpec | None:
        return None if value is None else check_bins(value)

    @model_validator(mode="after")
    def _bins_are_for_ages(self) -> Self:
        if self.bins is not None and self.by != "age":
            raise ValueError(f"bins with by={self.by}: age bins mean something with `by: age` only; leave them out.")
        return self


SamplerConfig = Annotated[
    Annotated[ShuffleSampler | WeightedSampler, Field(discriminator="name")], BeforeValidator(_bare_name)
]


# --------------------------------------------------------------------------------------------------------------------
# Model

Activation = Literal["relu", "leaky_relu", "tanh", "sigmoid"]


class BasicCnnConfig(StrictModel):
    """Report S4's CNN (S4-N1): blocks of conv, activation, batch norm, max pool 2; flatten, hidden layer, dropout."""

    name: Literal["basic_cnn"]
    conv_layers: int = Field(default=4, ge=1, le=5, description="Number of convolution blocks.")
    base_features: int = Field(default=64, ge=1, le=512, description="Channels of block 1; they double each block.")
    kernel_size: int = Field(default=3, ge=1, le=11, description="Side of each convolution kernel, odd, pixels.")
    hidden: int = Field(default=132, ge=1, le=8192, description="Neurons of the fully connected layer.")
    activation: Activation = Field(
        default="relu", description="Activation after each convolution and the hidden layer."
    )
    batch_norm: bool = Field(default=True, description="Batch normalisation after each convolution's activation.")
    input_batch_norm: bool = Field(default=False, description="Batch normalisation of the input channels.")
    dropout: DropoutRate = Field(default=0.6, description="Dropout after the hidden layer (V11: 0.6).")
    block_dropout: DropoutRate = Field(default=0.0, description="Dropout after each convolution block.")
    input_dropout: DropoutRate = Field(default=0.0, description="Dropout of the input.")

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"kernel_size={value} is even; it must be odd so that padding keeps the image size.")
        return value


class TimmConfig(StrictModel):
    """Any timm backbone by its name, with global pooling."""

    name: str = Field(description="A timm model name, such as resnet18 or efficientnetv2_s.")
    weights: str = Field(
        default="none",
        min_length=1,
        description="none (random), timm (timm's own pre-trained weights), or a .safetensors file.",
    )
    drop_path: DropoutRate = Field(default=0.0, description="Stochastic depth rate, where the backbone has it.")
    pool: Literal["default", "avg", "max", "avgmax"] = Field(default="default", description="Global pooling.")

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        if value.split(".", 1)[0] not in timm_names():
            known = (*OWN_MODELS, *timm_names())
            raise ValueError(
                f"unknown model {value!r}.{did_you_mean(value, known)} "
                f"Known: {', '.join(OWN_MODELS)} and the names of timm."
            )
        return value


OWN_MODELS: tuple[str, ...] = ("basic_cnn",)


@lru_cache(maxsize=1)
def timm_names() -> frozenset[str]:
    """Names of timm's models, from the shipped list, so that checking a sweep file need not import timm."""
    text = resources.files("agr_core.models").joinpath("timm_names.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if line and not line.startswith("#"))


def _model_kind(value: Any) -> str:
    name = value.get("name") if isinstance(value, Mapping) else getattr(value, "name", None)
    return name if name in OWN_MODELS else "timm"


ModelConfig = Annotated[
    Annotated[
        Annotated[BasicCnnConfig, Tag("basic_cnn")] | Annotated[TimmConfig, Tag("timm")], Discriminator(_model_kind)
    ],
    BeforeValidator(_bare_name),
]


class HeadConfig(StrictModel):
    """What stands between the shared features and each task's outputs; each task has its own."""

    hidden: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = Field(
        default=(), max_length=4, description="Widths of the hidden layers; empty: one linear layer."
    )
    activation: Activation = Field(default="relu", description="Activation after each hidden layer.")
    batch_norm: bool = Field(default=False, description="Batch normalisation before each hidden activation.")
    dropout: DropoutRate = Field(default=0.0, description="Dropout before each linear layer.")


# --------------------------------------------------------------------------------------------------------------------
# Age encoding

_BINS_DESCRIPTION = f"A scheme ({', '.join(sorted(SCHEMES))}) or the lowest age of each bin, such as [0, 13, 20, 60]."


class _BinnedAge(StrictModel):
    bins: BinsSpec = Field(default="utk7", description=_BINS_DESCRIPTION)

    @field_validator("bins")
    @classmethod
    def _known_bins(cls, value: BinsSpec) -> BinsSpec:
        return check_bins(value)


class RegressionAge(StrictModel):
    """One output, (age - center) / scale; decoded to years, clipped to 0..116 (the ages faces have).

    The defaults are near the mean and deviation of the reports' data sets, so that the loss is on the scale of a
    cross-entropy and an untrained output is an average age.
    """

    encoding: Literal["regression"]
    loss: Literal["l1", "mse", "smooth_l1"] = Field(default="l1", description="Distance that is minimised.")
    center: float = Field(default=35.0, ge=0, le=116, description="Age of an output of 0, years.")
    scale: float = Field(default=20.0, gt=0, le=1000, description="Years that one unit of the output stands for.")


class OnehotAge(_BinnedAge):
    """One softmax class a bin, cross-entropy; decoded to the expected age, or to the likeliest bin's centre."""

    encoding: Literal["onehot"]
    decode: Literal["expectation", "argmax"] = Field(default="expectation", description="How years are read off.")


class OrdinalAge(_BinnedAge):
    """K - 1 binary outputs "older than bin k" (Niu et al. 2016, OR-CNN)."""

    encoding: Literal["ordinal"]


class LabelDistributionAge(_BinnedAge):
    """Softmax against a Gaussian around the true age, KL divergence (Geng et al. 2013; Gao et al. 2017, DLDL)."""

    encoding: Literal["label_distribution"]
    sigma: float = Field(default=2.0, gt=0, le=30, description="Deviation of the target distribution, years.")
    decode: Literal["expectation", "argmax"] = Field(default="expectation", description="How years are read off.")


AgeConfig = Annotated[
    RegressionAge | OnehotAge | OrdinalAge | LabelDistributionAge,
    Field(discriminator="encoding"),
]


# --------------------------------------------------------------------------------------------------------------------
# Loss

LossWeight = Annotated[float, Field(ge=0)]


class LossWeights(StrictModel):
    """Factor of each task's loss in the sum."""

    age: LossWeight = Field(default=1.0, description="Factor of the age loss.")
    gender: LossWeight = Field(default=1.0, description="Factor of the gender loss.")
    race: LossWeight = Field(default=1.0, description="Factor of the race loss.")


class LossConfig(StrictModel):
    """The weighted sum of the tasks' losses."""

    weights: LossWeights = Field(default_factory=LossWeights, description="Factor of each task's loss.")
    label_smoothing: DropoutRate = Field(
        default=0.0, description="Mass moved from the true class to all classes, in every softmax loss."
    )


# --------------------------------------------------------------------------------------------------------------------
# Optimizers (S4-P1); arguments and defaults are torch's unless said


class _Optimizer(StrictModel):
    lr: float = Field(default=1e-3, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(default=0.0, ge=0, description="Weight decay, in the optimizer's own form.")


_Beta = Annotated[float, Field(ge=0, lt=1)]
_Betas = tuple[_Beta, _Beta]


class SgdConfig(_Optimizer):
    """Stochastic gradient descent; with momentum; with Nesterov's."""

    name: Literal["sgd"]
    momentum: _Beta = Field(default=0.0, description="Momentum.")
    dampening: float = Field(default=0.0, ge=0, description="Dampening of the momentum.")
    nesterov: bool = Field(default=False, description="Nesterov's momentum; needs momentum above 0, dampening 0.")

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and (self.momentum <= 0 or self.dampening != 0):
            raise ValueError(
                f"nesterov with momentum={self.momentum:g}, dampening={self.dampening:g}: "
                "set momentum above 0 and dampening to 0."
            )
        return self


class RmspropConfig(_Optimizer):
    """RMSprop (Tieleman and Hinton 2012)."""

    name: Literal["rmsprop"]
    alpha: _Beta = Field(default=0.99, description="Smoothing of the squared gradient.")
    eps: float = Field(default=1e-8, gt=0, description="Term added to the denominator.")
    momentum: float = Field(default=0.0, ge=0, description="Momentum.")
    centered: bool = Field(default=False, description="Normalise by the estimated variance.")


class _AdamLike(_Optimizer):
    betas: _Betas = Field(default=(0.9, 0.999), description="Decay of the two moment averages.")
    eps: float = Field(default=1e-8, gt=0, description="Term added to the denominator.")


class AdamConfig(_AdamLike):
    """Adam (Kingma and Ba 2015)."""

    name: Literal["adam"]
    amsgrad: bool = Field(default=False, description="The AMSGrad variant.")


class AdamwConfig(_AdamLike):
    """AdamW: decoupled weight decay (Loshchilov and Hutter 2019)."""

    name: Literal["adamw"]
    weight_decay: float = Field(default=0.01, ge=0, description="Decoupled weight decay.")
    amsgrad: bool = Field(default=False, description="The AMSGrad variant.")


class NadamConfig(_AdamLike):
    """NAdam (Dozat 2016), with coupled weight decay."""

    name: Literal["nadam"]
    momentum_decay: float = Field(default=4e-3, ge=0, description="Decay of the momentum.")


class AdamaxConfig(_AdamLike):
    """Adamax (Kingma and Ba 2015)."""

    name: Literal["adamax"]
    lr: float = Field(default=2e-3, gt=0, description="Peak learning rate.")


class AdadeltaConfig(_Optimizer):
    """Adadelta (Zeiler 2012)."""

    name: Literal["adadelta"]
    lr: float = Field(default=1.0, gt=0, description="Peak learning rate.")
    rho: _Beta = Field(default=0.9, description="Decay of the squared gradient average.")
    eps: float = Field(default=1e-6, gt=0, description="Term added to the denominator.")


OptimizerConfig = Annotated[
    Annotated[
        SgdConfig | RmspropConfig | AdamConfig | AdamwConfig | NadamConfig | AdamaxConfig | AdadeltaConfig,
        Field(discriminator="name"),
    ],
    BeforeValidator(_bare_name),
]


# --------------------------------------------------------------------------------------------------------------------
# Learning-rate schedules


class _Schedule(StrictModel):
    epochs: int = Field(default=10, ge=1, le=100_000, description="Passes over the training part.")


class ConstantSchedule(_Schedule):
    """The peak learning rate throughout."""

    name: Literal["constant"]


class _Warmup(_Schedule):
    warmup_epochs: int = Field(default=0, ge=0, description="Epochs of linear warm-up from 0 to the peak.")

    @model_validator(mode="after")
    def _warmup_leaves_room(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs={self.warmup_epochs} must be below epochs={self.epochs}.")
        return self


class CosineSchedule(_Warmup):
    """Linear warm-up, then a half cosine down to ``final_ratio`` of the peak, per step."""

    name: Literal["cosine"]
    final_ratio: Probability = Field(default=0.0, description="Last learning rate, as a share of the peak.")


class StepSchedule(_Schedule):
    """The rate is multiplied by ``gamma`` at each milestone, or after every ``every`` epochs."""

    name: Literal["step"]
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), description="Finished epochs after which the rate falls, ascending."
    )
    every: int | None = Field(
        default=None, ge=1, description="Instead of milestones: the rate falls every so many epochs."
    )
    gamma: float = Field(default=0.1, gt=0, le=1, description="Factor at each fall.")

    @model_validator(mode="after")
    def _milestones_are_reached(self) -> Self:
        if bool(self.milestones) == (self.every is not None):
            raise ValueError("step needs exactly one of milestones and every.")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones={list(self.milestones)} must ascend without repeats.")
        dead = [m for m in (*self.milestones, self.every or 0) if m >= self.epochs]
        if dead:
            raise ValueError(f"milestone {dead[0]} is never reached in epochs={self.epochs}: lower it or train longer.")
        return self


class PlateauSchedule(_Schedule):
    """The rate falls by ``factor`` when the metric has not improved for more than ``patience`` epochs."""

    name: Literal["plateau"]
    metric: str = Field(
        default="val/loss", description="Metric that is watched, lower is better unless `direction` says."
    )
    direction: Literal["minimize", "maximize"] = Field(default="minimize", description="Which way is better.")
    factor: float = Field(default=0.1, gt=0, lt=1, description="Factor at each fall.")
    patience: int = Field(default=10, ge=0, description="Epochs without improvement that are tolerated.")
    threshold: float = Field(default=1e-4, ge=0, description="Relative improvement that counts.")
    min_lr: float = Field(default=0.0, ge=0, description="Lowest learning rate.")


class OneCycleSchedule(_Schedule):
    """One-cycle policy (Smith and Topin 2018) as in torch's OneCycleLR, per step, without momentum cycling."""

    name: Literal["one_cycle"]
    pct_start: float = Field(default=0.3, gt=0, lt=1, description="Share of the steps that climb.")
    div_factor: float = Field(default=25.0, ge=1, description="Peak rate over first rate.")
    final_div_factor: float = Field(default=1e4, ge=1, description="First rate over last rate.")


ScheduleConfig = Annotated[
    Annotated[
        ConstantSchedule | CosineSchedule | StepSchedule | PlateauSchedule | OneCycleSchedule,
        Field(discriminator="name"),
    ],
    BeforeValidator(_bare_name),
]


class EarlyStoppingConfig(StrictModel):
    """Stop when the metric has not improved for ``patience`` epochs."""

    metric: str = Field(default="val/loss", description="Metric that is watched.")
    direction: Literal["minimize", "maximize"] = Field(default="minimize", description="Which way is better.")
    patience: int = Field(default=5, ge=1, description="Epochs without improvement after which training stops.")
    min_delta: float = Field(default=0.0, ge=0, description="Smallest change that counts as an improvement.")


class ComputeConfig(StrictModel):
    """How the arithmetic is done; part of the configuration because it changes the bits."""

    threads: int = Field(
        default=1, ge=1, le=256, description="CPU threads of torch; default: resources.cpus of the sweep."
    )
    amp: Literal["none", "bf16", "fp16"] = Field(default="none", description="Automatic mixed precision.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="auto: a GPU where the trial was given one."
    )


# --------------------------------------------------------------------------------------------------------------------


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
    sampler: SamplerConfig = Field(default=ShuffleSampler(name="shuffle"), description="How training images are drawn.")
    batch_size: int = Field(default=64, ge=1, le=65_536, description="Images per optimizer step.")
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
    compute: ComputeConfig = Field(default_factory=ComputeConfig, description="Threads, precision, device.")

    @field_validator("tasks")
    @classmethod
    def _tasks_once(cls, value: tuple[Task, ...]) -> tuple[Task, ...]:
        if len(set(value)) != len(value):
            raise ValueError(f"tasks={list(value)} names a task twice.")
        return value

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if all(getattr(self.loss.weights, task) == 0 for task in self.tasks):
            raise ValueError(f"loss.weights are 0 for every task of {list(self.tasks)}; give one a weight above 0.")
        if isinstance(self.model, BasicCnnConfig) and self.image.size >> self.model.conv_layers < 1:
            raise ValueError(
                f"image.size={self.image.size} is too small for model.conv_layers={self.model.conv_layers}: "
                "each layer halves the image."
            )
        return self

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

    def digest(self, *, data_digest: str, split_digest: str) -> str:
        """Digest of what is trained: this configuration, with the data and split by content instead of by address.

        Fields at their defaults do not take part (see the module's first words). ``schema_version`` always does.
        """
        document = self.model_dump(mode="json", exclude_defaults=True, exclude={"data"})
        document["schema_version"] = self.schema_version
        document["data"] = {"data_digest": data_digest, "split_digest": split_digest, "fraction": self.data.fraction}
        return digest(document)
