"""Backbones and heads."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator

from agr_core.config.base import DropoutRate, StrictModel, bare_name
from agr_core.registry import did_you_mean

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
    BeforeValidator(bare_name),
]


class HeadConfig(StrictModel):
    """What stands between the shared features and each task's outputs; each task has its own."""

    hidden: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = Field(
        default=(), max_length=4, description="Widths of the hidden layers; empty: one linear layer."
    )
    activation: Activation = Field(default="relu", description="Activation after each hidden layer.")
    batch_norm: bool = Field(default=False, description="Batch normalisation before each hidden activation.")
    dropout: DropoutRate = Field(default=0.0, description="Dropout before each linear layer.")
