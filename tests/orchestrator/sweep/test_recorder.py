"""Signs of life of a driver, also while it is at something else."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from orchestrator.catalog.summary import read_summary
from orchestrator.errors import StorageError
from orchestrator.journal.segments import read_state
from orchestrator.sweep import recorder
from tests.parts.sweeps import Clock, local, make_run, small_sweep

SWEEP = "small-20260101-000000-abcd"


def heartbeat(path: Path) -> float:
    return read_summary(local(path), SWEEP).heartbeat


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
    assert read_summary(local(tmp_path), SWEEP).trials.running == 0, "as at the last flush"


def test_once_the_sweep_is_let_go_nothing_is_written_over_its_last_summary(tmp_path: Path, often: None) -> None:
    run = make_run(local(tmp_path), small_sweep())
    run.begin()
    with run.recorder.beating():
        run.end("completed")
    last = heartbeat(tmp_path)
    time.sleep(0.2)
    summary = read_summary(local(tmp_path), SWEEP)
    assert (summary.status, summary.heartbeat) == ("completed", last)


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
    assert caplog.text.count("the heartbeat could not be written: no room") == 2


def test_events_are_stored_a_second_later_at_the_latest(tmp_path: Path) -> None:
    clock = Clock()
    run = make_run(local(tmp_path), small_sweep(), clock=clock)
    run.begin()
    created = run.next_trial(1)
    assert created is not None
    run.flush()
    run.attempt_started(created.trial_id, "10.0.0.1")

    def stored() -> bool:
        return read_state(local(tmp_path), SWEEP).trials[created.trial_id].running

    clock.now += recorder.FLUSH_S - 0.5
    run.poll()
    assert not stored(), "each write costs a request"
    clock.now += 0.5
    run.poll()
    assert stored()


def test_a_sign_of_life_follows_the_last_one_no_sooner_than_it_is_due(tmp_path: Path) -> None:
    clock = Clock()
    run = make_run(local(tmp_path), small_sweep(), clock=clock)
    run.begin()
    run.flush()
    began = heartbeat(tmp_path)
    clock.now += recorder.HEARTBEAT_S - 0.5
    run.recorder.keep_up()
    run.recorder._beat_again()
    assert heartbeat(tmp_path) == began
    clock.now += 0.5
    run.recorder._beat_again()
    assert heartbeat(tmp_path) == clock.now
    clock.now += recorder.HEARTBEAT_S
    run.recorder.keep_up()
    assert heartbeat(tmp_path) == clock.now
