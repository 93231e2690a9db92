"""Handle failed attempts: another attempt, a smaller batch, a quarantined node, or the end of the sweep."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from orchestrator.journal.events import AttemptFailed, Event, NodeQuarantined
from orchestrator.journal.outcome import Cause
from orchestrator.sweep.decisions import Decisions, Stop
from orchestrator.sweep.live_state import LiveTrial, Standing
from orchestrator.sweep.reconfiguration import half_batch
from orchestrator.sweep.settings import SweepSettings

ALIKE_FAILURES = 3
"""Number of failures with the same error, of at least two trials and before any epoch, that stop the sweep."""

STOOD_STILL_S = 10.0
"""Delay of the driver's check of its trials, in seconds, above which the driver itself had stalled: in the storage, or
with a suspended machine."""

_OF_THE_NODE: Mapping[Cause, str] = {
    "disk_full": "no node with free disk space is left",
    "no_plugin": "no node with the sweep's plug-ins is left",
}
"""Causes for which a node alone is to blame, after one failure; and why the sweep ends if no other node is left."""

_UNCHARGED = ("node_lost", "moved", *_OF_THE_NODE)


def cause_of_lost_worker(*, node_lost: bool, hung: bool) -> Cause:
    """Return the cause of a failed attempt whose worker is gone; ``hung``: it was ended because it was silent.

    An unreachable node is silent too, and may be noticed later than its workers' silence.
    """
    if node_lost:
        return "node_lost"
    return "hung" if hung else "worker_died"


@dataclass
class Failures:
    """Failure handling of one sweep."""

    standing: Standing
    decisions: Decisions
    settings: SweepSettings
    record: Callable[[Event], None]
    fits_elsewhere: Callable[[str], bool]
    """Whether a node other than this one (ID), and none that is quarantined, could run a trial."""
    clock: Callable[[], float]
    _looked: float = field(default=math.inf, init=False)
    """Time of the last check of the running trials."""
    _listening_since: float = field(default=-math.inf, init=False)
    """Time of the driver's last stall: events may have been delayed, so silence counts from then at the earliest."""
    _hung: set[tuple[str, int]] = field(default_factory=set, init=False)
    """Attempts ended because they had not reported, by trial and number."""

    def attempt_failed(
        self, trial: LiveTrial, *, error: str, details: str = "", cause: Cause = "error", crowded: bool = False
    ) -> Literal["retry", "give up"]:
        """Handle an error of the current attempt; return whether there is to be another attempt.

        ``crowded``: the trial lacked memory because it shared its node with too many, and gets more now.
        """
        # A trial that reported an epoch fits: other trials took the memory.
        fits = crowded or trial.epoch > 0
        policy = self.settings.out_of_memory if cause == "out_of_memory" and not fits else "retry"
        policy = "infeasible" if cause == "unfit_model" else policy
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
        self.blame(trial, error, cause=cause)
        halved = half_batch(trial, reason=error, time=self.clock()) if policy == "halve_batch" else None
        if halved is not None:
            self.record(halved)
        elif policy != "retry":
            self.decisions.end_trial(trial.trial_id, "failed", f"infeasible: {error}")
            return "give up"
        if self.standing.live[trial.trial_id].charged > self.settings.retries:
            self.decisions.end_trial(trial.trial_id, "failed", error)
            return "give up"
        return "retry"

    def _is_charged(self, trial: LiveTrial, cause: Cause) -> bool:
        return cause not in _UNCHARGED and trial.node_id not in self.standing.health.quarantined

    def blame(self, trial: LiveTrial, error: str, *, cause: Cause = "error") -> None:
        """Attribute a failure to its node, which then gets no more trials, or to all trials alike.

        A full disk or a missing plug-in is no trial's fault, so one failure suffices; if no other node is left, the
        sweep ends before all trials fail, and every trial can be resumed.
        """
        unfit = cause in _OF_THE_NODE
        node_id, elsewhere = trial.node_id, self.fits_elsewhere(trial.node_id)
        health = self.standing.health
        suspect = health.is_suspect(node_id) or (unfit and node_id not in health.quarantined)
        if node_id and elsewhere and suspect:
            failures = health.failures(node_id)
            self.record(
                NodeQuarantined(time=self.clock(), node=trial.node, node_id=node_id, failures=failures, error=error)
            )
        elif unfit and self.decisions.stop is None and not (node_id and elsewhere):
            self._stop_sweep(f"{_OF_THE_NODE[cause]}: {error} Then resume the sweep.")
        alike = self.standing.alike.get(error, [])
        nodes, trials = {node for node, _ in alike if node}, {trial for _, trial in alike}
        # A broken node fails all its trials, which is clear only once another node has had its turn. One trial may fail
        # for its own reasons, which is clear only once another trial has had its turn.
        tried_enough = len(trials) > 1 and (len(nodes) > 1 or not elsewhere)
        if self.decisions.stop is None and len(alike) >= ALIKE_FAILURES and tried_enough:
            self._stop_sweep(f"the first trials failed with the same error: {error}")

    def _stop_sweep(self, reason: str) -> None:
        self.decisions.stop_sweep(Stop("failed", reason), self.standing.live)

    def newly_hung(self) -> list[LiveTrial]:
        """Return running trials that have been silent for longer than the limit; each once per attempt.

        While the driver itself stalled it received no reports, and the cause may have stalled the trials too. So their
        time restarts then.
        """
        limit, now = self.settings.report_limit_s, self.clock()
        stood_still, self._looked = now - self._looked > STOOD_STILL_S, now
        if limit is None:
            return []
        if stood_still:
            self._listening_since = now
        running = [trial for trial in self.standing.live.values() if trial.running and not self.is_hung(trial)]
        hung = [trial for trial in running if now - max(trial.heard, self._listening_since) > limit]
        self._hung.update((trial.trial_id, trial.attempt) for trial in hung)
        return hung

    def is_hung(self, trial: LiveTrial) -> bool:
        """Return whether the trial's current attempt was ended because it had not reported within the limit."""
        return (trial.trial_id, trial.attempt) in self._hung
