"""Averages of weights over the training."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from agr_core.config.base import StrictModel, bare_name


class NoAveraging(StrictModel):
    """Use the weights after each epoch."""

    name: Literal["none"]


class SwaAveraging(StrictModel):
    """Stochastic weight averaging (Izmailov et al. 2018; report S4, S4-P12): the mean of the last epochs' weights."""

    name: Literal["swa"]
    start_epoch: int = Field(
        ge=1, description="Number of finished epochs after which averaging starts; earlier weights are not averaged."
    )
    lr: float | None = Field(
        default=None, gt=0, description="Learning rate from then on; null: the schedule continues."
    )
    anneal_epochs: int = Field(
        default=0, ge=0, description="Number of epochs in which the rate moves to lr along a cosine; 0: at once."
    )

    @model_validator(mode="after")
    def _anneals_to_a_rate(self) -> Self:
        if self.anneal_epochs and self.lr is None:
            raise ValueError(f"anneal_epochs={self.anneal_epochs} needs lr, the rate that is annealed to; set it.")
        return self


class EmaAveraging(StrictModel):
    """Exponential moving average of the weights, updated at each step (Polyak and Juditsky 1992)."""

    name: Literal["ema"]
    decay: float = Field(
        default=0.999,
        gt=0,
        lt=1,
        description="Share of the previous average kept at each step; the average spans about 1 / (1 - decay) steps.",
    )
    warmup: bool = Field(
        default=True,
        description="Use (1 + n) / (10 + n) after n steps while that is below decay, so that early weights are "
        "forgotten sooner.",
    )


AveragingConfig = Annotated[
    Annotated[NoAveraging | SwaAveraging | EmaAveraging, Field(discriminator="name")], BeforeValidator(bare_name)
]
