"""The tracker: where people browse results. MLflow is one; the journal stays the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class MetricPoint:
    """One point of one curve: ``step`` is the epoch, ``time`` seconds since the epoch."""

    name: str
    value: float
    step: int
    time: float


class Tracker(Protocol):
    """Experiments hold runs; a run has params, metrics, tags and artifacts. Runs are known by a key of ours.

    Every method is idempotent: called again with the same arguments it changes nothing and doubles nothing. A server
    that refuses or does not answer raises ``TrackerError``; the caller tries again later.
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
        """ID of the one run whose tags include all of ``key``, made if there is none."""
        ...

    def find_run(self, experiment_id: str, key: Mapping[str, str]) -> str | None:
        """ID of the run whose tags include all of ``key``, or None."""
        ...

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Sequence[MetricPoint] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Add params, points and tags to a run, in as few calls as the tracker allows."""
        ...

    def log_artifact(self, run_id: str, path: Path, folder: str = "") -> None:
        """Store a file under the run."""
        ...

    def end(self, run_id: str, *, status: str, time: float) -> None:
        """Close a run: ``FINISHED``, ``FAILED`` or ``KILLED``."""
        ...
