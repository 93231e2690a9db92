"""Objective: metric or weighted sum, direction, and selection of a trial's best epoch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator

from agr_core.config import StrictModel
from agr_core.errors import ConfigError
from agr_core.registry import did_you_mean
from agr_core.reporting import EpochReport, Metrics

Direction = Literal["minimize", "maximize"]


BEST = "best"
"""Label of the best epoch by the objective; ``keep`` defines further labels."""

LABEL_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,29}$"

Label = Annotated[str, Field(pattern=LABEL_PATTERN)]
"""Label of kept weights. It becomes part of file names, and may come from a bucket that others write to."""

WEIGHTED = "val/objective"
"""Metric name of a weighted sum."""


class Objective(StrictModel):
    """One metric, or a weighted sum of several, and the direction in which it is better."""

    metric: str | dict[str, float] = Field(
        description="Name of a reported validation metric, such as val/age_mae; or weights by metric name, which "
        "define a weighted sum: {val/age_acc: 1, val/gender_acc: 1}."
    )
    direction: Direction = Field(description="minimize or maximize.")

    @field_validator("metric")
    @classmethod
    def _weighs(cls, value: str | dict[str, float]) -> str | dict[str, float]:
        if isinstance(value, dict):
            if not value:
                raise ValueError("no metric given; name one, or weights as {val/age_acc: 1, val/gender_acc: 1}.")
            without = [name for name, weight in value.items() if weight == 0]
            if without:
                raise ValueError(f"{without[0]} has the weight 0 and no effect; drop it or give it another weight.")
        return value

    @property
    def weights(self) -> Mapping[str, float]:
        """Weight of each metric; 1 for a single one."""
        return self.metric if isinstance(self.metric, dict) else {self.metric: 1.0}

    @property
    def name(self) -> str:
        """Metric name of the objective: the metric itself, or ``val/objective``."""
        return WEIGHTED if isinstance(self.metric, dict) else self.metric

    @property
    def formula(self) -> str:
        """Formula as text: ``val/age_mae``, or ``val/age_loss + 2 val/gender_loss``."""
        terms = [name if weight == 1 else f"{weight:g} {name}" for name, weight in self.weights.items()]
        return " + ".join(terms)

    def value(self, metrics: Metrics) -> float:
        """Return the objective of one epoch, ``sum(weight * metric)``; the order of the weights does not matter.

        Raises:
            ConfigError: If a metric was not reported.
        """
        for name in self.weights:
            if name not in metrics:
                reported = ", ".join(sorted(known for known in metrics if known.startswith("val/")))
                raise ConfigError(
                    f"objective.metric is {name!r}, which no epoch reported."
                    f"{did_you_mean(name, metrics)} Reported: {reported}."
                )
        return math.fsum(weight * metrics[name] for name, weight in self.weights.items())

    def weighted_sum(self, metrics: Metrics, *, part: str = "val") -> dict[str, float]:
        """Return ``{"val/objective": value}`` for the metrics of a ``part``.

        Args:
            metrics: Metrics named ``<part>/...``; if one is missing, or the objective is a single metric, the result is
                empty.
            part: Part of the metrics; the objective itself names val metrics.
        """
        names = {name: f"{part}/{name.removeprefix('val/')}" for name in self.weights}
        if isinstance(self.metric, str) or any(name not in metrics for name in names.values()):
            return {}
        value = self.value({name: metrics[own] for name, own in names.items()})
        return {f"{part}/{WEIGHTED.removeprefix('val/')}": value}

    def better(self, candidate: float, incumbent: float | None) -> bool:
        """Return whether ``candidate`` is strictly better than ``incumbent``; any value is better than None."""
        if incumbent is None:
            return True
        return candidate < incumbent if self.direction == "minimize" else candidate > incumbent

    def best(self, reports: Iterable[EpochReport]) -> EpochReport | None:
        """Return the earliest report with the best value, or None without reports."""
        best: EpochReport | None = None
        for report in reports:
            if self.better(self.value(report.metrics), None if best is None else self.value(best.metrics)):
                best = report
        return best


def objective_names(objectives: Sequence[Objective]) -> tuple[str, ...]:
    """Return the metric name of each of several objectives.

    A weighted sum is named ``val/objective``; beyond the first position, ``val/objective_2``, ``val/objective_3``.
    """
    return tuple(
        f"{WEIGHTED}_{place}" if place > 1 and objective.name == WEIGHTED else objective.name
        for place, objective in enumerate(objectives, start=1)
    )


def weighted_sums(objectives: Sequence[Objective], metrics: Metrics, *, part: str = "val") -> dict[str, float]:
    """Return the weighted sums among several objectives by name; see ``Objective.weighted_sum``."""
    return {
        f"{part}/{name.removeprefix('val/')}": value
        for name, objective in zip(objective_names(objectives), objectives, strict=True)
        for value in objective.weighted_sum(metrics, part=part).values()
    }
