"""The tracker: where people browse results. MLflow is one; the journal stays the record."""

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
class TrackedRun:
    """A run as the tracker has it."""

    run_id: str
    status: RunStatus
    tags: Mapping[str, str] = field(default_factory=dict)


class Tracker(Protocol):
    """Experiments hold runs; a run has params, metrics, tags and artifacts. Runs are known by a key of ours.

    Every method is idempotent: called again with the same arguments it changes nothing and doubles nothing. A server
    that does not answer, or not in time, raises ``TrackerUnavailableError``: try again later. One that refuses raises
    another ``TrackerError``: the same call will be refused again. No text of an error holds a credential.
    """

    @property
    def uri(self) -> str:
        """Address without credentials."""
        ...

    def check(self) -> None:
        """Raise ``TrackerError``, saying how to fix it, unless the tracker answers."""
        ...

    def experiment(self, name: str) -> str:
        """ID of the experiment of that name, made if need be."""
        ...

    def find_experiment(self, name: str) -> str | None:
        """ID of the experiment of that name, or None."""
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
    ) -> str:
        """ID of the one run whose tags include all of ``key``, made if there is none.

        A creation that timed out may still happen later: where several runs have the key, it is the one with most data.
        """
        ...

    def find_run(self, experiment_id: str, key: Mapping[str, str]) -> str | None:
        """ID of the run whose tags include all of ``key``, or None."""
        ...

    def runs(self, experiment_id: str, tags: Mapping[str, str]) -> list[TrackedRun]:
        """All runs of an experiment whose tags include all of ``tags``, those with most data first."""
        ...

    def get_run(self, run_id: str) -> TrackedRun | None:
        """The run of that ID, or None."""
        ...

    def delete_run(self, run_id: str) -> None:
        """Remove a run from sight; no error if that was done before."""
        ...

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Sequence[MetricPoint] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Add params, points and tags to a run, in as few calls as the tracker allows.

        A param keeps its value: another one for it raises ``TrackerError``. Values that are longer than the tracker
        takes end in a remark that says so.
        """
        ...

    def log_artifact(self, run_id: str, path: Path, folder: str = "") -> None:
        """Store a file, or all that is in a folder, under the run."""
        ...

    def end(self, run_id: str, *, status: RunStatus, time: float) -> None:
        """Close a run: ``FINISHED``, ``FAILED`` or ``KILLED``."""
        ...

    def reopen(self, run_id: str) -> None:
        """Make a closed run ``RUNNING`` again."""
        ...
