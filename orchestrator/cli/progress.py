"""What a running sweep shows: a table that updates in place, or one line per finished trial where there is no terminal.

Only events that are stored in the journal arrive here.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.live import Live
from rich.table import Table
from rich.text import Text

from agr_core.objective import Objective, objective_names
from orchestrator.cli.terminal import Terminal
from orchestrator.pareto import ordering
from orchestrator.records import (
    AttemptFailed,
    AttemptStarted,
    ControlReceived,
    Event,
    HistoryTaken,
    NodeQuarantined,
    StageTrained,
    SweepEnded,
    TestRead,
    TrialCreated,
    TrialEnded,
    TrialReconfigured,
    TrialReported,
    TrialResumed,
)
from orchestrator.state import TrialState
from orchestrator.tracking.describe import trial_name

_OUTCOME_STYLE = {
    "completed": "green",
    "pruned": "yellow",
    "diverged": "red",
    "failed": "red",
    "interrupted": "magenta",
}
_SHOWN_RUNNING = 16
_SHOWN_BEST = 5


@dataclass
class _Row:
    created: TrialCreated
    epochs: int
    epoch: int = 0
    value: tuple[float, ...] = ()
    """The objectives of the last epoch."""
    best: tuple[float, ...] = ()
    """The objectives of the epoch that is best by the first."""
    outcome: str | None = None
    started: bool = False


@dataclass
class Progress:
    """Listens to a sweep's events. Use as a context manager around the run."""

    objectives: Sequence[Objective]
    planned: int | None
    console: Terminal = field(default_factory=lambda: Terminal(stderr=True))

    def __post_init__(self) -> None:
        self._rows: dict[str, _Row] = {}
        self._began = time.monotonic()
        self._ended = 0
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self._live = Live(get_renderable=self._table, console=self.console, refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def recall(self, trial: TrialState) -> None:
        """Take up a trial of an earlier driver of this sweep; nothing is printed."""
        row = _Row(trial.created, epochs=_epochs(trial.created), outcome=trial.outcome)
        for report in trial.reports:
            self._report(row, report)
        self._rows[trial.trial_id] = row
        self._ended += trial.ended is not None

    def __call__(self, event: Event) -> None:
        """Take one stored event."""
        match event:
            case HistoryTaken():
                outside = f"; {event.outside} lie outside the space" if event.outside else ""
                differing = f"; warning: they differ in {', '.join(event.differing)}" if event.differing else ""
                self._say(f"history  {len(event.trials)} trials of {event.sweep_id}{outside}{differing}")
            case TrialCreated():
                self._rows[event.trial_id] = _Row(event, epochs=_epochs(event))
            case AttemptStarted():
                self._rows[event.trial_id].started = True
            case StageTrained():
                words = f"stage {event.stage} trained, {event.epochs} epochs in {event.seconds:.0f} s"
                self._say(f"{self._name(event.trial_id)}  {words}; others start from it too")
            case TrialReported():
                self._report(self._rows[event.trial_id], event)
            case AttemptFailed():
                self._say(f"{self._name(event.trial_id)}  attempt {event.attempt} failed: {event.error}")
            case TrialReconfigured():
                row = self._rows[event.trial_id]
                row.created = event.applied_to(row.created)
                self._say(f"{self._name(event.trial_id)}  begins again with {event.reason}")
            case NodeQuarantined():
                words = f"{event.failures} failures in a row, the last: {event.error}"
                self._say(f"node {event.node} is quarantined, it gets no more trials of this sweep: {words}")
            case TrialEnded():
                self._end(self._rows[event.trial_id], event)
            case TrialResumed():
                self._rows[event.trial_id].outcome = None
                self._ended -= 1
            case ControlReceived():
                self._say(" ".join(["received:", event.command, *map(str, event.arguments.values())]))
            case TestRead():
                self._say(f"{self._name(event.trial_id)}  test part read")
            case SweepEnded() if event.reason:
                self._say(f"{event.status}: {event.reason}")

    def _report(self, row: _Row, event: TrialReported) -> None:
        first, *further = self.objectives
        row.epoch, row.value = event.epoch, (event.value, *(each.value(event.metrics) for each in further))
        if first.better(event.value, row.best[0] if row.best else None):
            row.best = row.value

    def _end(self, row: _Row, event: TrialEnded) -> None:
        row.outcome = event.outcome
        self._ended += 1
        if self._live is None or event.error is not None:
            figures: Sequence[float | str] = event.point or ("-",) * len(self.objectives)
            values = "  ".join(
                f"{name} {_shown(figure):<8}"
                for name, figure in zip(objective_names(self.objectives), figures, strict=True)
            )
            error = f"  {event.error}" if event.error else ""
            epochs = f"{event.epochs} epoch" + ("" if event.epochs == 1 else "s")
            self._say(
                f"{self._count():>8}  {event.trial_id}  {event.outcome:<12} {values} "
                f"{epochs:<10} {trial_name(row.created)}{error}"
            )

    def _say(self, line: str) -> None:
        self.console.print(Text(line), soft_wrap=True)

    def _name(self, trial_id: str) -> str:
        return f"{trial_id} {trial_name(self._rows[trial_id].created)}" if trial_id in self._rows else trial_id

    def _count(self) -> str:
        return f"{self._ended}/{self.planned}" if self.planned is not None else str(self._ended)

    def _table(self) -> Table:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        rows = list(self._rows.values())
        counts = {name: sum(row.outcome == name for row in rows) for name in _OUTCOME_STYLE}
        shown = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
        table = Table(
            title=f"{self._count()} trials ended{f' ({shown})' if shown else ''}, {minutes}:{seconds:02d}",
            title_justify="left",
            expand=False,
            pad_edge=False,
            box=None,
        )
        for column in ("trial", "outcome", "epoch", *objective_names(self.objectives), "name"):
            table.add_column(column, no_wrap=True, overflow="ellipsis")
        completed = [row for row in rows if row.outcome == "completed" and row.best]
        directions = [objective.direction for objective in self.objectives]
        best = sorted(completed, key=lambda row: ordering(row.best, directions))[:_SHOWN_BEST]
        running = [row for row in rows if row.outcome is None][:_SHOWN_RUNNING]
        for row in (*best, *running):
            outcome = row.outcome or ("running" if row.started else "starting")
            value = row.best if row.outcome else row.value
            table.add_row(
                row.created.trial_id,
                Text(outcome, style=_OUTCOME_STYLE.get(outcome, "cyan")),
                f"{row.epoch}/{row.epochs}",
                *(map(_shown, value) if value else [""] * len(self.objectives)),
                trial_name(row.created),
            )
        return table


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _epochs(created: TrialCreated) -> int:
    return int(created.config["schedule"]["epochs"])
