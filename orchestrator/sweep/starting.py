"""Restart trials before new ones begin: those of an earlier driver, reopened ones, those set aside for others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from orchestrator.journal.events import Event, TrialResumed
from orchestrator.sweep.decisions import Decisions
from orchestrator.sweep.live_state import LiveTrial, Standing
from orchestrator.sweep.proposals import Proposals


@dataclass
class Starting:
    """Queue of begun trials that need a worker again."""

    standing: Standing
    decisions: Decisions
    proposals: Proposals
    record: Callable[[Event], None]
    clock: Callable[[], float]
    unstarted: list[str] = field(default_factory=list, init=False)
    """Living trials (IDs) without a worker, in order."""
    slots: int = field(default=0, init=False)
    """Slots of the cluster at the last request for a trial."""

    def restart(self, trial_id: str) -> None:
        """Queue a reopened trial."""
        self.unstarted.append(trial_id)

    def next_restart(self, slots: int) -> LiveTrial | None:
        """Return the next queued trial; None if there is none, or no room for it."""
        self.slots = slots
        if self.standing.steering.paused:
            return None
        room = self.proposals.room(slots)
        if room < slots and len(self.standing.live) - len(self.unstarted) >= room:
            return None
        ready = self.decisions.waiting & self.standing.interrupted.keys()
        if not self.unstarted and ready:
            trial_id = min(ready, key=lambda waiting_id: self.standing.interrupted[waiting_id].created.number)
            self.decisions.waiting.discard(trial_id)
            self.record(TrialResumed(time=self.clock(), trial_id=trial_id))
            self.restart(trial_id)
        while self.unstarted:
            trial = self.standing.live.get(self.unstarted.pop(0))
            if trial is not None:  # else it was ended before it could start
                return trial
        return None

    @property
    def over(self) -> bool:
        """Whether no further trial will start."""
        if self.decisions.stop is not None:
            return True
        return self.proposals.over and not self.unstarted and not self.decisions.waiting

    def surplus(self) -> list[str]:
        """Return the newest living trials (IDs) beyond the maximum number of concurrent trials."""
        going = [trial_id for trial_id in self.standing.live if trial_id not in self.unstarted]
        return going[self.proposals.room(self.slots) :] if self.slots else []
