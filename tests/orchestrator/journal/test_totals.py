"""A sweep's counts, which its driver and its readers fold from the same events."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from orchestrator.journal.events import (
    ControlReceived,
    DriverStarted,
    Event,
    TestOpened,
    TestRead,
    TrialEnded,
    TrialResumed,
)
from orchestrator.journal.segments import read_events, read_state
from orchestrator.journal.totals import Totals, WallClock
from tests.parts.sweeps import Deaf, local, make_run, report, small_sweep

SWEEP = "small-20260101-000000-abcd"


def opened(*labels: str) -> TestOpened:
    return TestOpened(time=1.0, trial_id="t0", epoch=1, labels=labels)


def read(label: str) -> TestRead:
    return TestRead(time=1.0, trial_id="t0", label=label, metrics={}, tables={})


def reads_of(*events: Any) -> int:
    totals = Totals()
    for event in events:
        totals.apply(event)
    return totals.test_reads


def test_an_announced_read_counts_once_for_all_its_labels() -> None:
    assert reads_of(opened("best", "age"), read("best"), read("age")) == 1
    assert reads_of(opened("best"), opened("best"), read("best")) == 2, "the first one gave nothing"


def test_a_read_of_a_journal_without_announcements_counts() -> None:
    assert reads_of(read("best"), read("age")) == 2
    assert reads_of(opened("best"), read("best"), read("age")) == 2


def test_a_continued_trial_is_no_longer_counted_as_ended() -> None:
    totals = Totals()
    totals.apply(TrialEnded(time=1.0, trial_id="t0", outcome="interrupted", epochs=1, resumable=True))
    assert totals.by_outcome()["interrupted"] == 1
    totals.apply(TrialResumed(time=1.0, trial_id="t0"))
    assert not any(totals.by_outcome().values())


def test_a_resumed_driver_counts_the_reads_of_an_earlier_version_as_readers_do(tmp_path: Path) -> None:
    storage = local(tmp_path)
    run = make_run(storage, small_sweep())
    run.begin()
    created = run.next_trial(1)
    assert created is not None
    run.epoch_reported(created.trial_id, report(1, 5.0, finished=True))
    run.trial_over(created.trial_id)
    run.test_read(created.trial_id, "best", {"test/age_mae": 6.0}, {})
    run.flush()

    events, last = read_events(storage, SWEEP)
    resumed = make_run(storage, small_sweep(), next_segment=last + 1)
    resumed.replay(events, Deaf())

    state = read_state(storage, SWEEP)
    assert resumed.summary("running").test_reads == state.test_reads == 1
    assert state.counts() == resumed.standing.totals.by_outcome()
    assert state.counts()["completed"] == 1


def test_figures_of_other_parts_alone_are_no_read_of_the_test_part() -> None:
    def read_of(**metrics: float) -> TestRead:
        return TestRead(time=1.0, trial_id="t0", metrics={name.replace("__", "/"): v for name, v in metrics.items()})

    assert reads_of(read_of(train__age_acc=0.5, val_augmented__age_acc=0.4)) == 0
    assert reads_of(read_of(train__age_acc=0.5, test__age_acc=0.4)) == 1


def driver(time: float, heartbeat: float | None = None) -> DriverStarted:
    return DriverStarted(
        time=time, driver_id="d", host="here", pid=1, resumed=heartbeat is not None, previous_heartbeat=heartbeat
    )


def command(time: float, name: str) -> ControlReceived:
    return ControlReceived(time=time, command=name, key="k")


def clock_of(*events: Event) -> WallClock:
    clock = WallClock()
    for event in events:
        clock.apply(event)
    return clock


def test_a_sweep_whose_driver_has_not_started_has_run_for_no_time() -> None:
    clock = clock_of(opened("best"))
    assert (clock.last_event, clock.seconds(100.0)) == (None, 0.0)


def test_the_run_time_is_that_of_all_drivers_until_their_last_sign_of_life() -> None:
    clock = clock_of(driver(10.0), opened("best"), driver(100.0, heartbeat=40.0), driver(200.0, heartbeat=105.0))
    assert clock.last_event == 200.0
    assert clock.seconds(207.0) == 30.0 + 5.0 + 7.0


def test_a_pause_takes_no_time_and_ends_with_its_driver() -> None:
    paused = (driver(10.0), command(20.0, "pause"), command(25.0, "pause"))
    assert clock_of(*paused).seconds(90.0) == 10.0
    assert clock_of(*paused, command(30.0, "resume")).seconds(31.0) == 11.0
    assert clock_of(*paused, driver(100.0, heartbeat=50.0)).seconds(103.0) == 10.0 + 3.0
