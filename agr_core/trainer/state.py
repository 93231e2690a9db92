"""State of the training loop as JSON: everything except weights and optimizer tensors.

It needs no generator state, because every epoch seeds its generators (``determinism.py``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agr_core.config import PlateauSchedule, TrialConfig
from agr_core.errors import ConfigError
from agr_core.evaluation.names import is_of_the_machine, listed
from agr_core.registry import did_you_mean
from agr_core.reporting import EpochReport, Metrics
from agr_core.trainer import early_stopping, schedule
from agr_core.trainer.early_stopping import StoppingState
from agr_core.trainer.schedule import PlateauState


@dataclass
class LoopState:
    """All reports so far, and the state of the per-epoch rules."""

    plateau: PlateauState
    stopping: StoppingState
    reports: list[EpochReport] = field(default_factory=list)

    @classmethod
    def at_start(cls, config: TrialConfig) -> LoopState:
        """Return the state before the first epoch."""
        return cls(plateau=PlateauState(lr=config.optimizer.lr), stopping=StoppingState())

    @property
    def epochs_done(self) -> int:
        """Number of finished epochs."""
        return len(self.reports)

    @property
    def finished(self) -> bool:
        """Whether the last report ended the training."""
        return bool(self.reports) and self.reports[-1].finished

    def lengthened(self, config: TrialConfig) -> None:
        """Reopen a training that ended by its number of epochs, if ``config`` has more; otherwise change nothing."""
        last = self.reports[-1] if self.reports else None
        if last is None or not last.finished or last.stopped_early or last.epoch >= config.schedule.epochs:
            return
        stops = config.early_stopping is not None and early_stopping.should_stop(config.early_stopping, self.stopping)
        self.reports[-1] = dataclasses.replace(last, stopped_early=stops, finished=stops)

    def add_epoch(self, config: TrialConfig, metrics: Metrics, tables: Mapping[str, Any]) -> EpochReport:
        """Finish an epoch: update the plateau schedule and early stopping, and store its report.

        Raises:
            ConfigError: If a metric that they watch was not reported.
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
        """Return a plain JSON object with every field."""
        return {
            "plateau": dataclasses.asdict(self.plateau),
            "stopping": dataclasses.asdict(self.stopping),
            "reports": [report.to_json() for report in self.reports],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> LoopState:
        """Return the state written by ``to_json``."""
        return cls(
            plateau=PlateauState(**document["plateau"]),
            stopping=StoppingState(**document["stopping"]),
            reports=[EpochReport.from_json(report) for report in document["reports"]],
        )


def watched_value(metrics: Metrics, name: str, *, field: str) -> float:
    """Return the metric ``name``, which the configuration's ``field`` watches.

    Raises:
        ConfigError: If it was not reported.
    """
    if name not in metrics:
        known = listed(sorted(name for name in metrics if not is_of_the_machine(name)))
        raise ConfigError(
            f"{field} is {name!r}, which this trial does not report.{did_you_mean(name, metrics)} Reported: {known}."
        )
    return metrics[name]
