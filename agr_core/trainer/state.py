"""Where a training stands: everything but weights and optimizer tensors, small, explicit, JSON.

No generator state: every epoch seeds its generators anew (``determinism.py``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agr_core.config import PlateauSchedule, TrialConfig
from agr_core.errors import ConfigError
from agr_core.evaluation.names import is_of_the_machine
from agr_core.registry import did_you_mean
from agr_core.reporting import EpochReport, Metrics
from agr_core.trainer import early_stopping, schedule
from agr_core.trainer.early_stopping import StoppingState
from agr_core.trainer.schedule import PlateauState


@dataclass
class LoopState:
    """All reports so far, and what the epoch-wise rules remember."""

    plateau: PlateauState
    stopping: StoppingState
    reports: list[EpochReport] = field(default_factory=list)

    @classmethod
    def at_start(cls, config: TrialConfig) -> LoopState:
        """Nothing trained yet."""
        return cls(plateau=PlateauState(lr=config.optimizer.lr), stopping=StoppingState())

    @property
    def epochs_done(self) -> int:
        """Finished epochs."""
        return len(self.reports)

    @property
    def finished(self) -> bool:
        """Whether the last report ended the training."""
        return bool(self.reports) and self.reports[-1].finished

    def add_epoch(self, config: TrialConfig, metrics: Metrics, tables: Mapping[str, Any]) -> EpochReport:
        """Close an epoch: let the plateau schedule and early stopping see its metrics, and keep its report.

        Raises:
            ConfigError: If a metric they watch was not reported.
        """
        if isinstance(config.schedule, PlateauSchedule):
            watched = watched_value(metrics, config.schedule.metric, field="schedule.metric")
            self.plateau = schedule.after_epoch(config.schedule, self.plateau, watched)
        stopped_early = False
        if config.early_stopping is not None:
            watched = watched_value(metrics, config.early_stopping.metric, field="early_stopping.metric")
            self.stopping = early_stopping.after_epoch(config.early_stopping, self.stopping, watched)
            stopped_early = early_stopping.should_stop(config.early_stopping, self.stopping)
        epoch = self.epochs_done + 1
        last = epoch == config.schedule.epochs
        report = EpochReport(
            epoch=epoch,
            metrics=metrics,
            tables=tables,
            stopped_early=stopped_early and not last,
            finished=stopped_early or last,
        )
        self.reports.append(report)
        return report

    def to_json(self) -> dict[str, Any]:
        """A plain JSON object with every field."""
        return {
            "plateau": dataclasses.asdict(self.plateau),
            "stopping": dataclasses.asdict(self.stopping),
            "reports": [report.to_json() for report in self.reports],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> LoopState:
        """The state that ``to_json`` wrote."""
        return cls(
            plateau=PlateauState(**document["plateau"]),
            stopping=StoppingState(**document["stopping"]),
            reports=[EpochReport.from_json(report) for report in document["reports"]],
        )


def watched_value(metrics: Metrics, name: str, *, field: str) -> float:
    """The metric ``name`` that the configuration's ``field`` watches.

    Raises:
        ConfigError: If it was not reported.
    """
    if name not in metrics:
        known = ", ".join(sorted(name for name in metrics if not is_of_the_machine(name)))
        raise ConfigError(
            f"{field} is {name!r}, which this trial does not report.{did_you_mean(name, metrics)} Reported: {known}."
        )
    return metrics[name]
