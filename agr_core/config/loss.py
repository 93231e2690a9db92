"""Combination of the losses of images and tasks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from agr_core import plugins
from agr_core.config.base import DropoutRate, StrictModel, Task, bare_name
from agr_core.config.extension import Extension, Member

if TYPE_CHECKING:
    from torch import Tensor

LossWeight = Annotated[float, Field(ge=0)]


class LossWeights(StrictModel):
    """Factor of each task's loss in the total."""

    age: LossWeight = Field(default=1.0, description="Factor of the age loss.")
    gender: LossWeight = Field(default=1.0, description="Factor of the gender loss.")
    race: LossWeight = Field(default=1.0, description="Factor of the race loss.")
    attributes: LossWeight = Field(default=1.0, description="Factor of the attributes' loss.")


class PhaseWeights(StrictModel):
    """Changed factors; omitted tasks keep theirs."""

    age: LossWeight | None = Field(default=None, description="Factor of the age loss from then on.")
    gender: LossWeight | None = Field(default=None, description="Factor of the gender loss from then on.")
    race: LossWeight | None = Field(default=None, description="Factor of the race loss from then on.")
    attributes: LossWeight | None = Field(default=None, description="Factor of the attributes' loss from then on.")


class MetricReached(StrictModel):
    """Threshold of a metric."""

    metric: str = Field(description="Name of a metric that every epoch reports, such as val/gender_acc.")
    at_least: float | None = Field(default=None, description="The threshold is reached at this value or above.")
    at_most: float | None = Field(default=None, description="The threshold is reached at this value or below.")

    @model_validator(mode="after")
    def _one_bound(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(
                f"at_least={self.at_least}, at_most={self.at_most}: give one of them, such as {{metric: "
                "val/gender_acc, at_least: 0.8}."
            )
        return self

    def is_met(self, value: float) -> bool:
        """Return whether the value reaches the threshold."""
        return value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0.0)


class LossPhase(StrictModel):
    """Weights from a given epoch on, or from the epoch after a metric reaches a threshold."""

    from_epoch: int | None = Field(
        default=None, ge=1, description="First epoch trained with these weights, counted from 1."
    )
    once: MetricReached | None = Field(
        default=None,
        description="Instead of from_epoch: the phase begins after the first epoch that reaches this threshold.",
    )
    weights: PhaseWeights = Field(description="Changed factors; omitted tasks keep theirs.")

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if (self.from_epoch is None) == (self.once is None):
            raise ValueError("a phase begins at from_epoch or once a metric is reached: give exactly one of the two.")
        return self

    def has_begun(self, epoch: int, before: Iterable[Mapping[str, float]]) -> bool:
        """Return whether epoch ``epoch``, from 1, is in the phase, given the metrics of the epochs ``before``."""
        if self.once is None:
            return self.from_epoch is not None and self.from_epoch <= epoch
        return any(self.once.metric in metrics and self.once.is_met(metrics[self.once.metric]) for metrics in before)


class CrossEntropyLoss(StrictModel):
    """Cross-entropy of the softmax."""

    name: Literal["cross_entropy"]


class PluginLoss(StrictModel, ABC):
    """Base of losses of gender and race in other packages, found by the entry points ``agr.losses``.

    A subclass declares ``name: Literal["..."]``, the name of its entry point, and its own options. Its module is
    imported when a sweep file is checked, so it imports torch only in ``losses``. The loss of ages belongs to their
    encoding (``PluginEncoding``).
    """

    name: str

    @abstractmethod
    def losses(self, logits: Tensor, classes: Tensor, *, label_smoothing: float) -> Tensor:
        """Return the loss of each image (B,), finite; image weights and the mean are applied to the result.

        Args:
            logits: Outputs of one task (B, K) float32.
            classes: Class of each image (B,) int64, all known.
            label_smoothing: ``loss.label_smoothing`` in training, 0 in evaluation.
        """


def _extended(members: tuple[Member, ...]) -> Any:
    return Annotated[reduce(or_, members, CrossEntropyLoss), Field(discriminator="name")]


ClassificationLoss = Annotated[
    CrossEntropyLoss,
    Extension(plugins.LOSSES, PluginLoss, "name", _extended, taken=lambda: {"cross_entropy"}),
    BeforeValidator(bare_name),
]


class LossConfig(StrictModel):
    """The weighted sum of the tasks' losses, each a weighted mean over the images.

    Image weights, smoothing, phases and learned weights apply only in training. Evaluation uses plain means and
    ``weights``, so that losses are comparable between trials and between epochs of a trial.
    """

    weights: LossWeights = Field(default_factory=LossWeights, description="Factor of each task's loss.")
    phases: tuple[LossPhase, ...] = Field(
        default=(),
        description="Changed factors in training from given epochs on, ascending; evaluation uses `weights`.",
    )
    balance: Literal["fixed", "uncertainty"] = Field(
        default="fixed",
        description="uncertainty: the factors are learned as each task's uncertainty (Kendall et al. 2018).",
    )
    class_weights: Literal["none", "complement"] = Field(
        default="none",
        description="complement: an image has the weight 1 - share of its class (age bin, gender, race) in the "
        "training part.",
    )
    age_density: Literal["none", "inverse", "sqrt_inverse", "lds"] = Field(
        default="none",
        description="Weight of an image's age loss by the number n of training images of its age in years: 1 / n, 1 "
        "/ sqrt(n), or 1 / n smoothed over neighbouring years (Yang et al. 2021).",
    )
    classification: ClassificationLoss = Field(
        default=CrossEntropyLoss(name="cross_entropy"),
        description="Loss of gender and race, in training and evaluation: cross_entropy, or one of an installed "
        "package.",
    )
    label_smoothing: DropoutRate = Field(
        default=0.0, description="Probability mass moved from the true class to all classes, in every softmax loss."
    )

    @model_validator(mode="after")
    def _phases_ascend(self) -> Self:
        starts = [phase.from_epoch for phase in self.phases if phase.from_epoch is not None]
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

    def weights_in(self, epoch: int, before: Sequence[Mapping[str, float]] = ()) -> LossWeights:
        """Return the factors in training epoch ``epoch``, counted from 1.

        Args:
            epoch: The epoch.
            before: Metrics of the epochs before it.
        """
        weights = self.weights
        for phase in self.phases:
            if phase.has_begun(epoch, before):
                weights = weights.model_copy(update=phase.weights.model_dump(exclude_none=True))
        return weights

    def check(self, tasks: Collection[Task], *, epochs: int) -> None:
        """Check that the weights leave a task to train and that every phase begins.

        Raises:
            ValueError: If not; the message names the weights or phases.
        """
        if all(getattr(self.weights, task) == 0 for task in tasks):
            raise ValueError(f"loss.weights are 0 for every task of {list(tasks)}; give one a weight above 0.")
        weights = self.weights
        for number, phase in enumerate(self.phases):
            if phase.from_epoch is not None and phase.from_epoch > epochs:
                raise ValueError(
                    f"loss.phases: from_epoch={phase.from_epoch} is never reached in schedule.epochs={epochs}: lower "
                    "it or train longer."
                )
            weights = weights.model_copy(update=phase.weights.model_dump(exclude_none=True))
            if all(getattr(weights, task) == 0 for task in tasks):
                since = f"epoch {phase.from_epoch}" if phase.from_epoch is not None else f"phase {number + 1}"
                raise ValueError(
                    f"loss.phases: from {since} on the weights are 0 for every task of {list(tasks)}; "
                    "give one a weight above 0."
                )
