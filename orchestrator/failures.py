"""What becomes of attempts that fail: another attempt, a smaller batch, a quarantined node, or the end of the sweep."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.outcome import Cause
from orchestrator.reconfiguration import half_batch
from orchestrator.records import AttemptFailed, Event, NodeQuarantined
from orchestrator.standing import LiveTrial, Standing, Stop
from orchestrator.sweep_settings import SweepSettings

ALIKE_FAILURES = 3
"""So many failures with one and the same error, of two trials at least, before any reported an epoch stop the sweep."""

STOOD_STILL_S = 10.0
"""When the driver looks at its trials so late (seconds), it was itself held up: by the storage, by a machine asleep."""

_UNCHARGED = ("node_lost", "moved", "disk_full")


@dataclass
class Failures:
    """Judges the failures of one sweep."""

    standing: Standing
    settings: SweepSettings
    record: Callable[[Event], None]
    fits_elsewhere: Callable[[str], bool]
    """Whether a node other than this one (ID), and none that is quarantined, could run a trial."""
    clock: Callable[[], float]
    _looked: float = field(default=math.inf, init=False)
    """When the running trials were last looked at."""

    def attempt_failed(
        self, trial: LiveTrial, *, error: str, details: str = "", cause: Cause = "error", crowded: bool = False
    ) -> Literal["retry", "give up"]:
        """The current attempt ended by an error; says whether there is to be another.

        ``crowded``: it had less memory than it needs because it shared its node with too many, and gets more now.
        """
        # Once an epoch has been reported, its trial fits: it was others who took the memory.
        fits = crowded or trial.epoch > 0
        policy = self.settings.out_of_memory if cause == "out_of_memory" and not fits else "retry"
        self.record(
            AttemptFailed(
                time=self.clock(),
                trial_id=trial.trial_id,
                attempt=trial.attempt,
                error=error,
                details=details,
                cause=cause,
                charged=self._is_charged(trial, cause) and policy == "retry" and not crowded,
            )
        )
        self.blame(trial, error, disk_full=cause == "disk_full")
        halved = half_batch(trial, reason=error, time=self.clock()) if policy == "halve_batch" else None
        if halved is not None:
            self.record(halved)
        elif policy != "retry":
            trial.end_as("failed", f"infeasible: {error}")
            return "give up"
        if trial.charged > self.settings.retries:
            trial.end_as("failed", error)
            return "give up"
        trial.attempt += 1
        return "retry"

    def _is_charged(self, trial: LiveTrial, cause: Cause) -> bool:
        return cause not in _UNCHARGED and trial.node_id not in self.standing.health.quarantined

    def blame(self, trial: LiveTrial, error: str, *, disk_full: bool = False) -> None:
        """A failure may be the fault of its node, which is then given no more trials, or of all trials alike.

        A full disk is no trial's fault, so one is enough; and where no other node is left the sweep ends, with every
        trial to be resumed, before they all fail.
        """
        node_id, elsewhere = trial.node_id, self.fits_elsewhere(trial.node_id)
        health = self.standing.health
        suspect = health.is_suspect(node_id) or (disk_full and node_id not in health.quarantined)
        if node_id and elsewhere and suspect:
            failures = health.failures(node_id)
            self.record(
                NodeQuarantined(time=self.clock(), node=trial.node, node_id=node_id, failures=failures, error=error)
            )
        elif disk_full and self.standing.stop is None and not (node_id and elsewhere):
            self.standing.stop_all(
                Stop("failed", f"no node is left whose disk has room: {error} Then resume the sweep.")
            )
        alike = self.standing.alike.get(error, [])
        nodes, trials = {node for node, _ in alike if node}, {trial for _, trial in alike}
        # A single node fails all that it is given if it is broken: that is seen once another node has its turn. And one
        # trial may be the only one of its kind: that is seen once another trial has its turn.
        tried_enough = len(trials) > 1 and (len(nodes) > 1 or not elsewhere)
        if self.standing.stop is None and len(alike) >= ALIKE_FAILURES and tried_enough:
            self.standing.stop_all(Stop("failed", f"the first trials failed alike: {error}"))

    def newly_hung(self) -> list[LiveTrial]:
        """Running trials that have said nothing for longer than the limit; each is named once an attempt.

        What they said while the driver stood still it has not heard yet, and what held it up may have held them up. So
        their time begins anew then.
        """
        limit, now = self.settings.report_limit_s, self.clock()
        stood_still, self._looked = now - self._looked > STOOD_STILL_S, now
        if limit is None:
            return []
        running = [trial for trial in self.standing.live.values() if trial.running and not trial.hung]
        if stood_still:
            for trial in running:
                trial.heard = now
        hung = [trial for trial in running if now - trial.heard > limit]
        for trial in hung:
            trial.hung = True
        return hung
