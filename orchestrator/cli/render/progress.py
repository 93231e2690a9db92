"""Progress display of a running sweep: lines updated in place, or one line per finished trial without a terminal.

It receives only events that are already stored in the journal.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from heapq import nsmallest

from rich.console import Group
from rich.live import Live
from rich.text import Text

from agr_core.objective import Objective, objective_names, weighted_sums
from orchestrator.cli.render.commands import command_line, more_trials
from orchestrator.cli.render.live_view import TrialRow, View, about, best_lines, cost_words, lines
from orchestrator.cli.render.terminal import Terminal
from orchestrator.journal.best import configurations, order
from orchestrator.journal.events import (
    AttemptFailed,
    AttemptStarted,
    BaselineMeasured,
    ControlReceived,
    DriverStarted,
    Event,
    HistoryTaken,
    NodeQuarantined,
    StageTrained,
    SweepEnded,
    SweepStarted,
    TestRead,
    TrialCreated,
    TrialEnded,
    TrialReconfigured,
    TrialReopened,
    TrialReported,
    TrialResumed,
)
from orchestrator.journal.spending import Spending
from orchestrator.journal.steering import Steering
from orchestrator.journal.steering_events import BudgetName
from orchestrator.journal.sweep_state import SweepState, TrialState
from orchestrator.results.wording import trial_name
from orchestrator.spec.model import BudgetSpec

_SHOWN_BEST = 5
_NEW_S = 30.0


@dataclass
class Progress:
    """Listener that displays a sweep's events. Use it as a context manager around the run."""

    sweep: SweepStarted
    planned: int | None
    console: Terminal = field(default_factory=lambda: Terminal(stderr=True))

    def __post_init__(self) -> None:
        self._rows: dict[str, TrialRow] = {}
        self._began = time.time()
        self._heard = self._began
        self._ended = 0
        self._live: Live | None = None
        self._doing: tuple[str, float] | None = None
        self._baseline: float | None = None
        self._first_attempt: float | None = None
        self._epochs_done = 0
        self._budget = BudgetSpec.model_validate(self.sweep.document.get("budget") or {})
        self._spending = Spending.of(self.sweep.document)
        self._steering = Steering()
        self.wall_before_s = 0.0
        """Run time of earlier drivers of the sweep, in seconds."""

    @property
    def objectives(self) -> Sequence[Objective]:
        """Objectives of the sweep, in order."""
        return self.sweep.objectives

    def __enter__(self) -> Progress:
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._live = Live(
                get_renderable=lambda: Group(*self.lines()),
                console=self.console,
                refresh_per_second=2,
                transient=True,
                vertical_overflow="crop",
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            for line in best_lines(list(self._rows.values()), self._best(), self.console.width):
                self.console.print(line, soft_wrap=True)

    def doing(self, words: str) -> None:
        """Show the current activity before the first epoch or after the last, until the next call."""
        self._doing = words, time.time()
        if self._live is None:
            self._say(f"{words} ...")

    def recall(self, state: SweepState) -> None:
        """Take over what earlier drivers of this sweep journalled, without printing."""
        for trial in state.trials.values():
            self._recall_trial(trial)
        for metrics in state.baselines.values():
            self._take_baseline(metrics)
        self._spending, self._steering = deepcopy(state.spending), deepcopy(state.steering)

    def _recall_trial(self, trial: TrialState) -> None:
        row = TrialRow(trial.created, epochs=_epochs(trial.created), outcome=trial.outcome)
        for report in trial.reports:
            self._report(row, report)
        self._rows[trial.trial_id] = row
        self._ended += trial.ended is not None

    def __call__(self, event: Event) -> None:
        """Process one stored event."""
        self._spending.apply(event)
        self._steering.apply(event)
        match event:
            case DriverStarted():
                self._begin(event)
            case HistoryTaken():
                outside = f"; {event.outside} lie outside the space" if event.outside else ""
                differing = f"; warning: they differ in {', '.join(event.differing)}" if event.differing else ""
                self._say(f"history  {len(event.trials)} trials of {event.sweep_id}{outside}{differing}")
            case TrialCreated():
                self._rows[event.trial_id] = TrialRow(event, epochs=_epochs(event))
            case AttemptStarted():
                self._rows[event.trial_id].started = True
                if self._first_attempt is None:
                    self._first_attempt = event.time
                    if _is_new(event):
                        self.doing("loading the data, training the first epoch")
            case BaselineMeasured():
                self._take_baseline(event.metrics)
            case StageTrained():
                words = f"stage {event.stage} trained, {event.epochs} epochs in {event.seconds:.0f} s"
                self._say(f"{self._name(event.trial_id)}  {words}; other trials reuse it")
            case TrialReported():
                self._report(self._rows[event.trial_id], event)
                self._doing = None
                self._epochs_done += 1
                if self._epochs_done == 1 and _is_new(event):
                    self._say_how_long(event)
            case AttemptFailed():
                self._rows[event.trial_id].started = False
                self._say(f"{self._name(event.trial_id)}  attempt {event.attempt} failed: {event.error}")
            case TrialReconfigured():
                row = self._rows[event.trial_id]
                row.created = event.applied_to(row.created)
                self._say(f"{self._name(event.trial_id)}  restarts with {event.reason}")
            case NodeQuarantined():
                words = f"{event.failures} failures in a row, the last: {event.error}"
                self._say(f"node {event.node} is quarantined and gets no more trials of this sweep: {words}")
            case TrialEnded():
                self._end(self._rows[event.trial_id], event)
            case TrialResumed() | TrialReopened():
                self._go_on(self._rows[event.trial_id], event)
            case ControlReceived():
                self._say(command_line(event))
                if self.planned is not None:
                    self.planned += more_trials(event) * self.sweep.seeds
            case TestRead():
                self._say(f"{self._name(event.trial_id)}  test part read")
            case SweepEnded() if event.reason:
                self._say(f"{event.status}: {event.reason}")

        self._heard = event.time

    def _take_baseline(self, metrics: Mapping[str, float]) -> None:
        figures = {**weighted_sums(self.objectives, metrics), **metrics}
        self._baseline = figures.get(self.objectives[0].name)

    def _begin(self, event: DriverStarted) -> None:
        if event.restart:
            self._say(f"driver   died and was started again by itself, {event.restart} times so far")
        if event.resumed:  # adds the time of the earlier driver that this view followed
            self.wall_before_s += max(0.0, self._heard - self._began)
        self._began, self._first_attempt, self._epochs_done = event.time, None, 0

    def _go_on(self, row: TrialRow, event: TrialResumed | TrialReopened) -> None:
        row.outcome = None
        self._ended -= 1
        if isinstance(event, TrialReopened):
            row.created, row.epochs = event.created, _epochs(event.created)
            self._say(f"{self._name(event.trial_id)}  continues: {event.reason}")

    def _report(self, row: TrialRow, event: TrialReported) -> None:
        first, *further = self.objectives
        row.curve[event.epoch - 1 :] = [event.value]
        row.epoch, row.value = event.epoch, (event.value, *(objective.value(event.metrics) for objective in further))
        if first.better(event.value, row.best[0] if row.best else None):
            row.best = row.value

    def _say_how_long(self, event: TrialReported) -> None:
        """Print, after the first epoch, the duration of the sweep at this pace without early stopping."""
        seconds = event.metrics.get("time/epoch_s")
        if self.planned is None or seconds is None or self.planned <= self._ended + 1:
            return
        at_once = max(1, sum(row.started for row in self._rows.values()))
        epochs = self._rows[event.trial_id].epochs
        total = (self.planned - self._ended) * epochs * seconds / at_once
        self._say(
            f"at the pace of the first epoch ({seconds:.1f} s) at most {about(total)} here: {self.planned} trials of "
            f"{epochs} epochs, {at_once} at a time"
        )

    def _end(self, row: TrialRow, event: TrialEnded) -> None:
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
        self.console.print(Text(line), soft_wrap=not self.console.is_terminal)  # a terminal wraps lines between words

    def _name(self, trial_id: str) -> str:
        return f"{trial_id} {trial_name(self._rows[trial_id].created)}" if trial_id in self._rows else trial_id

    def _count(self) -> str:
        return f"{self._ended}/{self.planned}" if self.planned is not None else str(self._ended)

    def lines(self) -> list[Text]:
        """Return the current lines of the live view."""
        view = View(
            planned=self.planned,
            elapsed_s=time.time() - self._began,
            metrics=objective_names(self.objectives),
            baseline=self._baseline,
            costs=cost_words(self._spent(), self._limits()),
            left_s=self._left_s(),
            doing=None if self._doing is None else f"{self._doing[0]} ({time.time() - self._doing[1]:.0f} s)",
        )
        return lines(list(self._rows.values()), self._best(), view, self.console.width)

    def _spent(self) -> dict[BudgetName, float]:
        """Return the seconds, GPU-hours and dollars so far; without dollars if a price is unknown."""
        now = time.time()
        spent: dict[BudgetName, float] = {"wall": self.wall_before_s + now - self._began}
        spent["gpu_hours"] = self._spending.gpu_hours(now)
        usd = self._spending.usd(now)
        return spent if usd is None else {**spent, "usd": usd}

    def _limits(self) -> dict[BudgetName, float]:
        """Return the budgets of the sweep file plus what ``agr extend`` added."""
        names: tuple[BudgetName, ...] = ("wall", "usd", "gpu_hours")
        limits = {name: getattr(self._budget, name) for name in names}
        added = self._steering.added_budget
        return {name: limit + added.get(name, 0.0) for name, limit in limits.items() if limit is not None}

    def _left_s(self) -> float | None:
        """Estimate the remaining time, in seconds, at the pace so far.

        Every open trial is assumed to take the mean number of epochs of the ended trials.
        """
        if self.planned is None or self._first_attempt is None or not self._epochs_done:
            return None
        rows = list(self._rows.values())
        ended = [row for row in rows if row.outcome is not None]
        usual = sum(row.epoch for row in ended) / len(ended) if ended else max(row.epochs for row in rows)
        live = [row for row in rows if row.outcome is None]
        to_come = sum(max(0.0, usual - row.epoch) for row in live) + max(0, self.planned - len(rows)) * usual
        return to_come * (time.time() - self._first_attempt) / self._epochs_done

    def _best(self) -> list[TrialRow]:
        """Return the representative trials of the best configurations, best first."""
        ranked = configurations(
            ((row.created.configuration, row) for row in self._rows.values()),
            seeds=self.sweep.seeds,
            confirm_seeds=self.sweep.confirm_seeds,
        )
        complete = [configuration for configuration in ranked if configuration.complete]
        first = nsmallest(_SHOWN_BEST, complete, key=lambda configuration: order(configuration, self.sweep.directions))
        return [row for configuration in first for row in configuration.judged][:_SHOWN_BEST]


def _is_new(event: Event) -> bool:
    """Return whether the event is recent; ``agr attach`` prints less for old events."""
    return time.time() - event.time < _NEW_S


def _shown(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def _epochs(created: TrialCreated) -> int:
    return int(created.config["schedule"]["epochs"])
