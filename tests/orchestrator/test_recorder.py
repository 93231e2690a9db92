"""Signs of life of a driver, also while it is at something else."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from orchestrator import recorder
from orchestrator.errors import StorageError
from orchestrator.lookup import read_summary
from sweeps import local, make_run, small_sweep

SWEEP = "small-20260101-000000-abcd"


def heartbeat(path: Path) -> float:
    return float(read_summary(local(path), SWEEP, now=time.time())["heartbeat"])


def wait_for_beats(path: Path, number: int) -> None:
    """Until there were so many further ones; the test's time-out ends it else."""
    for _ in range(number):
        last = heartbeat(path)
        while heartbeat(path) == last:
            time.sleep(0.01)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "HEARTBEAT_S", 0.05)


@pytest.mark.timeout(60)
def test_a_driver_gives_signs_of_life_while_it_is_at_something_else(tmp_path: Path, often: None) -> None:
    run = make_run(local(tmp_path), small_sweep())
    run.begin()
    created = run.next_trial(1)
    assert created is not None
    with run.recorder.beating():
        wait_for_beats(tmp_path, 3)
    assert read_summary(local(tmp_path), SWEEP, now=time.time())["trials"]["running"] == 0, "as at the last flush"


def test_once_the_sweep_is_let_go_nothing_is_written_over_its_last_summary(tmp_path: Path, often: None) -> None:
    run = make_run(local(tmp_path), small_sweep())
    run.begin()
    with run.recorder.beating():
        run.end("completed")
    last = heartbeat(tmp_path)
    time.sleep(0.2)
    summary = read_summary(local(tmp_path), SWEEP, now=time.time())
    assert (summary["status"], summary["heartbeat"]) == ("completed", last)


@pytest.mark.timeout(60)
def test_a_storage_that_fails_once_stops_no_signs_of_life(
    tmp_path: Path, often: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = make_run(local(tmp_path), small_sweep())
    run.begin()
    write, failures = run.storage.write, [StorageError("no room"), StorageError("no room")]

    def failing(*arguments: Any) -> None:
        if failures:
            raise failures.pop()
        write(*arguments)

    monkeypatch.setattr(run.storage, "write", failing)
    with run.recorder.beating():
        wait_for_beats(tmp_path, 2)
    assert caplog.text.count("no sign of life could be given: no room") == 2
