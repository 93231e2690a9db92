"""The pace of a sweep: durations of its trials and epochs, folded from its journal."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from orchestrator.journal.events import (
    AttemptStarted,
    DriverStarted,
    Event,
    TrialCreated,
    TrialEnded,
    TrialReopened,
    TrialReported,
    TrialResumed,
)
from orchestrator.stats.eta import Length

REMEMBERED = 500
"""Number of ended trials whose lengths are remembered, the newest."""

RECENT_S = 300.0
"""Epochs a minute are counted over this time, in seconds."""


@dataclass
class _Timed:
    """Times of a living trial."""

    model: str
    epochs: int
    """Number of epochs of its schedule."""
    seconds: float = 0.0
    """Time of its finished epochs, including the time before each."""
    heard: float | None = None
    """Start of its attempt, or end of its last epoch; None while it does not run."""
    done: int = 0


@dataclass
class Pace:
    """Durations of trials and epochs."""

    ended: deque[Length] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    live: dict[str, _Timed] = field(default_factory=dict)
    _epoch_s: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Seconds and number of the epochs of each model."""
    _reported: deque[float] = field(default_factory=lambda: deque(maxlen=10_000))
    _set_aside: dict[str, _Timed] = field(default_factory=dict)

    def apply(self, event: Event) -> None:
        """Apply a journalled event."""
        match event:
            case TrialCreated():
                self.live[event.trial_id] = _timed(event)
            case TrialReopened():
                self.live[event.trial_id] = _timed(event.created, done=event.epoch)
            case DriverStarted():
                for timed in self.live.values():
                    timed.heard = None
            case AttemptStarted() if event.trial_id in self.live:
                self.live[event.trial_id].heard = event.time
            case TrialReported() if event.trial_id in self.live:
                self._report(self.live[event.trial_id], event)
            case TrialEnded() if event.trial_id in self.live:
                timed = self.live.pop(event.trial_id)
                if event.resumable:
                    timed.heard = None
                    self._set_aside[event.trial_id] = timed
                elif event.outcome in ("completed", "pruned", "diverged"):
                    self.ended.append(Length(timed.done, timed.seconds))
            case TrialResumed() if event.trial_id in self._set_aside:
                self.live[event.trial_id] = self._set_aside.pop(event.trial_id)
            case _:
                pass

    def _report(self, timed: _Timed, event: TrialReported) -> None:
        if timed.heard is not None:
            seconds = max(0.0, event.time - timed.heard)
            timed.seconds += seconds
            total_s, number = self._epoch_s.get(timed.model, (0.0, 0))
            self._epoch_s[timed.model] = (total_s + seconds, number + 1)
        timed.heard, timed.done = event.time, max(timed.done, event.epoch)
        self._reported.append(event.time)

    @property
    def set_aside(self) -> list[Length]:
        """Progress of the trials that were ended for now."""
        return [Length(timed.done, timed.seconds) for timed in self._set_aside.values()]

    def epoch_s(self, model: str) -> float | None:
        """Return the mean seconds of an epoch of a model, else of all models; None before the first epoch."""
        if model in self._epoch_s:
            seconds, number = self._epoch_s[model]
        else:
            seconds = sum(seconds for seconds, _ in self._epoch_s.values())
            number = sum(number for _, number in self._epoch_s.values())
        return seconds / number if number else None

    def epochs_per_minute(self, now: float) -> float:
        """Return the epochs per minute over the last ``RECENT_S`` seconds."""
        recent = [time for time in self._reported if now - RECENT_S < time <= now]
        if not recent:
            return 0.0
        return 60 * len(recent) / max(1.0, min(RECENT_S, now - recent[0]))


def _timed(created: TrialCreated, done: int = 0) -> _Timed:
    model, schedule = created.config.get("model") or {}, created.config.get("schedule") or {}
    return _Timed(str(model.get("name", "")), int(schedule.get("epochs", 1)), done=done)
