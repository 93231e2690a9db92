"""Learning-rate schedules, and when a training ends itself."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from agr_core.config.base import Probability, StrictModel, bare_name


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
    """The rate is multiplied by ``gamma`` at each milestone, or after every ``every`` epochs or steps."""

    name: Literal["step"]
    unit: Literal["epoch", "step"] = Field(
        default="epoch",
        description="What milestones and every count: epochs, or optimizer steps of the training.",
    )
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(), description="Finished epochs or steps after which the rate falls, ascending."
    )
    every: int | None = Field(
        default=None, ge=1, description="Instead of milestones: the rate falls every so many epochs or steps."
    )
    gamma: float = Field(default=0.1, gt=0, le=1, description="Factor at each fall.")

    def never_reached(self, last: int) -> int | None:
        """The first milestone (or `every`) after which a training that ends after ``last`` trains nothing, or None."""
        return next((m for m in (*self.milestones, self.every or 0) if m >= last), None)

    @model_validator(mode="after")
    def _milestones_are_reached(self) -> Self:
        if bool(self.milestones) == (self.every is not None):
            raise ValueError("step needs exactly one of milestones and every.")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones={list(self.milestones)} must ascend without repeats.")
        dead = self.never_reached(self.epochs) if self.unit == "epoch" else None  # steps: known with the data
        if dead is not None:
            raise ValueError(f"milestone {dead} is never reached in epochs={self.epochs}: lower it or train longer.")
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
    BeforeValidator(bare_name),
]


class EarlyStoppingConfig(StrictModel):
    """Stop when the metric has not improved for ``patience`` epochs."""

    metric: str = Field(default="val/loss", description="Metric that is watched.")
    direction: Literal["minimize", "maximize"] = Field(default="minimize", description="Which way is better.")
    patience: int = Field(default=5, ge=1, description="Epochs without improvement after which training stops.")
    min_delta: float = Field(default=0.0, ge=0, description="Smallest change that counts as an improvement.")
