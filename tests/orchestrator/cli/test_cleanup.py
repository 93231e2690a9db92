"""agr gc and agr rm."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from orchestrator.catalog.ownership import boot_id
from orchestrator.journal.events import DriverStarted
from orchestrator.storage import layout
from orchestrator.tracking import open_tracker
from orchestrator.tracking.delivery import Syncer

Agr = Callable[..., Result]
Recorder = Callable[..., Any]


def with_weights(sweep: Any, values: list[float]) -> list[str]:
    trials = [sweep.trial(number, [value]) for number, value in enumerate(values)]
    for trial in trials:
        sweep.storage.write(layout.best_weights(layout.attempt(sweep.sweep_id, trial, 0), 1), b"x" * 1_000_000)
    return trials


def weights(sweep: Any) -> int:
    return sum("/best/" in info.key for info in sweep.storage.list(layout.SWEEPS))


def test_gc_says_what_it_would_free_and_then_frees_it(record_sweep: Recorder, agr: Agr) -> None:
    sweep = record_sweep()
    with_weights(sweep, [5.0, 6.0, 7.0])
    sweep.end()
    assert "2.0 MB could be freed" in agr("gc", "--keep", "1", "--dry-run").stdout
    assert weights(sweep) == 3
    assert f"{sweep.sweep_id}  2.0 MB" in agr("gc", "--keep", "1").stdout
    assert weights(sweep) == 1
    assert "0.0 MB freed" in agr("gc", "--keep", "1").stdout


def test_gc_keeps_as_many_as_the_sweep_says(record_sweep: Recorder, agr: Agr) -> None:
    document = {"name": "faces", "search": {"algorithm": "random", "trials": 3}, "keep_checkpoints": 2}
    sweep = record_sweep(document=document)
    with_weights(sweep, [5.0, 6.0, 7.0])
    sweep.end()
    agr("gc")
    assert weights(sweep) == 2


def test_gc_lists_what_no_sweep_refers_to_and_removes_it_where_asked(record_sweep: Recorder, agr: Agr) -> None:
    sweep = record_sweep()
    sweep.trial(0, [5.0])
    sweep.end()
    for digest in ("d" * 64, "1" * 64):  # the first one is the trial's
        sweep.storage.write(f"{layout.dataset(digest)}/manifest.json", b"x" * 2_000_000)

    listed, tried = agr("gc"), agr("gc", "--unreferenced", "--dry-run")

    line = "unreferenced data sets  2.0 MB  111111111111"
    assert line in listed.stdout
    assert "0.0 MB freed" in listed.stdout
    assert "`agr gc --unreferenced` removes them" in listed.stderr
    assert line in tried.stdout
    assert "2.0 MB could be freed" in tried.stdout
    assert sweep.storage.folders(layout.DATASETS) == ("1" * 64, "d" * 64)
    assert "2.0 MB freed" in agr("gc", "--unreferenced").stdout
    assert sweep.storage.folders(layout.DATASETS) == ("d" * 64,)


def test_gc_and_rm_leave_a_running_sweep_alone(record_sweep: Recorder, agr: Agr) -> None:
    sweep = record_sweep()
    with_weights(sweep, [5.0, 6.0])
    sweep.record(
        DriverStarted(
            time=time.time(), driver_id="1", host=socket.gethostname(), boot=boot_id(), pid=os.getpid(), resumed=True
        )
    )
    assert "is running; skipped" in agr("gc", "--keep", "1").stderr
    assert "is being run by process" in agr("rm", "faces", "--yes", code=1).stderr
    assert weights(sweep) == 2


def test_gc_frees_the_other_sweeps_where_one_cannot_be_read_and_nothing_shared(
    record_sweep: Recorder, agr: Agr
) -> None:
    broken, fine = record_sweep("a-20260102-030405-abcd"), record_sweep("b-20260102-030405-abcd")
    broken.storage.write(layout.segment(broken.sweep_id, 3), b"{garbage")
    with_weights(fine, [5.0, 6.0, 7.0])
    fine.end()
    shared = layout.dataset("1" * 64)
    fine.storage.write(f"{shared}/manifest.json", b"x")  # the broken sweep may have trained on it

    result = agr("gc", "--keep", "1", "--unreferenced", code=1)

    assert f"{fine.sweep_id}  2.0 MB" in result.stdout
    assert weights(fine) == 1
    assert f"{broken.sweep_id} skipped: " in result.stderr
    assert f"error: 1 sweeps cannot be read: {broken.sweep_id}." in result.stderr
    assert fine.storage.exists(f"{shared}/manifest.json")


def test_an_interrupted_removal_of_a_sweep_that_never_ended_can_be_given_again(
    record_sweep: Recorder, agr: Agr, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its driver, on another machine, was killed; the first `agr rm` has come as far as the summary."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    sweep = record_sweep()
    sweep.storage.delete(layout.summary(sweep.sweep_id))
    sweep.fall_silent()
    assert agr("gc").exit_code == 0
    agr("rm", "faces", "--yes")
    assert list(sweep.storage.list("")) == []


@pytest.mark.parametrize("number", [1, 2])
def test_a_sweep_whose_journal_cannot_be_read_can_be_removed(
    record_sweep: Recorder, agr: Agr, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    sweep = record_sweep()
    sweep.end()
    sweep.storage.write(layout.segment(sweep.sweep_id, number), b"")
    agr("rm", "faces", "--yes", code=1)  # something was written a moment ago
    sweep.fall_silent()

    result = agr("rm", "faces", "--yes")

    assert "Removing it nevertheless" in result.stderr
    assert ("the runs stay" in result.stderr) == (number == 1)
    assert list(sweep.storage.list("")) == []


def test_without_its_first_segment_a_sweep_keeps_its_data(record_sweep: Recorder, agr: Agr) -> None:
    """`gc --unreferenced` took such a sweep for one that is being removed, and deleted what it needs."""
    sweep = record_sweep()
    sweep.trial(0, [3.0, 2.0])
    sweep.end()
    data = f"{layout.dataset('d' * 64)}/manifest.json"
    sweep.storage.write(data, b"{}")
    sweep.storage.delete(layout.segment(sweep.sweep_id, 1))
    for summary in (True, False):
        if not summary:
            sweep.storage.delete(layout.summary(sweep.sweep_id))
        assert "segment 1 of sweep" in agr("gc", "--unreferenced", code=1).stderr
        assert sweep.storage.exists(data)


def test_a_removed_sweep_leaves_nothing_that_looks_like_one_about_to_start(
    record_sweep: Recorder, agr: Agr, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    sweep = record_sweep()
    sweep.end()
    for left in (layout.submission(sweep.sweep_id), layout.start(sweep.sweep_id)):
        sweep.storage.write(left, b"{}")

    agr("rm", "faces", "--yes")

    assert list(sweep.storage.list("")) == []
    agr("gc", "--unreferenced")


def test_a_removed_sweep_is_gone_from_storage_and_mlflow_and_sync_does_not_bring_it_back(
    record_sweep: Recorder,
    agr: Agr,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    empty_mlflow_database: Path,
) -> None:
    uri = f"sqlite:///{shutil.copy(empty_mlflow_database, tmp_path / 'mlflow.db')}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    gone, stays = record_sweep("gone-20260102-030405-abcd"), record_sweep("stays-20260102-030405-abcd")
    tracker = open_tracker(uri, tmp_path / "artifacts")
    for sweep in (gone, stays):
        with_weights(sweep, [5.0])
        sweep.end()
        Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()

    assert "2 runs in MLflow" in agr("rm", "gone", "--yes").stdout

    agr("sync")
    assert [info.key for info in gone.storage.list(layout.sweep(gone.sweep_id))] == []
    assert gone.sweep_id not in agr("list").stdout
    assert stays.sweep_id in agr("list").stdout
    experiment = tracker.find_experiment("faces")
    assert experiment is not None
    assert {run.tags["agr.sweep_id"] for run in tracker.runs(experiment, {})} == {stays.sweep_id}


def test_rm_asks_first(record_sweep: Recorder, agr: Agr) -> None:
    sweep = record_sweep()
    with_weights(sweep, [5.0])
    sweep.end()
    assert "permanently?" in agr("rm", "faces", code=1).stderr
    assert weights(sweep) == 1
