"""A tracker in this process's memory, with MLflow's manners: for tests, and to see what would be written."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.errors import TrackerError
from orchestrator.tracking.base import MetricPoint, RunStatus, TrackedRun


@dataclass
class MemoryRun:
    """A run: params, points in order of logging, tags, artifacts by path."""

    experiment_id: str
    name: str
    start_time: float
    tags: dict[str, str]
    status: RunStatus = "RUNNING"
    end_time: float | None = None
    params: dict[str, Any] = field(default_factory=dict)
    metrics: list[MetricPoint] = field(default_factory=list)
    artifacts: dict[str, bytes] = field(default_factory=dict)

    def curve(self, name: str) -> dict[int, float]:
        """One metric's values by step."""
        return {point.step: point.value for point in self.metrics if point.name == name}


class MemoryTracker:
    """Experiments and runs, kept in ``experiment_tags`` and ``all_runs`` for reading."""

    def __init__(self) -> None:
        self.experiments: dict[str, str] = {}  # name -> ID
        self.experiment_tags: dict[str, dict[str, str]] = {}
        self.all_runs: dict[str, MemoryRun] = {}

    @property
    def uri(self) -> str:
        """Not an address anyone can open."""
        return "memory:"

    def check(self) -> None:
        """Memory always answers."""

    def experiment(self, name: str) -> str:
        """ID of the experiment of that name, made if need be."""
        return self.experiments.setdefault(name, str(len(self.experiments) + 1))

    def find_experiment(self, name: str) -> str | None:
        """ID of the experiment of that name, or None."""
        return self.experiments.get(name)

    def set_experiment_tags(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of an experiment."""
        self.experiment_tags.setdefault(experiment_id, {}).update(tags)

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
        found = self.find_run(experiment_id, key)
        if found is not None:
            return found
        run_id = uuid.uuid4().hex
        parent = {} if parent_run_id is None else {"mlflow.parentRunId": parent_run_id}
        self.all_runs[run_id] = MemoryRun(experiment_id, name, start_time, {**(tags or {}), **key, **parent})
        return run_id

    def find_run(self, experiment_id: str, key: Mapping[str, str]) -> str | None:
        """ID of the run whose tags include all of ``key``, or None."""
        found = self.runs(experiment_id, key)
        return found[0].run_id if found else None

    def runs(self, experiment_id: str, tags: Mapping[str, str]) -> list[TrackedRun]:
        """All runs of an experiment whose tags include all of ``tags``, those with most data first."""
        found = [
            (run_id, run)
            for run_id, run in self.all_runs.items()
            if run.experiment_id == experiment_id and tags.items() <= run.tags.items()
        ]
        found.sort(key=lambda item: (-len(item[1].metrics) - len(item[1].params), item[0]))
        return [TrackedRun(run_id, run.status, dict(run.tags)) for run_id, run in found]

    def get_run(self, run_id: str) -> TrackedRun | None:
        """The run of that ID, or None."""
        run = self.all_runs.get(run_id)
        return None if run is None else TrackedRun(run_id, run.status, dict(run.tags))

    def delete_run(self, run_id: str) -> None:
        """Remove a run; no error if that was done before."""
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

    def log_artifact(self, run_id: str, path: Path, folder: str = "") -> None:
        """Store a file, or all that is in a folder, under the run."""
        paths = (
            {path.name: path}
            if path.is_file()
            else {str(p.relative_to(path)): p for p in path.rglob("*") if p.is_file()}
        )
        for name, file in paths.items():
            self._run(run_id).artifacts[f"{folder}/{name}" if folder else name] = file.read_bytes()

    def end(self, run_id: str, *, status: RunStatus, time: float) -> None:
        """Close a run."""
        run = self._run(run_id)
        run.status, run.end_time = status, time

    def reopen(self, run_id: str) -> None:
        """Make a closed run ``RUNNING`` again."""
        self._run(run_id).status = "RUNNING"

    def _run(self, run_id: str) -> MemoryRun:
        if run_id not in self.all_runs:
            raise TrackerError(f"there is no run {run_id}.")
        return self.all_runs[run_id]
