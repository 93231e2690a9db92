"""Budgets in dollars and GPU-hours: summed by hand, kept to, extended, and unmoved by drivers that are killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.catalog import control
from orchestrator.catalog.summary import read_summary
from orchestrator.journal.events import BudgetNearlySpent, NodeJoined, NodeLeft, NodeShared
from orchestrator.journal.segments import read_events, read_state
from orchestrator.stats.eta import Course
from orchestrator.storage.base import Storage
from orchestrator.sweep.budget import left, seconds_left
from orchestrator.sweep.run import SweepRun
from tests.parts.sweeps import Clock, Deaf, local, make_run, report, small_sweep

SWEEP = "small-20260101-000000-abcd"
HOUR = 3600.0


def started(storage: Storage, clock: Clock, *, usd_per_hour: float | None = 3.6, **settings: Any) -> SweepRun:
    """A sweep on one node of 3.6 dollars an hour: a tenth of a cent a second."""
    run = make_run(storage, small_sweep(), clock=clock, **settings)
    run.begin()
    run.record(NodeJoined(time=clock.now, node="10.0.0.1", node_id="n1", usd_per_hour=usd_per_hour))
    return run


def taken_up(storage: Storage, clock: Clock, *, rejoins: str | None, **settings: Any) -> SweepRun:
    """The next driver, after the one before was killed; it finds the same node, another one, or none."""
    events, last = read_events(storage, SWEEP)
    run = make_run(storage, small_sweep(), clock=clock, next_segment=last + 1, **settings)
    run.replay(events, Deaf())
    if rejoins is not None:
        run.record(NodeJoined(time=clock.now, node="10.0.0.1", node_id=rejoins, usd_per_hour=3.6))
    return run


def begin_trial(run: SweepRun, slots: int = 1) -> str:
    created = run.next_trial(slots)
    assert created is not None
    run.attempt_started(created.trial_id, "10.0.0.1", "n1")
    return created.trial_id


def epochs(run: SweepRun, clock: Clock, trial_id: str, number: int, *, each: float) -> None:
    """A trial trains its last epochs, and completes."""
    for epoch in range(1, number + 1):
        clock.now += each
        run.epoch_reported(trial_id, report(epoch, 5.0, finished=epoch == number))
    run.trial_over(trial_id)


def test_dollars_count_every_second_that_nodes_are_joined(tmp_path: Path) -> None:
    clock = Clock()
    run = started(local(tmp_path), clock)
    clock.now += 100  # n1 alone: 0.1
    run.record(NodeJoined(time=clock.now, node="10.0.0.2", node_id="n2", usd_per_hour=7.2))
    clock.now += 50  # both: 0.05 + 0.1
    run.record(NodeShared(time=clock.now, node_id="n2", share=0.5))
    clock.now += 100  # 0.1 + 0.1
    run.record(NodeLeft(time=clock.now, node="10.0.0.1", node_id="n1", drained=True))
    clock.now += 100  # half of n2: 0.1
    spending = run.standing.spending
    assert spending.usd(clock.now) == pytest.approx(0.1 + 0.15 + 0.2 + 0.1)
    assert spending.usd_per_hour() == pytest.approx(3.6)
    run.end("completed")
    clock.now += 1000
    state = read_state(local(tmp_path), SWEEP)
    assert state.spending.usd(clock.now) == pytest.approx(0.55), "the sweep is over"
    assert state.ended is not None
    assert state.ended.spent is not None
    assert state.ended.spent.usd == pytest.approx(0.55)


@pytest.mark.parametrize(("rejoins", "usd"), [("n1", 0.4), ("n2", 0.2)], ids=["same node", "another node"])
def test_a_killed_driver_changes_no_sum(tmp_path: Path, rejoins: str, usd: float) -> None:
    """A node that is still there was paid for meanwhile; one that is gone, until the last sign of life."""
    clock, storage = Clock(), local(tmp_path)
    run = started(storage, clock)
    clock.now += 100
    run.flush()
    clock.now += 200  # nobody drives
    second = taken_up(storage, clock, rejoins=rejoins)
    clock.now += 100
    assert second.standing.spending.usd(clock.now) == pytest.approx(usd)
    second.flush()
    assert read_state(storage, SWEEP).spending.usd(clock.now) == pytest.approx(usd)


def test_a_stopped_sweep_costs_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    clock, storage = Clock(), local(tmp_path)
    run = started(storage, clock)
    clock.now += 100
    run.end("stopped")
    clock.now += 5000
    second = taken_up(storage, clock, rejoins="n1")
    clock.now += 100
    assert second.standing.spending.usd(clock.now) == pytest.approx(0.2)


def test_gpu_hours_count_what_trials_hold(tmp_path: Path) -> None:
    clock, storage = Clock(), local(tmp_path)
    sweep = small_sweep(resources={"gpus": 0.5})
    run = make_run(storage, sweep, clock=clock, gpu_hours=2.0)
    run.begin()
    one, other = begin_trial(run, 2), begin_trial(run, 2)
    clock.now += HOUR
    run.attempt_failed(one, error="boom")
    clock.now += HOUR
    assert run.standing.spending.gpu_hours(clock.now) == pytest.approx(0.5 * (1 + 2))
    clock.now += HOUR
    assert run.poll() == [one, other], "2 of 2 GPU-hours are used"
    assert run.stop is not None
    assert "budget.gpu_hours of 2 GPU-hours is used up" in run.stop.reason


def test_a_used_up_budget_ends_the_sweep_and_extend_continues_it(tmp_path: Path) -> None:
    clock, storage = Clock(), local(tmp_path)
    run = started(storage, clock, usd=0.1)
    trial_id = begin_trial(run)
    clock.now += 40
    run.epoch_reported(trial_id, report(1, 5.0))
    clock.now += 51
    assert run.poll() == []
    assert [event.budget for event in read_events(storage, SWEEP)[0] if isinstance(event, BudgetNearlySpent)] == []
    run.flush()
    nearly = [event for event in read_events(storage, SWEEP)[0] if isinstance(event, BudgetNearlySpent)]
    assert [(event.budget, event.limit) for event in nearly] == [("usd", 0.1)]
    clock.now += 9
    assert run.poll() == [trial_id]
    assert run.stop is not None
    run.close_all()
    ended = run.end(run.stop.status, run.stop.reason)
    assert ended.status == "completed"
    assert (
        "budget.usd of 0.1 dollars is used up (0.1 dollars); left undone: 30 of 30 trials, 1 of which" in ended.reason
    )
    summary = read_summary(storage, SWEEP)
    assert summary.spent is not None
    assert summary.spent.usd == pytest.approx(0.1)
    assert summary.left.usd == pytest.approx(0.0)

    control.send(storage, SWEEP, "extend", {"usd": 0.1})
    clock.now += 1000
    second = taken_up(storage, clock, rejoins="n1", usd=0.1)
    assert second.stop is None
    assert list(second.live) == [trial_id], "it goes on from its checkpoint"
    clock.now += 50
    assert second.poll() == []
    assert second.budget.limits == {"usd": 0.2}
    assert second.budget.spent(clock.now)["usd"] == pytest.approx(0.15)


def test_from_nine_tenths_on_no_trial_begins_that_cannot_end(tmp_path: Path) -> None:
    clock, storage = Clock(), local(tmp_path)
    run = started(storage, clock, usd=1.0)
    epochs(run, clock, begin_trial(run), 9, each=99)  # 891 s, and 99 s an epoch
    clock.now += 20
    run.poll()
    assert "usd" in run.standing.nearly_spent
    assert run.next_trial(1) is None, "89 s are left, and a trial takes 891"
    assert run.starting.over
    assert "no further trial would end within 89 s; left undone: 29 of 30 trials" in run.decisions.closed
    (held_back,) = run.standing.interrupted
    control.send(storage, SWEEP, "extend", {"usd": 1.0})
    clock.now += 3
    run.poll()
    live = run.starting.next_restart(1)
    assert live is not None
    assert live.trial_id == held_back, "the trial that was held back goes first"


def test_a_trial_that_can_end_begins_in_the_last_tenth(tmp_path: Path) -> None:
    clock = Clock()
    run = started(local(tmp_path), clock, usd=1.0)
    epochs(run, clock, begin_trial(run), 9, each=1)
    clock.now += 892
    run.poll()
    assert "usd" in run.standing.nearly_spent
    assert run.next_trial(1) is not None


@pytest.mark.parametrize(("left_s", "begins"), [(90.5, True), (89.5, False)])
def test_of_trials_of_90_s_none_begins_with_less_left(tmp_path: Path, left_s: float, begins: bool) -> None:
    clock = Clock()
    run = started(local(tmp_path), clock, usd=1.0)  # for 1,000 s
    epochs(run, clock, begin_trial(run), 9, each=10)
    clock.now += 1000 - 90 - left_s
    run.poll()
    assert (run.next_trial(1) is not None) == begins


def test_a_node_that_joins_the_next_driver_keeps_its_share(tmp_path: Path) -> None:
    clock, storage = Clock(), local(tmp_path)
    run = started(storage, clock)
    run.record(NodeShared(time=clock.now, node_id="n1", share=0.25))
    clock.now += 100
    run.flush()
    clock.now += 100
    second = taken_up(storage, clock, rejoins="n1")
    clock.now += 100
    assert second.standing.spending.usd(clock.now) == pytest.approx(0.25 * 0.3)
    assert second.standing.spending.usd_per_hour() == pytest.approx(0.9)


def test_dollars_for_less_than_a_trial_are_refused(tmp_path: Path) -> None:
    clock, storage = Clock(), local(tmp_path)
    run = started(storage, clock, usd=0.1)
    epochs(run, clock, begin_trial(run), 9, each=10)
    clock.now += 20
    run.poll()
    control.send(storage, SWEEP, "extend", {"usd": 0.001})
    clock.now += 3
    run.poll()
    run.flush()
    refused = [getattr(event, "refused", "") for event in read_events(storage, SWEEP)[0]]
    assert any("the cheapest trial so far cost" in reason for reason in refused)


def test_without_a_price_dollars_are_not_known(tmp_path: Path) -> None:
    clock = Clock()
    run = started(local(tmp_path), clock, usd_per_hour=None)
    clock.now += 100
    run.flush()
    summary = read_summary(local(tmp_path), SWEEP)
    assert summary.spent is not None
    assert summary.spent.usd is None
    assert run.standing.spending.unpriced == {"10.0.0.1"}


def test_the_dollars_of_trials_sum_up_to_those_of_the_sweep(tmp_path: Path) -> None:
    clock = Clock()
    run = started(local(tmp_path), clock)
    for each in (1, 3):
        epochs(run, clock, begin_trial(run), 9, each=each)
    clock.now += 10
    usd = run.standing.spending.usd_of_trials(clock.now)
    one, other = usd.values()
    assert other == pytest.approx(3 * one)
    assert one + other == pytest.approx(run.standing.spending.usd(clock.now))


def test_what_is_left_is_a_function_of_limits_and_sums() -> None:
    assert left({"usd": 2.0, "wall": 60.0}, {"usd": 0.5, "wall": 90.0}) == {"usd": 1.5, "wall": 0.0}
    assert seconds_left({"usd": 2.0}, {"usd": 1.0}, usd_per_hour=0.5, gpus=0) == 2 * HOUR
    assert seconds_left({"usd": 2.0, "wall": 60.0}, {"usd": 1.0, "wall": 50.0}, usd_per_hour=0.5, gpus=0) == 10
    assert seconds_left({"gpu_hours": 2.0}, {"gpu_hours": 1.0}, usd_per_hour=0.5, gpus=0) is None


def test_a_budget_is_called_nearly_spent_once_and_at_nine_tenths(tmp_path: Path) -> None:
    clock, storage = Clock(), local(tmp_path)
    run = started(storage, clock, usd=1.0)  # for 1,000 s
    for seconds in (500, 390, 15, 5):
        clock.now += seconds
        run.poll()
    run.flush()
    (event,) = (each for each in read_events(storage, SWEEP)[0] if isinstance(each, BudgetNearlySpent))
    assert event.spent == pytest.approx(0.905)


def test_a_trial_that_runs_again_costs_both_of_its_attempts(tmp_path: Path) -> None:
    clock = Clock()
    run = started(local(tmp_path), clock)
    first = begin_trial(run, slots=2)
    clock.now += 10
    run.attempt_failed(first, error="OSError: gone", cause="error")
    run.attempt_started(first, "10.0.0.1", "n1")
    second = begin_trial(run, slots=2)
    clock.now += 20
    usd = run.standing.spending.usd_of_trials(clock.now)
    assert usd[first] == pytest.approx(usd[second] * 30 / 20)


def test_what_is_left_undone_names_the_trials_that_have_a_checkpoint(tmp_path: Path) -> None:
    clock = Clock()
    run = started(local(tmp_path), clock, usd=1.0)
    begin_trial(run, slots=2)
    with_epoch = begin_trial(run, slots=2)
    clock.now += 5
    run.epoch_reported(with_epoch, report(1, 5.0))
    assert run.budget.undone() == "; left undone: 30 of 30 trials, 1 of which continue from their checkpoints"


def test_the_time_left_is_that_of_the_trials_that_have_not_ended(tmp_path: Path) -> None:
    clock, search = Clock(), {"algorithm": "random", "trials": 6, "seed": 7}
    run = make_run(local(tmp_path), small_sweep(search=search), clock=clock, course=Course(9))
    run.begin()
    for _ in range(4):
        epochs(run, clock, begin_trial(run), 9, each=2)
    eta = run.summary(None).eta_s
    assert eta is not None
    assert eta.p50 == pytest.approx(36, rel=0.2), "two trials of 9 epochs of 2 s"
    last = begin_trial(run)
    for epoch in (1, 2, 3):
        clock.now += 2
        run.epoch_reported(last, report(epoch, 5.0))
    eta = run.summary(None).eta_s
    assert eta is not None
    assert eta.p50 == pytest.approx(28, rel=0.2), "six more epochs of it, and one trial"
    control.send(run.storage, SWEEP, "pause")
    clock.now += 3
    run.poll()
    assert run.summary(None).eta_s is None, "a paused sweep has no end in sight"


def test_an_epoch_without_a_figure_of_its_memory_needs_none(tmp_path: Path) -> None:
    run = started(local(tmp_path), Clock())
    run.epoch_reported(begin_trial(run), report(1, 5.0))
    assert run.standing.memory == 0
