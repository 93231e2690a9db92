"""The tracker interface, implemented for MLflow; the journal stays the record."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from orchestrator.errors import TrackerError

RunStatus = Literal["RUNNING", "FINISHED", "FAILED", "KILLED"]
"""MLflow's words."""

_METRIC_NAME = re.compile(r"[A-Za-z0-9_\-.: ]+(/[A-Za-z0-9_\-.: ]+)*")


@dataclass(frozen=True)
class MetricPoint:
    """One point of one curve: ``step`` is the epoch, ``time`` seconds since the epoch."""

    name: str
    value: float
    step: int
    time: float

    def __post_init__(self) -> None:
        if not _METRIC_NAME.fullmatch(self.name) or len(self.name) > 250:
            raise TrackerError(
                f"MLflow takes no metric named {self.name!r}: use letters, digits, _ - . : space and single slashes, "
                "at most 250 of them."
            )
        if not math.isfinite(self.value):
            raise TrackerError(
                f"metric {self.name!r} of epoch {self.step} is {self.value}; leave undefined metrics out."
            )


@dataclass(frozen=True)
class TrackedData:
    """A data set as an input of a run: ``digest`` has at most 36 characters."""

    name: str
    digest: str
    source: str
    """Its address, without credentials."""


@dataclass(frozen=True)
class TrackedRun:
    """A run in the tracker."""

    run_id: str
    status: RunStatus
    tags: Mapping[str, str] = field(default_factory=dict)

    def is_closed(self, status: RunStatus, tags: Mapping[str, str]) -> bool:
        """Return whether it has ended with this status and all of these tags."""
        return self.status == status and tags.items() <= self.tags.items()


class Tracker(Protocol):
    """Experiments hold runs; a run has params, metrics, tags and artifacts. Runs are identified by a key of ours.

    Every method is idempotent: a repeated call with the same arguments changes and duplicates nothing. A server
    that does not answer, or not in time, raises ``TrackerUnavailableError``: try again later. One that refuses raises
    another ``TrackerError``: the same call will be refused again. No text of an error holds a credential.
    """

    @property
    def uri(self) -> str:
        """Address without credentials."""
        ...

    def check(self) -> None:
        """Raise ``TrackerError`` with a way out unless the tracker answers."""
        ...

    def experiment(self, name: str) -> str:
        """Return the ID of the experiment of that name, created if missing."""
        ...

    def find_experiment(self, name: str) -> str | None:
        """Return the ID of the experiment of that name, or None."""
        ...

    def set_experiment_tags(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of an experiment."""
        ...

    def run(
        self,
        experiment_id: str,
        key: Mapping[str, str],
        *,
        name: str,
        start_time: float,
        parent_run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
        is_new: bool = False,
    ) -> str:
        """Return the ID of the only run whose tags include all of ``key``, created if missing.

        A creation that timed out may still happen later: of several runs with the key, the one with most data counts.

        Args:
            experiment_id: Experiment of the run.
            key: Tags that identify it.
            name: Its name, if it is created.
            start_time: Its start in seconds since 1970, if it is created.
            parent_run_id: Its parent, if it is created.
            tags: Further tags, if it is created.
            is_new: Whether the caller knows that there is no such run. The search takes longer the more runs there are.
        """
        found = None if is_new else self.find_run(experiment_id, key)
        if found is not None:
            return found
        parent = {} if parent_run_id is None else {"mlflow.parentRunId": parent_run_id}
        return self.create_run(experiment_id, name, start_time, {**(tags or {}), **key, **parent})

    def create_run(self, experiment_id: str, name: str, start_time: float, tags: dict[str, str]) -> str:
        """Create a run, whatever others there are; return its ID. Not idempotent: ``run`` is."""
        ...

    def find_run(self, experiment_id: str, key: Mapping[str, str]) -> str | None:
        """Return the ID of the run whose tags include all of ``key``, or None."""
        found = self.runs(experiment_id, key)
        return found[0].run_id if found else None

    def runs(self, experiment_id: str, tags: Mapping[str, str]) -> list[TrackedRun]:
        """Return all runs of an experiment whose tags include all of ``tags``, those with most data first."""
        ...

    def get_run(self, run_id: str) -> TrackedRun | None:
        """Return the run of that ID, or None."""
        ...

    def delete_run(self, run_id: str) -> None:
        """Hide a run; a repeated call is no error."""
        ...

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Sequence[MetricPoint] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Add params, points and tags to a run, in as few requests as the tracker allows.

        A param keeps its value: another one for it raises ``TrackerError``. Values longer than the tracker's limit are
        cut and end in a remark.
        """
        ...

    def log_data(self, run_id: str, data: Sequence[TrackedData]) -> None:
        """Show data sets as the inputs of a run."""
        ...

    def log_artifact(self, run_id: str, path: Path, folder: str = "") -> None:
        """Store a file, or all files of a folder, under the run."""
        ...

    def note_sizes(self) -> None:
        """Let a database without a server note how large its tables are: by that it plans its queries."""

    def end(self, run_id: str, *, status: RunStatus, time: float) -> None:
        """Close a run: ``FINISHED``, ``FAILED`` or ``KILLED``."""
        ...

    def reopen(self, run_id: str) -> None:
        """Make a closed run ``RUNNING`` again."""
        ...


def answers(tracker: Tracker) -> bool:
    """Return whether the tracker answers: then a request that failed did so by itself."""
    try:
        tracker.check()
    except TrackerError:
        return False
    return True
