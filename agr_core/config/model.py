"""Backbones, initial weights and heads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from agr_core import plugins
from agr_core.config.base import DropoutRate, StrictModel, bare_name
from agr_core.config.extension import Extension, Member, tag_of
from agr_core.config.timm_list import current_timm_name, timm_list, timm_names, timm_weights
from agr_core.registry import did_you_mean

if TYPE_CHECKING:
    from torch import nn

Activation = Literal["relu", "leaky_relu", "tanh", "sigmoid"]
AttentionModules = Annotated[int, Field(ge=1, le=8)]


class FreezeConfig(StrictModel):
    """Number of backbone layers to freeze; a layer is a module with parameters of its own."""

    first: int | None = Field(default=None, ge=1, description="Number of first layers to freeze.")
    all_but_last: int | None = Field(
        default=None, ge=1, description="Number of last layers to leave trainable; all others are frozen."
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.first is None) == (self.all_but_last is None):
            raise ValueError(
                f"first={self.first}, all_but_last={self.all_but_last}: give one of them, such as {{first: 31}}; null "
                "removes the other if a lower layer gives it."
            )
        return self


def _freeze_kind(value: Any) -> str:
    return "number" if isinstance(value, Mapping | FreezeConfig) else "word"


FreezeRule = Annotated[
    Annotated[Literal["none", "backbone"], Tag("word")] | Annotated[FreezeConfig, Tag("number")],
    Discriminator(_freeze_kind),
]


class _Model(StrictModel):
    """Fields of every model."""

    weights: str = Field(
        default="none",
        min_length=1,
        description="Initial weights: none (random), timm (timm's pretrained weights), a .safetensors file, "
        "s3://bucket/key of such a file, trial:<id>[@label] (weights kept by a trial), or init (weights of the "
        "preceding stage).",
    )
    weights_sha256: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description="Required SHA-256 of the weights file, lower-case hex; null: not checked.",
    )
    weights_heads: Literal["drop", "keep", "as_shared"] = Field(
        default="drop",
        description="Use of heads in a checkpoint: drop ignores them, keep loads those that fit, as_shared loads its "
        "only head into the layers of head.shared.",
    )

    freeze: FreezeRule = Field(
        default="none",
        description="Frozen layers: none, backbone (all but shared layers and heads), or {first: N} or "
        "{all_but_last: N} of the backbone's layers with parameters, in the order of the forward pass.",
    )

    @property
    def timm_name(self) -> str | None:
        """The timm model whose weights ``weights: timm`` selects; None if there is none."""
        return None

    @model_validator(mode="after")
    def _weights_can_be_had(self) -> Self:
        if self.weights == "timm" and self.timm_name is None:
            raise ValueError("weights=timm: timm has no weights of this model. Give a file or none.")
        if self.weights == "timm" and self.timm_name is not None and timm_weights(self.timm_name) is None:
            raise ValueError(
                f"weights=timm: timm has no weights of {self.timm_name!r}. Choose another model, a file, or none."
            )
        if self.weights in ("none", "timm"):
            for field in ("weights_sha256", "weights_heads"):
                if getattr(self, field) != type(self).model_fields[field].default:
                    raise ValueError(
                        f"{field} applies to a file of weights only, but weights={self.weights}; leave it out."
                    )
        elif self.weights == "init":
            if self.weights_sha256 is not None:
                raise ValueError("weights_sha256 applies to a file of weights only, but weights=init; leave it out.")
        elif not self.weights.startswith("trial:") and not self.weights.endswith(".safetensors"):
            raise ValueError(
                f"weights={self.weights!r} must be none, timm, a .safetensors file, s3://... of one, or "
                "trial:<id>[@label]. Other formats are converted first; docs/models.md shows how."
            )
        return self


class PluginBackbone(_Model, ABC):
    """Base of backbones in other packages, found by the entry points ``agr.backbones``.

    A subclass declares ``name: Literal["..."]``, the name of its entry point, and its own options. Its module is
    imported when a sweep file is checked, so it imports torch only in ``build``.
    """

    name: str

    @abstractmethod
    def build(self, *, in_channels: int, image_size: int) -> nn.Module:
        """Return a module that maps images (B, C, S, S) float32 to features (B, F).

        Its weights are drawn from torch's global generator, which is seeded with the trial's seed. It is also called
        under ``torch.device("meta")``, where tensors have no values.

        Args:
            in_channels: C, 3 or 1.
            image_size: S, in pixels.
        """


class BasicCnnConfig(_Model):
    """CNN of report S4 (S4-N1): blocks of conv, activation, batch norm, max pool 2; flatten, hidden layer, dropout."""

    name: Literal["basic_cnn"]
    conv_layers: int = Field(default=4, ge=1, le=5, description="Number of convolution blocks.")
    base_features: int = Field(
        default=64, ge=1, le=512, description="Channels of block 1; each further block doubles them."
    )
    kernel_size: int = Field(default=3, ge=1, le=11, description="Side of each convolution kernel, in pixels, odd.")
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
        description="Position of dropout and block_dropout: at the end of the hidden layer and of each block, or "
        "between the weights and the activation (S4-P8).",
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
        description="s1: as in report S1's code (leaky ReLU, pooling of stride 1, third convolution of stride 4); "
        "paper: as in Levi and Hassner's paper (ReLU, pooling of stride 2).",
    )
    conv_layers: int = Field(
        default=3, ge=1, le=3, description="Number of convolution blocks, the first ones of three."
    )
    fc_layers: int = Field(default=2, ge=1, le=2, description="Number of hidden fully connected layers of 512 neurons.")
    dropout: DropoutRate = Field(default=0.5, description="Dropout after each hidden layer.")


class InceptionResnetV1Config(_Model):
    """FaceNet's Inception-ResNet-v1 (S4-V17): 512 features, weights with facenet-pytorch's names."""

    name: Literal["inception_resnet_v1"]
    dropout: DropoutRate = Field(default=0.6, description="Dropout after the global pooling.")


class ResidualAttentionConfig(_Model):
    """Residual attention network (Wang et al. 2017; S4-V18), 2048 features."""

    name: Literal["residual_attention"]
    attention_modules: tuple[AttentionModules, AttentionModules, AttentionModules] = Field(
        default=(1, 2, 3),
        description="Number of attention modules per stage; (1, 2, 3) is Attention-92, (1, 1, 1) is Attention-56.",
    )


class MobilenetTransformerConfig(_Model):
    """MobileNet's feature map as tokens of a Transformer encoder, then a global maximum (S2-M6)."""

    name: Literal["mobilenet_transformer"]
    depth: int = Field(default=1, ge=1, le=24, description="Number of encoder layers.")
    heads: int = Field(default=8, ge=1, le=64, description="Number of attention heads; a divisor of the 1024 features.")
    feedforward: int = Field(default=1024, ge=1, le=8192, description="Neurons of each layer's feed-forward network.")
    dropout: DropoutRate = Field(default=0.1, description="Dropout in the encoder.")

    @property
    def timm_name(self) -> str:
        """MobileNet's name in timm."""
        return "mobilenetv1_100"

    @field_validator("heads")
    @classmethod
    def _divide(cls, value: int) -> int:
        if 1024 % value:
            raise ValueError(f"heads={value} does not divide MobileNet's 1024 features; choose 1, 2, 4, 8, ... 64.")
        return value


class TimmConfig(_Model):
    """Any timm backbone by name, with global pooling."""

    name: str = Field(description="A timm model name, such as resnet18 or efficientnetv2_s.")
    drop_path: DropoutRate = Field(default=0.0, description="Stochastic depth rate, if the backbone supports it.")
    pool: Literal["default", "avg", "max", "avgmax"] = Field(default="default", description="Global pooling.")
    fully_connected: bool = Field(
        default=True,
        description="false: omit VGG's hidden fully connected layers before the classifier and pool the last feature "
        "map (Keras: include_top=False).",
    )
    pad_type: Literal["default", "same"] = Field(
        default="default",
        description="Padding of convolutions, where the backbone has the choice (MobileNet, EfficientNet): same pads "
        "as TensorFlow does, for weights that come from there.",
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
        current = current_timm_name(value)
        architecture, dot, tag = current.partition(".")
        if architecture not in timm_names():
            own = (*OWN_MODELS, *plugins.names(plugins.BACKBONES))
            known = (*own, *timm_names(), *timm_list().renamed)
            raise ValueError(
                f"unknown model {value!r}.{did_you_mean(value, known)} Known: {', '.join(own)} and the names of timm."
            )
        tags = timm_list().tags[architecture]
        if dot and tag not in tags:
            shown = f"Tags of it: {', '.join(tags)}." if tags else f"It has none: write {architecture}."
            near = did_you_mean(current, [f"{architecture}.{tag}" for tag in tags])
            raise ValueError(f"timm has no weights {current!r}.{near} {shown}")
        return current


OWN_BACKBONE_NAMES: tuple[str, ...] = (
    "basic_cnn",
    "levi_hassner",
    "inception_resnet_v1",
    "residual_attention",
    "mobilenet_transformer",
)
OWN_MODELS: tuple[str, ...] = (*OWN_BACKBONE_NAMES, "cascade")


def _model_kind(value: Any) -> str:
    name = value.get("name") if isinstance(value, Mapping) else getattr(value, "name", None)
    return name if name in OWN_MODELS else "timm"


def _no_cascade(value: Any) -> Any:
    if _model_kind(value) == "cascade":
        raise ValueError("a cascade consists of plain models: give base another name than cascade.")
    return value


_Backbones = (
    Annotated[BasicCnnConfig, Tag("basic_cnn")]
    | Annotated[LeviHassnerConfig, Tag("levi_hassner")]
    | Annotated[InceptionResnetV1Config, Tag("inception_resnet_v1")]
    | Annotated[ResidualAttentionConfig, Tag("residual_attention")]
    | Annotated[MobilenetTransformerConfig, Tag("mobilenet_transformer")]
    | Annotated[TimmConfig, Tag("timm")]
)


def _open(built_in: Any) -> Extension:
    """Return the annotation that adds the backbones of other packages to a union of models."""

    def extended(members: tuple[Member, ...]) -> Any:
        tags = {tag_of(member, "name"): member for member in members}

        def kind(value: Any) -> str:
            name = value.get("name") if isinstance(value, Mapping) else getattr(value, "name", None)
            return str(name) if name in tags else _model_kind(value)

        tagged = (Annotated[member, Tag(str(tag))] for tag, member in tags.items())
        return Annotated[reduce(or_, tagged, built_in), Discriminator(kind)]

    return Extension(plugins.BACKBONES, PluginBackbone, "name", extended, taken=lambda: {*OWN_MODELS, *timm_names()})


BackboneConfig = Annotated[
    Annotated[_Backbones, Discriminator(_model_kind)],
    _open(_Backbones),
    BeforeValidator(_no_cascade),
    BeforeValidator(bare_name),
]


class CascadeConfig(_Model):
    """A network that predicts the group, and one per group that predicts the other tasks (S0-R9, S4-V15, S4-V16)."""

    SHARED: ClassVar[tuple[str, ...]] = ("weights", "weights_sha256", "weights_heads", "freeze")
    """Fields set once for all networks."""

    name: Literal["cascade"]
    by: Literal["gender", "race"] = Field(
        default="gender", description="Task whose classes are the groups; one of `tasks`."
    )
    base: BackboneConfig = Field(default=BasicCnnConfig(name="basic_cnn"), description="Backbone of each network.")
    trained_on: Literal["true", "predicted"] = Field(
        default="true",
        description="Training images of an expert: those of its true group, or those that the router assigns to it.",
    )
    train: Literal["all", "router"] | Annotated[int, Field(ge=0)] = Field(
        default="all",
        description="Networks to train: all, router, or one expert by the index of its group (of genders, 0 is male, "
        "1 female). The others are frozen, and only the trained network's losses count in training.",
    )

    @property
    def timm_name(self) -> str | None:
        """The backbone's timm name."""
        return self.base.timm_name

    @field_validator("base")
    @classmethod
    def _shared_fields_once(cls, value: BackboneConfig) -> BackboneConfig:
        given = [name for name in cls.SHARED if getattr(value, name) != type(value).model_fields[name].default]
        if given:
            raise ValueError(f"{given[0]} holds for every network of a cascade: give it as model.{given[0]}.")
        return value


_Models = _Backbones | Annotated[CascadeConfig, Tag("cascade")]

ModelConfig = Annotated[
    Annotated[_Models, Discriminator(_model_kind)],
    _open(_Models),
    BeforeValidator(bare_name),
]


class HeadConfig(StrictModel):
    """Layers between the backbone and each task's outputs: layers shared by all tasks, then layers of each task."""

    shared: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = Field(
        default=(), max_length=4, description="Widths of the layers shared by all tasks; empty: none."
    )
    shared_batch_norm: bool = Field(
        default=False,
        description="Batch normalisation before each shared activation; without shared layers, on the backbone's "
        "features.",
    )
    shared_dropout: DropoutRate = Field(
        default=0.0, description="Dropout after each shared layer; without shared layers, on the backbone's features."
    )
    hidden: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = Field(
        default=(), max_length=4, description="Widths of each task's hidden layers; empty: one linear layer."
    )
    activation: Activation = Field(default="relu", description="Activation after each hidden layer.")
    batch_norm: bool = Field(default=False, description="Batch normalisation before each hidden activation.")
    dropout: DropoutRate = Field(default=0.0, description="Dropout before each linear layer.")
