"""Backbones, their initial weights, and heads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from agr_core.config.base import DropoutRate, StrictModel, bare_name
from agr_core.registry import did_you_mean

Activation = Literal["relu", "leaky_relu", "tanh", "sigmoid"]
AttentionModules = Annotated[int, Field(ge=1, le=8)]


class FreezeConfig(StrictModel):
    """A number of the backbone's layers that are not trained; a layer is what has parameters of its own."""

    first: int | None = Field(default=None, ge=1, description="The first so many layers are frozen.")
    all_but_last: int | None = Field(default=None, ge=1, description="All layers but the last so many are frozen.")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.first is None) == (self.all_but_last is None):
            raise ValueError(
                f"first={self.first}, all_but_last={self.all_but_last}: give one of them, such as {{first: 31}}; null "
                "takes the other back where it was given before."
            )
        return self


def _freeze_kind(value: Any) -> str:
    return "number" if isinstance(value, Mapping | FreezeConfig) else "word"


FreezeRule = Annotated[
    Annotated[Literal["none", "backbone"], Tag("word")] | Annotated[FreezeConfig, Tag("number")],
    Discriminator(_freeze_kind),
]


class _Model(StrictModel):
    """What every model takes."""

    weights: str = Field(
        default="none",
        min_length=1,
        description="Initial weights: none (random), timm (timm's own pre-trained ones), a .safetensors file, "
        "s3://bucket/key of one, trial:<id>[@label], the weights that a trial kept, or init, those of the stage "
        "before it.",
    )
    weights_sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="SHA-256 that the file of weights must have, lower-case hex; null: not checked.",
    )
    weights_heads: Literal["drop", "keep", "as_shared"] = Field(
        default="drop",
        description="Heads in a checkpoint: drop leaves them, keep takes those that fit, as_shared makes the one "
        "head it has the layers of head.shared.",
    )

    freeze: FreezeRule = Field(
        default="none",
        description="Layers that are not trained: none, backbone (all but shared layers and heads), {first: N} or "
        "{all_but_last: N} of the backbone's layers that have parameters, in the order an image reaches them.",
    )

    @property
    def timm_name(self) -> str | None:
        """The model of timm whose weights ``weights: timm`` means; None: there is none."""
        return None

    @model_validator(mode="after")
    def _weights_can_be_had(self) -> Self:
        if self.weights == "timm" and self.timm_name is None:
            raise ValueError("weights=timm is for timm's models; timm has none of this one. Give a file or none.")
        if self.weights == "timm" and self.timm_name is not None and timm_weights(self.timm_name) is None:
            raise ValueError(
                f"weights=timm: timm has no weights of {self.timm_name!r}. Choose another model, a file, or none."
            )
        if self.weights in ("none", "timm"):
            for field in ("weights_sha256", "weights_heads"):
                if getattr(self, field) != type(self).model_fields[field].default:
                    raise ValueError(f"{field} is about a file of weights, and weights={self.weights}; leave it out.")
        elif self.weights == "init":
            if self.weights_sha256 is not None:
                raise ValueError("weights_sha256 is about a file of weights, and weights=init; leave it out.")
        elif not self.weights.startswith("trial:") and not self.weights.endswith(".safetensors"):
            raise ValueError(
                f"weights={self.weights!r} must be none, timm, a .safetensors file, s3://... of one, or "
                "trial:<id>[@label]. Other formats are converted first; docs/models.md shows how."
            )
        return self


class BasicCnnConfig(_Model):
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
    dropout_at: Literal["after_activation", "before_activation"] = Field(
        default="after_activation",
        description="Place of dropout and block_dropout: at the end of the hidden layer and of each block, or between "
        "the weights and the activation (S4-P8).",
    )

    @field_validator("kernel_size")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError(f"kernel_size={value} is even; it must be odd so that padding keeps the image size.")
        return value


class LeviHassnerConfig(_Model):
    """Levi and Hassner's CNN (2015) and report S1's reductions of it (S1-M1 to S1-M4)."""

    name: Literal["levi_hassner"]
    variant: Literal["s1", "paper"] = Field(
        default="s1",
        description="s1: report S1's code (leaky ReLU, pooling of stride 1, third convolution of stride 4); paper: "
        "Levi and Hassner's own (ReLU, pooling of stride 2).",
    )
    conv_layers: int = Field(default=3, ge=1, le=3, description="Convolution blocks: the first so many of three.")
    fc_layers: int = Field(default=2, ge=1, le=2, description="Hidden fully connected layers of 512 neurons.")
    dropout: DropoutRate = Field(default=0.5, description="Dropout after each hidden layer.")


class InceptionResnetV1Config(_Model):
    """FaceNet's Inception-ResNet-v1 (S4-V17): 512 features, weights named as facenet-pytorch names them."""

    name: Literal["inception_resnet_v1"]
    dropout: DropoutRate = Field(default=0.6, description="Dropout after the global pooling.")


class ResidualAttentionConfig(_Model):
    """Residual attention network (Wang et al. 2017; S4-V18), 2048 features."""

    name: Literal["residual_attention"]
    attention_modules: tuple[AttentionModules, AttentionModules, AttentionModules] = Field(
        default=(1, 2, 3), description="Attention modules in each stage; (1, 2, 3) is Attention-92, (1, 1, 1) is 56."
    )


class MobilenetTransformerConfig(_Model):
    """MobileNet's feature map as tokens of a Transformer encoder, then a global maximum (S2-M6)."""

    name: Literal["mobilenet_transformer"]
    depth: int = Field(default=1, ge=1, le=24, description="Encoder layers.")
    heads: int = Field(default=8, ge=1, le=64, description="Attention heads; they divide the 1024 features.")
    feedforward: int = Field(default=1024, ge=1, le=8192, description="Neurons of each layer's feed-forward network.")
    dropout: DropoutRate = Field(default=0.1, description="Dropout in the encoder.")

    @property
    def timm_name(self) -> str:
        """MobileNet's name."""
        return "mobilenetv1_100"

    @field_validator("heads")
    @classmethod
    def _divide(cls, value: int) -> int:
        if 1024 % value:
            raise ValueError(f"heads={value} does not divide MobileNet's 1024 features; choose 1, 2, 4, 8, ... 64.")
        return value


class TimmConfig(_Model):
    """Any timm backbone by its name, with global pooling."""

    name: str = Field(description="A timm model name, such as resnet18 or efficientnetv2_s.")
    drop_path: DropoutRate = Field(default=0.0, description="Stochastic depth rate, where the backbone has it.")
    pool: Literal["default", "avg", "max", "avgmax"] = Field(default="default", description="Global pooling.")
    fully_connected: bool = Field(
        default=True,
        description="false: without the hidden fully connected layers that VGG has before its classifier, so that "
        "the last feature map is pooled (Keras: include_top=False).",
    )
    squeeze_excitation: bool = Field(
        default=False, description="A squeeze-and-excitation block after the last feature map (S1-M10)."
    )

    @property
    def timm_name(self) -> str:
        """The model itself."""
        return self.name

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


OWN_BACKBONE_NAMES: tuple[str, ...] = (
    "basic_cnn",
    "levi_hassner",
    "inception_resnet_v1",
    "residual_attention",
    "mobilenet_transformer",
)
OWN_MODELS: tuple[str, ...] = (*OWN_BACKBONE_NAMES, "cascade")


def timm_names() -> frozenset[str]:
    """Names of timm's models, without tags."""
    return frozenset(_timm_tags())


def timm_weights(name: str) -> str | None:
    """The full name of timm's weights of a model, such as ``resnet18.a1_in1k``; None where it has none."""
    architecture, _, tag = name.partition(".")
    tag = tag or _timm_tags()[architecture]
    return f"{architecture}.{tag}" if tag else None


@lru_cache(maxsize=1)
def _timm_tags() -> dict[str, str]:
    """By model the tag of its default weights, or nothing; from a shipped list, so that a check imports no timm."""
    text = resources.files("agr_core.models").joinpath("timm_names.txt").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return {name: tag for name, _, tag in (line.partition(" ") for line in lines)}


def _model_kind(value: Any) -> str:
    name = value.get("name") if isinstance(value, Mapping) else getattr(value, "name", None)
    return name if name in OWN_MODELS else "timm"


def _no_cascade(value: Any) -> Any:
    if _model_kind(value) == "cascade":
        raise ValueError("a cascade is made of plain models: give base another name than cascade.")
    return value


_Backbones = (
    Annotated[BasicCnnConfig, Tag("basic_cnn")]
    | Annotated[LeviHassnerConfig, Tag("levi_hassner")]
    | Annotated[InceptionResnetV1Config, Tag("inception_resnet_v1")]
    | Annotated[ResidualAttentionConfig, Tag("residual_attention")]
    | Annotated[MobilenetTransformerConfig, Tag("mobilenet_transformer")]
    | Annotated[TimmConfig, Tag("timm")]
)

BackboneConfig = Annotated[
    Annotated[_Backbones, Discriminator(_model_kind)],
    BeforeValidator(_no_cascade),
    BeforeValidator(bare_name),
]


class CascadeConfig(_Model):
    """A network that tells the group, and one for each group that tells the rest (S0-R9, S4-V15, S4-V16)."""

    SHARED: ClassVar[tuple[str, ...]] = ("weights", "weights_sha256", "weights_heads", "freeze")
    """Fields that are given once and hold for every network."""

    name: Literal["cascade"]
    by: Literal["gender", "race"] = Field(default="gender", description="What the groups are; one of `tasks`.")
    base: BackboneConfig = Field(
        default=BasicCnnConfig(name="basic_cnn"), description="The backbone that each of the networks has one of."
    )

    @property
    def timm_name(self) -> str | None:
        """That of the backbone."""
        return self.base.timm_name

    @field_validator("base")
    @classmethod
    def _shared_fields_once(cls, value: BackboneConfig) -> BackboneConfig:
        given = [name for name in cls.SHARED if getattr(value, name) != type(value).model_fields[name].default]
        if given:
            raise ValueError(f"{given[0]} holds for every network of a cascade: give it as model.{given[0]}.")
        return value


ModelConfig = Annotated[
    Annotated[_Backbones | Annotated[CascadeConfig, Tag("cascade")], Discriminator(_model_kind)],
    BeforeValidator(bare_name),
]


class HeadConfig(StrictModel):
    """What stands between the backbone and each task's outputs: layers shared by all tasks, then each task's own."""

    shared: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = Field(
        default=(), max_length=4, description="Widths of the layers that all tasks share; empty: none."
    )
    shared_batch_norm: bool = Field(
        default=False,
        description="Batch normalisation before each shared activation; without shared layers, of the "
        "backbone's features.",
    )
    shared_dropout: DropoutRate = Field(
        default=0.0, description="Dropout after each shared layer; without shared layers, of the backbone's features."
    )
    hidden: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = Field(
        default=(), max_length=4, description="Widths of each task's hidden layers; empty: one linear layer."
    )
    activation: Activation = Field(default="relu", description="Activation after each hidden layer.")
    batch_norm: bool = Field(default=False, description="Batch normalisation before each hidden activation.")
    dropout: DropoutRate = Field(default=0.0, description="Dropout before each linear layer.")
