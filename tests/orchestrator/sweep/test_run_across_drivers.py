"""A sweep over several drivers: wall time, attempt numbers, what a resumed run knows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from orchestrator.catalog import control
from orchestrator.catalog.summary import read_summary
from orchestrator.journal.events import AttemptStarted
from orchestrator.journal.segments import read_events, read_state
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.sweep.run import SweepRun
from tests.parts.sweeps import Clock, Deaf, local, make_run, report, small_sweep

SWEEP = "small-20260101-000000-abcd"


def test_a_used_up_wall_budget_interrupts_what_runs_and_the_sweep_is_completed(tmp_path: Path) -> None:
    clock = Clock()
    run = make_run(local(tmp_path), small_sweep(), clock=clock, wall_s=60.0)
    run.begin()
    created = run.next_trial(1)
    assert created is not None
    clock.now += 59
    assert run.poll() == []
    clock.now += 2
    assert run.poll() == [created.trial_id]
    assert run.stop is not None
    assert run.stop.status == "completed"
    run.trial_over(created.trial_id)
    assert run.counts == {"interrupted": 1}


def resumed(storage: Storage, clock: Clock, **settings: Any) -> SweepRun:
    """Another driver, after the one before was killed."""
    events, last = read_events(storage, SWEEP)
    run = make_run(storage, small_sweep(), clock=clock, next_segment=last + 1, **settings)
    run.replay(events, Deaf())
    return run


def beat(run: SweepRun, clock: Clock, seconds: float) -> None:
    """The driver lives on, and nothing happens; it looks at its trials every five minutes."""
    until = clock.now + seconds
    while clock.now < until:
        clock.now += 300
        assert run.poll() == []


def test_the_wall_budget_counts_earlier_drivers_and_no_time_between_them(tmp_path: Path) -> None:
    clock, storage = Clock(), local(tmp_path)
    first = make_run(storage, small_sweep(), clock=clock, wall_s=60.0)
    first.begin()
    first.next_trial(1)
    clock.now += 40
    first.next_trial(2)
    first.flush()
    clock.now += 10_000  # nobody drives
    second = resumed(storage, clock, wall_s=60.0)
    assert second.wall_s == 40
    clock.now += 19
    assert second.poll() == []
    clock.now += 1
    assert len(second.poll()) == 2


def test_a_driver_killed_an_hour_after_its_last_event_has_used_that_hour(tmp_path: Path) -> None:
    clock, storage, hour = Clock(), local(tmp_path), 3600.0
    first = make_run(storage, small_sweep(), clock=clock, wall_s=3 * hour)
    first.begin()
    trial = first.next_trial(1)
    assert trial is not None
    first.flush()
    beat(first, clock, hour)
    assert read_summary(storage, SWEEP).wall_s == hour

    clock.now += 10_000  # nobody drives
    second = resumed(storage, clock, wall_s=3 * hour)
    assert second.wall_s == read_summary(storage, SWEEP).wall_s == hour
    beat(second, clock, hour)

    clock.now += 10_000
    third = resumed(storage, clock, wall_s=3 * hour)
    assert third.wall_s == read_summary(storage, SWEEP).wall_s == 2 * hour
    beat(third, clock, hour - 300)
    clock.now += 300
    assert third.poll() == [trial.trial_id], "the budget is used up"
    third.close_all()
    assert third.end("completed").wall_s == 3 * hour


def test_without_a_summary_an_earlier_driver_ran_until_its_last_event(tmp_path: Path) -> None:
    clock, storage = Clock(), local(tmp_path)
    first = make_run(storage, small_sweep(), clock=clock)
    first.begin()
    clock.now += 40
    first.next_trial(1)
    first.flush()
    clock.now += 100
    storage.delete(layout.summary(SWEEP))
    assert resumed(storage, clock).wall_s == 40


def test_a_heartbeat_of_before_an_earlier_driver_adds_no_time(tmp_path: Path) -> None:
    """A driver that was killed before it wrote a summary leaves that of the driver before it."""
    clock, storage = Clock(), local(tmp_path)
    make_run(storage, small_sweep(), clock=clock).begin()
    old = storage.read(layout.summary(SWEEP))
    clock.now += 1000
    second = resumed(storage, clock)
    clock.now += 7
    second.next_trial(1)
    second.flush()
    storage.write(layout.summary(SWEEP), old)
    clock.now += 1000
    assert resumed(storage, clock).wall_s == 7


def test_a_damaged_summary_is_named_and_its_driver_ran_until_its_last_event(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock, storage = Clock(), local(tmp_path)
    first = make_run(storage, small_sweep(), clock=clock)
    first.begin()
    clock.now += 40
    first.next_trial(1)
    first.flush()
    clock.now += 100
    storage.write(layout.summary(SWEEP), b"{")
    assert resumed(storage, clock).wall_s == 40
    assert f"{SWEEP}/summary.json is not a sweep's summary" in caplog.text
    assert read_summary(storage, SWEEP).status == "running", "the new driver writes it again"


def test_each_driver_counts_attempts_from_a_number_that_none_before_can_have_used(tmp_path: Path) -> None:
    clock, storage = Clock(), local(tmp_path)
    first = make_run(storage, small_sweep(), clock=clock)
    first.begin()
    old = first.next_trial(8)
    assert old is not None
    first.attempt_started(old.trial_id, "10.0.0.1")
    first.flush()
    assert first.live[old.trial_id].attempt == 0

    second = resumed(storage, clock)
    new = second.next_trial(8)
    assert new is not None
    assert [second.live[trial.trial_id].attempt for trial in (old, new)] == [2, 2]
    second.attempt_started(old.trial_id, "10.0.0.1")
    second.attempt_failed(old.trial_id, error="node lost", cause="node_lost")
    assert second.live[old.trial_id].attempt == 3
    second.flush()  # and of its next attempt the journal has nothing

    third = resumed(storage, clock)
    assert [third.live[trial.trial_id].attempt for trial in (old, new)] == [5, 4]
    third.attempt_started(old.trial_id, "10.0.0.1")
    third.flush()
    attempts = [event.attempt for event in read_events(storage, SWEEP)[0] if isinstance(event, AttemptStarted)]
    assert attempts == [0, 2, 5]


def test_a_stop_that_an_earlier_driver_never_heard_does_not_stop_the_resumed_sweep(tmp_path: Path) -> None:
    clock, storage = Clock(), local(tmp_path)
    first = make_run(storage, small_sweep(), clock=clock)
    first.begin()
    trial = first.next_trial(1)
    assert trial is not None
    first.flush()
    control.send(storage, SWEEP, "stop")  # the driver is gone by then

    for _ in range(2):  # nor one that resumes it once more
        events, last = read_events(storage, SWEEP)
        run = make_run(storage, small_sweep(), clock=clock, next_segment=last + 1)
        run.replay(events, Deaf())
        clock.now += 3
        assert run.poll() == []
        assert run.stop is None
    control.send(storage, SWEEP, "stop")
    clock.now += 3
    assert run.poll() == [trial.trial_id]


def test_a_replayed_run_stands_where_the_first_one_stood(tmp_path: Path) -> None:
    storage = local(tmp_path)
    first = make_run(storage, small_sweep())
    first.begin()
    done, half = first.next_trial(2), first.next_trial(2)
    assert done is not None
    assert half is not None
    first.epoch_reported(done.trial_id, report(1, 4.0, finished=True))
    first.trial_over(done.trial_id)
    first.epoch_reported(half.trial_id, report(1, 6.0))
    first.flush()

    events, last = read_events(storage, SWEEP)
    second = make_run(storage, small_sweep(), next_segment=last + 1)
    second.replay(events, Deaf())
    assert second.counts == first.counts
    assert second.best == first.best
    assert list(second.live) == [half.trial_id]
    assert second.live[half.trial_id].epoch == 1
    assert second.live[half.trial_id].attempt > 0
    expected, proposed = first.next_trial(2), second.next_trial(2)
    assert expected is not None
    assert proposed is not None
    assert proposed.config == expected.config
    assert proposed.trial_id == expected.trial_id
    # The first driver may have started this trial without journalling it; its worker may still write attempt 0.
    assert second.live[proposed.trial_id].attempt > 0


def test_a_trial_whose_last_epoch_is_journalled_without_its_end_is_ended_on_resume(tmp_path: Path) -> None:
    storage = local(tmp_path)
    first = make_run(storage, small_sweep())
    first.begin()
    created = first.next_trial(1)
    assert created is not None
    first.epoch_reported(created.trial_id, report(1, 4.0, finished=True))
    first.flush()
    events, last = read_events(storage, SWEEP)
    second = make_run(storage, small_sweep(), next_segment=last + 1)
    second.replay(events, Deaf())
    assert read_state(storage, SWEEP).trials[created.trial_id].outcome == "completed"
    assert not second.live
