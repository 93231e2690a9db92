"""What becomes of attempts that fail: another attempt, a smaller batch, a quarantined node, or the end of the sweep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from orchestrator.outcome import Cause
from orchestrator.reconfiguration import half_batch
from orchestrator.records import AttemptFailed, Event, NodeQuarantined
from orchestrator.standing import LiveTrial, Standing, Stop
from orchestrator.sweep_settings import SweepSettings

ALIKE_FAILURES = 3
"""So many failures with one and the same error before any trial reported an epoch stop the sweep."""


@dataclass
class Failures:
    """Judges the failures of one sweep."""

    standing: Standing
    settings: SweepSettings
    record: Callable[[Event], None]
    fits_elsewhere: Callable[[str], bool]
    """Whether a node other than this one (ID), and none that is quarantined, could run a trial."""
    clock: Callable[[], float]

    def attempt_failed(
        self, trial: LiveTrial, *, error: str, details: str = "", cause: Cause = "error"
    ) -> Literal["retry", "give up"]:
        """The current attempt ended by an error; says whether there is to be another."""
        # Once an epoch has been reported, its trial fits: it was others who took the memory.
        policy = self.settings.out_of_memory if cause == "out_of_memory" and trial.epoch == 0 else "retry"
        self.record(
            AttemptFailed(
                time=self.clock(),
                trial_id=trial.trial_id,
                attempt=trial.attempt,
                error=error,
                details=details,
                cause=cause,
                charged=cause not in ("node_lost", "moved") and policy == "retry",
            )
        )
        self.blame(trial, error)
        halved = half_batch(trial, reason=error, time=self.clock()) if policy == "halve_batch" else None
        if halved is not None:
            self.record(halved)
        elif policy != "retry":
            trial.ending = ("failed", f"infeasible: {error}")
            return "give up"
        if trial.charged > self.settings.retries:
            trial.ending = ("failed", error)
            return "give up"
        trial.attempt += 1
        return "retry"

    def blame(self, trial: LiveTrial, error: str) -> None:
        """A failure may be the fault of its node, which is then given no more trials, or of all trials alike."""
        node_id, elsewhere = trial.node_id, self.fits_elsewhere(trial.node_id)
        health = self.standing.health
        if elsewhere and health.is_suspect(node_id):
            failures = health.failures(node_id)
            self.record(
                NodeQuarantined(time=self.clock(), node=trial.node, node_id=node_id, failures=failures, error=error)
            )
        alike = self.standing.alike.get(error, [])
        # A single node fails all that it is given if it is broken: that is seen once another node has its turn.
        tried_enough = len(set(alike) - {""}) > 1 or not elsewhere
        if self.standing.stop is None and len(alike) >= ALIKE_FAILURES and tried_enough:
            self.standing.stop_all(Stop("failed", f"the first trials failed alike: {error}"))

    def newly_hung(self) -> list[LiveTrial]:
        """Running trials that have said nothing for longer than the limit; each is named once an attempt."""
        limit, now = self.settings.report_limit_s, self.clock()
        if limit is None:
            return []
        hung = [t for t in self.standing.live.values() if t.running and not t.hung and now - t.heard > limit]
        for trial in hung:
            trial.hung = True
        return hung
