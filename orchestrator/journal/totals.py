"""Counts of a sweep, from its events: trials by outcome, stages, reads of the test part, driver seconds."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.journal.annotations import is_annotation
from orchestrator.journal.events import (
    ControlReceived,
    DriverStarted,
    Event,
    StageReused,
    StageTrained,
    TestOpened,
    TestRead,
    TrialEnded,
    TrialReopened,
    TrialReported,
    TrialResumed,
)
from orchestrator.journal.outcome import OUTCOMES, Outcome

StageKind = Literal["trained", "reused"]


@dataclass
class Totals:
    """Counts that both folds of a journal keep: the driver's (``Standing``) and the readers' (``SweepState``)."""

    outcomes: Counter[Outcome] = field(default_factory=Counter)
    """Ended trials, by outcome."""
    stages: Counter[StageKind] = field(default_factory=Counter)
    test_reads: int = 0
    """Reads of the test part: announced ones, or in earlier journals, which announce none, completed ones."""
    _opened: set[tuple[str, str]] = field(default_factory=set)
    """Trial and label of each announced read."""

    def apply(self, event: Event) -> None:
        """Apply a journalled event."""
        match event:
            case TrialReported():  # nearly all events
                pass
            case TrialEnded():
                self.outcomes[event.outcome] += 1
            case TrialResumed():
                self.outcomes["interrupted"] -= 1
            case TrialReopened():
                self.outcomes[event.outcome] -= 1
            case StageTrained():
                self.stages["trained"] += 1
            case StageReused():
                self.stages["reused"] += 1
            case TestOpened():
                self._opened.update((event.trial_id, label) for label in event.labels)
                self.test_reads += 1
            case TestRead():
                self.test_reads += (event.trial_id, event.label) not in self._opened and event.is_of_test
            case _:
                pass

    def by_outcome(self) -> dict[Outcome, int]:
        """Return the number of ended trials by outcome, every outcome named."""
        return {outcome: self.outcomes[outcome] for outcome in OUTCOMES}

    def by_stage(self) -> dict[StageKind, int]:
        """Return the number of stages ``trained`` and ``reused``; empty in a sweep without stages."""
        return {"trained": self.stages["trained"], "reused": self.stages["reused"]} if self.stages else {}


@dataclass
class WallClock:
    """Run time of a sweep's drivers in seconds; the time between drivers does not count."""

    _before: float = 0.0
    _session: tuple[float, float] | None = None
    """Start and last event of the newest driver."""
    _paused_at: float | None = None
    _paused_s: float = 0.0

    def apply(self, event: Event) -> None:
        """Apply a journalled event."""
        if is_annotation(event):
            return
        if isinstance(event, DriverStarted):
            if self._session is not None:
                start, last = self._session
                # The last heartbeat of a killed driver may be hours younger than its last event.
                last = max(last, event.previous_heartbeat or last)
                self._before += last - start
                self._go_on(last)
            self._session = (event.time, event.time)
        elif self._session is not None:
            self._session = (self._session[0], event.time)
        if isinstance(event, ControlReceived) and not event.refused:
            if event.command == "pause" and self._paused_at is None:
                self._paused_at = event.time
            elif event.command == "resume":
                self._go_on(event.time)

    def _go_on(self, time: float) -> None:
        if self._paused_at is not None:
            self._paused_s += max(0.0, time - self._paused_at)
            self._paused_at = None

    @property
    def last_event(self) -> float | None:
        """Time of the newest driver's last event; None before the first driver."""
        return None if self._session is None else self._session[1]

    def seconds(self, now: float) -> float:
        """Return the seconds until ``now``, assuming that the newest driver has run until then."""
        if self._session is None:
            return 0.0
        until = now if self._paused_at is None else min(now, self._paused_at)
        return max(0.0, self._before + until - self._session[0] - self._paused_s)
