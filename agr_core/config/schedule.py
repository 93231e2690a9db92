"""Learning-rate schedules and early stopping."""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from agr_core.config.base import Probability, StrictModel, bare_name


class _Schedule(StrictModel):
    epochs: int = Field(default=10, ge=1, le=100_000, description="Number of passes over the training part.")

    @property
    def length_matters(self) -> bool:
        """Whether the rates of the first epochs depend on ``epochs``, so that a longer training begins differently."""
        return True


class ConstantSchedule(_Schedule):
    """Constant peak learning rate."""

    name: Literal["constant"]

    @property
    def length_matters(self) -> bool:
        """No."""
        return False


class _Warmup(_Schedule):
    warmup_epochs: int = Field(default=0, ge=0, description="Number of epochs of linear warm-up from 0 to the peak.")

    @model_validator(mode="after")
    def _warmup_leaves_room(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs={self.warmup_epochs} must be below epochs={self.epochs}.")
        return self


class CosineSchedule(_Warmup):
    """Linear warm-up, then half a cosine down to ``final_ratio`` of the peak, per step."""

    name: Literal["cosine"]
    final_ratio: Probability = Field(default=0.0, description="Last learning rate, as a share of the peak.")


class StepSchedule(_Schedule):
    """Multiply the rate by ``gamma`` at each milestone, or every ``every`` epochs or steps."""

    name: Literal["step"]
    unit: Literal["epoch", "step"] = Field(
        default="epoch",
        description="Unit of milestones and every: epochs, or optimizer steps of the training.",
    )
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), description="Numbers of finished epochs or steps at which the rate is reduced, ascending."
    )
    every: int | None = Field(
        default=None, ge=1, description="Instead of milestones: number of epochs or steps between reductions."
    )
    parts: int | None = Field(
        default=None,
        ge=2,
        le=100,
        description="Instead of milestones: number of equal parts of the epochs, with a reduction at the end of "
        "each; 4 means quarters. A part that ends within an epoch ends with that epoch.",
    )
    gamma: float = Field(default=0.1, gt=0, le=1, description="Factor of each reduction.")

    @property
    def length_matters(self) -> bool:
        """Only the ends of ``parts`` move with the length."""
        return self.parts is not None

    @property
    def falls(self) -> tuple[int, ...]:
        """Finished epochs or steps at which the rate is reduced, ascending; without ``every``."""
        if self.parts is None:
            return self.milestones
        ends = (math.ceil(self.epochs * part / self.parts) for part in range(1, self.parts))
        return tuple(end for end in ends if end < self.epochs)

    def never_reached(self, last: int) -> int | None:
        """Return the first milestone (or ``every``) that leaves no training after it; None if all take effect."""
        return next((m for m in (*self.milestones, self.every or 0) if m >= last), None)

    @model_validator(mode="after")
    def _milestones_are_reached(self) -> Self:
        if [bool(self.milestones), self.every is not None, self.parts is not None].count(True) != 1:
            raise ValueError("step needs exactly one of milestones, every and parts.")
        if self.parts is not None and self.unit == "step":
            raise ValueError(f"parts={self.parts} are parts of the epochs: leave unit out.")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones={list(self.milestones)} must ascend without repeats.")
        dead = self.never_reached(self.epochs) if self.unit == "epoch" else None  # in steps: only known with the data
        if dead is not None:
            raise ValueError(f"milestone {dead} is never reached in epochs={self.epochs}: lower it or train longer.")
        return self


class PlateauSchedule(_Schedule):
    """Multiply the rate by ``factor`` when the metric has not improved for more than ``patience`` epochs."""

    name: Literal["plateau"]
    metric: str = Field(default="val/loss", description="Watched metric; lower is better unless `direction` differs.")
    direction: Literal["minimize", "maximize"] = Field(
        default="minimize", description="Whether lower or higher is better."
    )
    factor: float = Field(default=0.1, gt=0, lt=1, description="Factor of each reduction.")
    patience: int = Field(default=10, ge=0, description="Number of epochs without improvement before a reduction.")
    threshold: float = Field(default=1e-4, ge=0, description="Smallest relative change that counts as an improvement.")
    min_lr: float = Field(default=0.0, ge=0, description="Lowest learning rate.")

    @property
    def length_matters(self) -> bool:
        """No: it watches a metric."""
        return False


class OneCycleSchedule(_Schedule):
    """One-cycle policy (Smith and Topin 2018) as in torch's OneCycleLR, per step, without momentum cycling."""

    name: Literal["one_cycle"]
    pct_start: float = Field(default=0.3, gt=0, lt=1, description="Share of the steps in which the rate rises.")
    div_factor: float = Field(default=25.0, ge=1, description="Ratio of peak rate to first rate.")
    final_div_factor: float = Field(default=1e4, ge=1, description="Ratio of first rate to last rate.")


ScheduleConfig = Annotated[
    Annotated[
        ConstantSchedule | CosineSchedule | StepSchedule | PlateauSchedule | OneCycleSchedule,
        Field(discriminator="name"),
    ],
    BeforeValidator(bare_name),
]


class EarlyStoppingConfig(StrictModel):
    """Stop training when the metric has not improved for ``patience`` epochs."""

    metric: str = Field(default="val/loss", description="Watched metric.")
    direction: Literal["minimize", "maximize"] = Field(
        default="minimize", description="Whether lower or higher is better."
    )
    patience: int = Field(
        default=5, ge=1, description="Number of epochs without improvement after which training stops."
    )
    min_delta: float = Field(default=0.0, ge=0, description="Smallest change that counts as an improvement.")
