"""Optimizers (S4-P1); arguments and defaults are torch's unless stated otherwise."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from agr_core.config.base import StrictModel, bare_name


class _Optimizer(StrictModel):
    lr: float = Field(default=1e-3, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(default=0.0, ge=0, description="Weight decay, in the optimizer's own form.")


_Beta = Annotated[float, Field(ge=0, lt=1)]
_Betas = tuple[_Beta, _Beta]


class SgdConfig(_Optimizer):
    """Stochastic gradient descent, optionally with momentum or Nesterov momentum."""

    name: Literal["sgd"]
    momentum: _Beta = Field(default=0.0, description="Momentum.")
    dampening: float = Field(default=0.0, ge=0, description="Dampening of the momentum.")
    nesterov: bool = Field(default=False, description="Nesterov momentum; requires momentum above 0 and dampening 0.")

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
    eps_inside_root: bool = Field(
        default=False,
        description="Divide by sqrt(v + eps) as in Keras, instead of sqrt(v) + eps as in torch; v is the smoothed "
        "squared gradient.",
    )
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
    BeforeValidator(bare_name),
]
