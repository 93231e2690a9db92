"""In-memory tracker that behaves like MLflow; the contract tests cover both."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.errors import TrackerError
from orchestrator.tracking.base import MetricPoint, RunStatus, TrackedData, TrackedRun, Tracker


@dataclass
class MemoryRun:
    """Run with its params, points in order of logging, tags, and artifacts by path."""

    experiment_id: str
    name: str
    start_time: float
    tags: dict[str, str]
    status: RunStatus = "RUNNING"
    end_time: float | None = None
    params: dict[str, Any] = field(default_factory=dict)
    metrics: list[MetricPoint] = field(default_factory=list)
    artifacts: dict[str, bytes] = field(default_factory=dict)
    data: list[TrackedData] = field(default_factory=list)

    def curve(self, name: str) -> dict[int, float]:
        """Return the values of a metric by step."""
        return {point.step: point.value for point in self.metrics if point.name == name}


class MemoryTracker(Tracker):
    """Tracker whose contents can be read from ``experiment_tags`` and ``all_runs``."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}  # name -> ID
        self.experiment_tags: dict[str, dict[str, str]] = {}
        self.all_runs: dict[str, MemoryRun] = {}
        self._numbers = itertools.count(1)

    def _new_id(self) -> str:
        """Return an ID not ordered by time, like MLflow's, but reproducible across processes."""
        return hashlib.md5(str(next(self._numbers)).encode(), usedforsecurity=False).hexdigest()

    @property
    def uri(self) -> str:
        """URI for messages; it cannot be opened."""
        return "memory:"

    def check(self) -> None:
        """Do nothing: memory is always available."""

    def experiment(self, name: str) -> str:
        """Return the ID of the experiment of that name, created if needed."""
        return self.experiments.setdefault(name, str(len(self.experiments) + 1))

    def find_experiment(self, name: str) -> str | None:
        """Return the ID of the experiment of that name, or None."""
        return self.experiments.get(name)

    def set_experiment_tags(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of an experiment."""
        self.experiment_tags.setdefault(experiment_id, {}).update(tags)

    def create_run(self, experiment_id: str, name: str, start_time: float, tags: dict[str, str]) -> str:
        """Create a run; return its ID."""
        run_id = self._new_id()
        self.all_runs[run_id] = MemoryRun(experiment_id, name, start_time, tags)
        return run_id

    def runs(self, experiment_id: str, tags: Mapping[str, str]) -> list[TrackedRun]:
        """Return all runs of an experiment whose tags include all of ``tags``, those with most data first."""
        matching = [
            (run_id, run)
            for run_id, run in self.all_runs.items()
            if run.experiment_id == experiment_id and tags.items() <= run.tags.items()
        ]
        matching.sort(key=lambda item: (-len(item[1].metrics) - len(item[1].params), item[0]))
        return [TrackedRun(run_id, run.status, dict(run.tags)) for run_id, run in matching]

    def get_run(self, run_id: str) -> TrackedRun | None:
        """Return the run of that ID, or None."""
        run = self.all_runs.get(run_id)
        return None if run is None else TrackedRun(run_id, run.status, dict(run.tags))

    def delete_run(self, run_id: str) -> None:
        """Delete a run; no error if it is already deleted."""
        self.all_runs.pop(run_id, None)

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Sequence[MetricPoint] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Add params, points and tags to a run."""
        run = self._run(run_id)
        for name, value in (params or {}).items():
            if run.params.setdefault(name, value) != value:
                raise TrackerError(
                    f"param {name!r} of run {run_id} is {run.params[name]!r} and stays so, not {value!r}."
                )
        run.metrics.extend(point for point in metrics if point not in run.metrics)
        run.tags.update(tags or {})

    def log_data(self, run_id: str, data: Sequence[TrackedData]) -> None:
        """Add data sets as inputs of a run."""
        run = self._run(run_id)
        run.data.extend(data_set for data_set in data if data_set not in run.data)

    def log_artifact(self, run_id: str, path: Path, folder: str = "") -> None:
        """Store a file, or the contents of a folder, under the run."""
        paths = (
            {path.name: path}
            if path.is_file()
            else {str(p.relative_to(path)): p for p in path.rglob("*") if p.is_file()}
        )
        for name, file in paths.items():
            self._run(run_id).artifacts[f"{folder}/{name}" if folder else name] = file.read_bytes()

    def note_sizes(self) -> None:
        """Do nothing: there is no database."""

    def end(self, run_id: str, *, status: RunStatus, time: float) -> None:
        """Close a run."""
        run = self._run(run_id)
        run.status, run.end_time = status, time

    def reopen(self, run_id: str) -> None:
        """Set a closed run to ``RUNNING`` again."""
        self._run(run_id).status = "RUNNING"

    def _run(self, run_id: str) -> MemoryRun:
        if run_id not in self.all_runs:
            raise TrackerError(f"there is no run {run_id}.")
        return self.all_runs[run_id]
