"""Decisions of a running sweep's driver that no event records yet.

The journal records their effect: ``TrialEnded`` and ``SweepEnded``. A decision whose effect was not recorded is lost
with its driver; the next driver decides anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from orchestrator.journal.outcome import Outcome, SweepStatus


@dataclass(frozen=True)
class Stop:
    """A decision to end the sweep before its last trial."""

    status: SweepStatus
    reason: str


@dataclass(frozen=True)
class Ending:
    """A decision how a trial ends, by the trial itself, the budget or a user."""

    outcome: Outcome
    reason: str
    resumable: bool = False
    """Whether it ends only because the sweep does, and continues with the sweep."""


@dataclass
class Decisions:
    """All pending decisions of this driver; empty when it starts."""

    stop: Stop | None = None
    closed: str = ""
    """Why no further trial begins although some are left (running ones continue); empty if trials may begin."""
    endings: dict[str, Ending] = field(default_factory=dict)
    """Decided endings of living trials, by trial ID."""
    waiting: set[str] = field(default_factory=set)
    """Trials (IDs) that were ended for now because too many ran, and continue when there is room."""

    def end_trial(self, trial_id: str, outcome: Outcome, reason: str) -> None:
        """End a trial with this outcome, overriding earlier decisions."""
        self.endings[trial_id] = Ending(outcome, reason)

    def stop_sweep(self, stop: Stop, living: Iterable[str]) -> None:
        """End the sweep, and every living trial (ID) whose end is undecided."""
        self.stop = stop
        for trial_id in living:
            self.endings.setdefault(trial_id, Ending("interrupted", stop.reason, resumable=True))

    def end_for_now(self, trial_ids: Iterable[str], reason: str) -> None:
        """End trials that continue later, if their end is undecided."""
        for trial_id in trial_ids:
            self.endings.setdefault(trial_id, Ending("interrupted", reason, resumable=True))

    def keep_going(self) -> None:
        """Withdraw pending decisions that end trials for now."""
        self.endings = {trial_id: ending for trial_id, ending in self.endings.items() if not ending.resumable}

    def is_resumable(self, trial_id: str) -> bool:
        """Return whether the trial is to end only because the sweep does."""
        return trial_id in self.endings and self.endings[trial_id].resumable
