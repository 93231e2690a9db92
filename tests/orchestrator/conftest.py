"""Fixtures: a recorded sweep with every outcome, the contents of an in-memory tracker, and both kinds of storage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.simulation.memory_tracker import MemoryRun, MemoryTracker
from orchestrator.storage import Storage, open_storage

Recorder = Callable[..., Any]


def run_of(tracker: MemoryTracker, trial_id: str) -> MemoryRun:
    runs = [run for run in tracker.all_runs.values() if run.tags.get("agr.trial_id") == trial_id]
    assert len(runs) == 1
    return runs[0]


def parent_of(tracker: MemoryTracker) -> tuple[str, MemoryRun]:
    sweep_runs = [(run_id, run) for run_id, run in tracker.all_runs.items() if run.tags["agr.kind"] == "sweep"]
    assert len(sweep_runs) == 1
    return sweep_runs[0]


def contents(tracker: MemoryTracker) -> list[Any]:
    """Return all visible contents without run IDs."""
    runs = []
    for run in tracker.all_runs.values():
        tags = {name: value for name, value in run.tags.items() if name != "mlflow.parentRunId"}
        points = sorted((point.name, point.step, point.value, point.time) for point in run.metrics)
        runs.append([run.name, run.status, run.start_time, run.end_time, tags, run.params, points, run.artifacts])
    return sorted(runs, key=lambda run: run[0])


def whole_sweep(record_sweep: Recorder, **more: Any) -> Any:
    sweep = record_sweep(**more)
    sweep.trial(0, [9.0, 7.0, 8.0], params={"model.name": "resnet10t", "optimizer.name": "nadam", "optimizer.lr": 0.01})
    sweep.trial(1, [12.0], "pruned", params={"model.name": "basic_cnn", "optimizer.name": "sgd"})
    onehot = {"model.name": "resnet10t", "age.encoding": "onehot", "age.bins": "utk4"}
    sweep.trial(2, [6.0, 5.0], params=onehot, files=True)
    sweep.trial(3, [], "failed", params={"model.name": "basic_cnn"})
    sweep.end()
    return sweep


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.services)])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """Return a folder storage and, if servers may be started, an S3 bucket."""
    if request.param == "local":
        return open_storage(str(tmp_path / "storage"))
    return open_storage(request.getfixturevalue("s3_uri"))
