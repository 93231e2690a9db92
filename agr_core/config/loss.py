"""How the losses of the images and of the tasks become one."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from agr_core.config.base import DropoutRate, StrictModel, Task

LossWeight = Annotated[float, Field(ge=0)]


class LossWeights(StrictModel):
    """Factor of each task's loss in the sum."""

    age: LossWeight = Field(default=1.0, description="Factor of the age loss.")
    gender: LossWeight = Field(default=1.0, description="Factor of the gender loss.")
    race: LossWeight = Field(default=1.0, description="Factor of the race loss.")
    attributes: LossWeight = Field(default=1.0, description="Factor of the attributes' loss.")


class PhaseWeights(StrictModel):
    """Factors that change; a task that is left out keeps the one it has."""

    age: LossWeight | None = Field(default=None, description="Factor of the age loss from then on.")
    gender: LossWeight | None = Field(default=None, description="Factor of the gender loss from then on.")
    race: LossWeight | None = Field(default=None, description="Factor of the race loss from then on.")
    attributes: LossWeight | None = Field(default=None, description="Factor of the attributes' loss from then on.")


class LossPhase(StrictModel):
    """Weights from some epoch on."""

    from_epoch: int = Field(ge=1, description="First epoch that trains with these weights, counted from 1.")
    weights: PhaseWeights = Field(description="Factors that change; tasks left out keep theirs.")


class LossConfig(StrictModel):
    """The weighted sum of the tasks' losses, each a weighted mean over the images.

    Weights of images, smoothing, phases and learned weights concern training. Evaluation takes the plain means and
    ``weights``, so that the losses of trials, and of the epochs of a trial, compare.
    """

    weights: LossWeights = Field(default_factory=LossWeights, description="Factor of each task's loss.")
    phases: tuple[LossPhase, ...] = Field(
        default=(), description="Other factors in training from given epochs on, ascending; evaluation keeps `weights`."
    )
    balance: Literal["fixed", "uncertainty"] = Field(
        default="fixed",
        description="uncertainty: the factors are learned, as each task's uncertainty (Kendall et al. 2018).",
    )
    class_weights: Literal["none", "complement"] = Field(
        default="none",
        description="complement: an image counts by 1 - the share of its class (age bin, gender, race) in training.",
    )
    age_density: Literal["none", "inverse", "sqrt_inverse", "lds"] = Field(
        default="none",
        description="Weight of an image's age loss by how many training images are of its age in years: 1 / n, "
        "1 / sqrt(n), or 1 / n smoothed over neighbouring years (Yang et al. 2021).",
    )
    label_smoothing: DropoutRate = Field(
        default=0.0, description="Mass moved from the true class to all classes, in every softmax loss."
    )

    @model_validator(mode="after")
    def _phases_ascend(self) -> Self:
        starts = [phase.from_epoch for phase in self.phases]
        if starts != sorted(set(starts)):
            raise ValueError(f"phases start at from_epoch={starts}; they must ascend without repeats.")
        return self

    @model_validator(mode="after")
    def _learned_weights_are_not_given(self) -> Self:
        if self.balance == "uncertainty":
            given = sorted({value for value in self.weights.model_dump().values() if value not in (0, 1)})
            if given or self.phases:
                raise ValueError(
                    f"balance=uncertainty learns the weights, but {f'weights of {given[0]:g}' if given else 'phases'} "
                    "are given: leave phases out and weights at 1, or at 0 for a task without part in the loss."
                )
        return self

    def weights_in(self, epoch: int) -> LossWeights:
        """The factors in training epoch ``epoch``, counted from 1."""
        weights = self.weights
        for phase in self.phases:
            if phase.from_epoch <= epoch:
                weights = weights.model_copy(update=phase.weights.model_dump(exclude_none=True))
        return weights

    def check(self, tasks: Collection[Task], *, epochs: int) -> None:
        """Refuse weights that leave nothing to train, and phases that never come.

        Raises:
            ValueError: Naming them.
        """
        if all(getattr(self.weights, task) == 0 for task in tasks):
            raise ValueError(f"loss.weights are 0 for every task of {list(tasks)}; give one a weight above 0.")
        for phase in self.phases:
            if phase.from_epoch > epochs:
                raise ValueError(
                    f"loss.phases: from_epoch={phase.from_epoch} is never reached in schedule.epochs={epochs}: lower "
                    "it or train longer."
                )
            if all(getattr(self.weights_in(phase.from_epoch), task) == 0 for task in tasks):
                raise ValueError(
                    f"loss.phases: from epoch {phase.from_epoch} on the weights are 0 for every task of {list(tasks)}; "
                    "give one a weight above 0."
                )
