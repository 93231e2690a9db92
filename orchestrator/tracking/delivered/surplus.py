"""Duplicate runs: a creation that timed out here may succeed in the tracker, at once or later."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

from orchestrator.tracking.base import Tracker
from orchestrator.tracking.describe import SWEEP_ID

LATE_S = 60.0
"""Longest time after which a request without an answer may still take effect, in seconds."""

_log = logging.getLogger(__name__)


class SurplusRuns:
    """Remover of a sweep's duplicate runs; ``clock`` returns seconds."""

    def __init__(self, tracker: Tracker, sweep_id: str, clock: Callable[[], float]) -> None:
        self._tracker = tracker
        self._sweep_id = sweep_id
        self._clock = clock
        self._unanswered_at: float | None = None

    def request_unanswered(self) -> None:
        """Note that the tracker has not answered a request now."""
        self._unanswered_at = self._clock()

    @property
    def may_appear(self) -> bool:
        """Whether an unanswered request may still create a run that ``remove`` would have to find."""
        return self._unanswered_at is not None

    def remove(self, experiment_id: str, *, kept: Collection[str]) -> None:
        """Delete the sweep's runs whose IDs are not in ``kept``."""
        late = self._unanswered_at is not None and self._clock() - self._unanswered_at >= LATE_S
        for run in self._tracker.runs(experiment_id, {SWEEP_ID: self._sweep_id}):
            if run.run_id not in kept:
                _log.warning("Removing the duplicate run %s.", run.run_id)
                self._tracker.delete_run(run.run_id)
        if late:
            self._unanswered_at = None
