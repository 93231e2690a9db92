"""The objective: which metric, which direction, and which epoch of a trial was its best."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from agr_core.config import StrictModel
from agr_core.errors import ConfigError
from agr_core.registry import did_you_mean
from agr_core.reporting import EpochReport, Metrics

Direction = Literal["minimize", "maximize"]


class Objective(StrictModel):
    """One metric and the direction in which it is better."""

    metric: str = Field(description="Name of a reported validation metric, such as val/age_mae.")
    direction: Direction = Field(description="minimize or maximize.")

    def value(self, metrics: Metrics) -> float:
        """The objective of one epoch.

        Raises:
            ConfigError: If the metric is not among those reported.
        """
        if self.metric not in metrics:
            reported = ", ".join(sorted(name for name in metrics if name.startswith("val/")))
            raise ConfigError(
                f"objective.metric is {self.metric!r}, which no epoch reported."
                f"{did_you_mean(self.metric, metrics)} Reported: {reported}."
            )
        return metrics[self.metric]

    def better(self, candidate: float, incumbent: float | None) -> bool:
        """Whether ``candidate`` strictly beats ``incumbent`` (anything beats none)."""
        if incumbent is None:
            return True
        return candidate < incumbent if self.direction == "minimize" else candidate > incumbent

    def best(self, reports: Iterable[EpochReport]) -> EpochReport | None:
        """The earliest report with the best value, or None without reports."""
        best: EpochReport | None = None
        for report in reports:
            if self.better(self.value(report.metrics), None if best is None else self.value(best.metrics)):
                best = report
        return best
