"""A sweep's journal arrives in the tracker whole, once, and whatever happens on the way."""

from __future__ import annotations

import copy
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import (
    DeliveryOwnedError,
    NotFoundError,
    TrackerError,
    TrackerFaultError,
    TrackerUnavailableError,
)
from orchestrator.journal.events import TrialResumed
from orchestrator.simulation.memory_tracker import MemoryRun, MemoryTracker
from orchestrator.tracking.delivery import ORPHAN_S, Syncer
from orchestrator.tracking.exclusive import exclusive

from ..conftest import Recorder, contents, parent_of, run_of, whole_sweep


class Mortal:
    """A tracker whose process is killed after so many calls."""

    def __init__(self, tracker: MemoryTracker, *, calls: int) -> None:
        self.tracker = tracker
        self.left = calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.tracker, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            result = found(*arguments, **options)
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            return result

        return call


class Unreliable:
    """A tracker each of whose calls fails twice, once before it does anything and once after, and then succeeds."""

    def __init__(self, tracker: MemoryTracker) -> None:
        self.tracker = tracker
        self.calls: Counter[str] = Counter()

    @property
    def uri(self) -> str:
        return self.tracker.uri

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.tracker, name)

        def call(*arguments: Any, **options: Any) -> Any:
            key = f"{name}{[part for part in arguments if not isinstance(part, Path)]}"
            self.calls[key] += 1
            if self.calls[key] == 1:
                raise TrackerUnavailableError("503 before it was done.")
            result = method(*arguments, **options)
            if self.calls[key] == 2:
                raise TrackerUnavailableError("a timeout, and it was done.")
            return result

        return call


def test_delivery_event_by_event_equals_delivery_at_once(record_sweep: Recorder) -> None:
    at_once, step_by_step = MemoryTracker(), MemoryTracker()
    sweep = record_sweep()
    syncer = Syncer(sweep.storage, step_by_step, sweep.sweep_id)
    syncer.run_once()
    first = sweep.create(0, {"optimizer.name": "nadam"})
    syncer.run_once()
    sweep.start(first)
    syncer.run_once()
    for epoch, value in enumerate([9.0, 7.0], start=1):
        sweep.report(first, epoch, value)
        syncer.run_once()
    assert run_of(step_by_step, first).curve("val/age_mae") == {1: 9.0, 2: 7.0}
    sweep.write_files(first, [9.0, 7.0])
    sweep.end_trial(first, "completed", [9.0, 7.0])
    syncer.run_once()
    sweep.trial(1, [6.0], params={"sampler.name": "weighted"})
    sweep.end()
    syncer.run_once()

    Syncer(sweep.storage, at_once, sweep.sweep_id).run_once()

    assert contents(step_by_step) == contents(at_once)
    assert at_once.experiment_tags == step_by_step.experiment_tags


def test_delivering_again_from_nothing_changes_nothing(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), whole_sweep(record_sweep)
    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()
    before = contents(tracker)

    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()

    assert contents(tracker) == before


def test_a_tracker_that_fails_before_and_after_each_call_ends_up_the_same(record_sweep: Recorder) -> None:
    sweep = whole_sweep(record_sweep)
    calm, stormy = MemoryTracker(), MemoryTracker()
    Syncer(sweep.storage, calm, sweep.sweep_id).run_once()
    waited: list[float] = []

    syncer = Syncer(sweep.storage, Unreliable(stormy), sweep.sweep_id, clock=lambda: sum(waited))
    syncer.follow(sleep=waited.append)

    assert contents(stormy) == contents(calm)
    assert len(waited) > 20


def test_a_delivery_killed_after_any_call_is_finished_by_the_next(record_sweep: Recorder) -> None:
    sweep = whole_sweep(record_sweep)
    calm = MemoryTracker()
    Syncer(sweep.storage, calm, sweep.sweep_id).run_once()

    tracker, deaths = MemoryTracker(), 0
    while True:
        try:
            Syncer(sweep.storage, Mortal(tracker, calls=deaths + 1), sweep.sweep_id).run_once()
            break
        except KeyboardInterrupt:
            deaths += 1

    assert deaths > 10
    assert contents(tracker) == contents(calm)


def test_a_delivery_of_what_went_on_killed_after_any_call_is_finished_by_the_next(record_sweep: Recorder) -> None:
    """The runs of a stopped sweep are closed, so those of one that went on are closed before their end has arrived."""
    parked, sweep = MemoryTracker(), record_sweep()
    trial = sweep.create(0)
    sweep.start(trial)
    sweep.report(trial, 1, 9.0)
    sweep.end("stopped")
    Syncer(sweep.storage, parked, sweep.sweep_id).run_once()
    sweep.resume()
    sweep.start(trial, attempt=1)
    sweep.report(trial, 2, 7.0, attempt=1)
    sweep.end_trial(trial, "completed", [9.0, 7.0], attempt=1)
    sweep.end()
    calm = copy.deepcopy(parked)
    Syncer(sweep.storage, calm, sweep.sweep_id).run_once()
    assert run_of(calm, trial).status == "FINISHED"

    for deaths in range(1, 40):
        tracker = copy.deepcopy(parked)
        try:
            Syncer(sweep.storage, Mortal(tracker, calls=deaths), sweep.sweep_id).run_once()
        except KeyboardInterrupt:
            Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()
            assert contents(tracker) == contents(calm), f"killed after call {deaths}"
        else:
            break
    assert deaths > 10


def test_a_run_made_twice_by_a_late_creation_is_removed_at_the_end(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), record_sweep()
    trial = sweep.trial(0, [9.0])
    syncer = Syncer(sweep.storage, tracker, sweep.sweep_id)
    syncer.run_once()
    ours = run_of(tracker, trial)
    tracker.all_runs["f" * 32] = MemoryRun(ours.experiment_id, ours.name, ours.start_time, dict(ours.tags))

    sweep.end()
    syncer.run_once()

    assert run_of(tracker, trial) is ours


def test_a_run_made_twice_before_a_restart_is_removed_and_the_one_with_data_kept(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), record_sweep()
    trial = sweep.trial(0, [9.0])
    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()
    ours = run_of(tracker, trial)
    tracker.all_runs["0" * 32] = MemoryRun(ours.experiment_id, ours.name, ours.start_time, dict(ours.tags))
    sweep.end()

    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()

    assert run_of(tracker, trial) is ours


@pytest.mark.parametrize("status", ["interrupted", "stopped"])
def test_an_interrupted_sweep_parks_its_trials_and_a_resumed_one_continues_their_runs(
    record_sweep: Recorder, status: str
) -> None:
    tracker, sweep = MemoryTracker(), record_sweep()
    trial = sweep.create(0)
    sweep.start(trial)
    sweep.report(trial, 1, 9.0)
    if status == "stopped":
        sweep.end_trial(trial, "interrupted", [9.0], resumable=True)
    sweep.end(status)
    syncer = Syncer(sweep.storage, tracker, sweep.sweep_id)
    syncer.run_once()
    assert syncer.finished
    parent_id, parent = parent_of(tracker)
    assert parent.status == ("FINISHED" if status == "stopped" else "KILLED")
    assert run_of(tracker, trial).status == "KILLED"

    sweep.resume()
    if status == "stopped":
        sweep.record(TrialResumed(time=sweep.tick(), trial_id=trial))
    sweep.start(trial, attempt=2)
    for resumed in (syncer, Syncer(sweep.storage, tracker, sweep.sweep_id)):
        resumed.run_once()
        assert not resumed.finished
        assert (parent.status, parent.tags["agr.status"]) == ("RUNNING", "running")
        assert run_of(tracker, trial).status == "RUNNING"
    sweep.report(trial, 2, 7.0, attempt=2)
    sweep.end_trial(trial, "completed", [9.0, 7.0], attempt=2)
    sweep.end()
    resumed.run_once()

    assert parent_of(tracker) == (parent_id, parent)
    assert (parent.status, parent.tags["agr.status"]) == ("FINISHED", "completed")
    run = run_of(tracker, trial)
    assert run.curve("val/age_mae") == {1: 9.0, 2: 7.0}
    assert (run.status, run.tags["agr.rank"]) == ("FINISHED", "1")


def test_what_ended_twice_in_the_same_way_is_delivered_again_by_the_next_delivery(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), record_sweep()
    trial = sweep.create(0)
    sweep.start(trial)
    sweep.report(trial, 1, 9.0)
    sweep.end_trial(trial, "interrupted", [9.0], resumable=True)
    sweep.end("stopped")
    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()

    sweep.resume()  # nothing of this driver is delivered before its end
    sweep.record(TrialResumed(time=sweep.tick(), trial_id=trial))
    sweep.start(trial, attempt=1)
    sweep.report(trial, 2, 7.0, attempt=1)
    sweep.end_trial(trial, "interrupted", [9.0, 7.0], attempt=1)
    ended = sweep.trial(1, [5.0])
    sweep.end("stopped")
    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()

    run = run_of(tracker, trial)
    assert run.curve("val/age_mae") == {1: 9.0, 2: 7.0}
    assert (run.tags["agr.outcome"], run.tags["agr.attempts"]) == ("interrupted", "2")
    assert parent_of(tracker)[1].tags["agr.best_trial"] == ended
    assert run_of(tracker, ended).tags["agr.rank"] == "1"


def test_children_of_a_deleted_parent_are_given_the_new_one(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), whole_sweep(record_sweep)
    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()
    tracker.delete_run(parent_of(tracker)[0])

    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()

    parent_id, parent = parent_of(tracker)
    assert parent.status == "FINISHED"
    assert {run.tags.get("mlflow.parentRunId") for run in tracker.all_runs.values()} == {None, parent_id}


def test_a_missing_sweep_is_named(record_sweep: Recorder) -> None:
    sweep = record_sweep()

    with pytest.raises(NotFoundError, match="no sweep 'nothing'"):
        Syncer(sweep.storage, MemoryTracker(), "nothing").run_once()


# ---- following


def test_following_ends_with_the_sweep_and_announces_its_run_once(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), record_sweep()
    announced: list[Any] = []
    todo = [lambda: sweep.trial(0, [9.0]), lambda: None, sweep.end]

    syncer = Syncer(sweep.storage, tracker, sweep.sweep_id)
    syncer.follow(announce=announced.append, sleep=lambda _: todo.pop(0)())

    assert not todo
    assert syncer.finished
    assert [place.run_id for place in announced] == [parent_of(tracker)[0]]
    assert "/#/experiments/" in announced[0].link


def test_following_ends_without_a_driver_once_what_it_left_is_delivered(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), record_sweep()
    trial = sweep.create(0)
    sweep.start(trial)
    alive = [True, False]

    def sleep(_: float) -> None:
        sweep.report(trial, 1, 9.0)  # the last thing the driver stored

    Syncer(sweep.storage, tracker, sweep.sweep_id).follow(driver_lives=lambda: alive.pop(0), sleep=sleep)

    assert run_of(tracker, trial).curve("val/age_mae") == {1: 9.0}


class Dead(Unreliable):
    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            raise TrackerUnavailableError("nobody answers.")

        return call


def test_without_driver_and_without_tracker_following_gives_up_in_bounded_time(record_sweep: Recorder) -> None:
    sweep, now = record_sweep(), [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with pytest.raises(TrackerUnavailableError):
        Syncer(sweep.storage, Dead(MemoryTracker()), sweep.sweep_id).follow(
            driver_lives=lambda: False, sleep=sleep, clock=lambda: now[0]
        )

    assert ORPHAN_S < now[0] < 2 * ORPHAN_S


def test_with_a_driver_following_waits_for_the_tracker_ever_more_patiently(record_sweep: Recorder) -> None:
    sweep, pauses = record_sweep(), []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 50:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        Syncer(sweep.storage, Dead(MemoryTracker()), sweep.sweep_id).follow(sleep=sleep)

    assert pauses[:6] == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert set(pauses[5:]) == {30.0}


class Failing(Unreliable):
    """Answers 500 to every request but, where its database is up, to the one that asks whether it answers."""

    database_is_up = True

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if name != "check" or not self.database_is_up:
                raise TrackerFaultError("it answers 500.")

        return call


def test_a_request_that_fails_again_and_again_ends_following_with_the_reason(record_sweep: Recorder) -> None:
    sweep, pauses = record_sweep(), []

    with pytest.raises(TrackerError, match=r"it answers 500\. MLflow answers other requests") as ended:
        Syncer(sweep.storage, Failing(MemoryTracker()), sweep.sweep_id).follow(sleep=pauses.append)

    assert not isinstance(ended.value, TrackerUnavailableError)
    assert pauses == [2.0, 4.0, 8.0, 16.0, 30.0]


def test_a_tracker_whose_database_is_down_is_waited_for(record_sweep: Recorder) -> None:
    sweep, pauses = record_sweep(), []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 20:
            raise InterruptedError

    tracker = Failing(MemoryTracker())
    tracker.database_is_up = False

    with pytest.raises(InterruptedError):
        Syncer(sweep.storage, tracker, sweep.sweep_id).follow(sleep=sleep)


def test_a_refusal_ends_following_at_once(record_sweep: Recorder) -> None:
    sweep = record_sweep()

    class Refusing(Unreliable):
        def __getattr__(self, name: str) -> Any:
            def call(*arguments: Any, **options: Any) -> Any:
                raise TrackerError("experiment 'faces' was deleted.")

            return call

    with pytest.raises(TrackerError, match="was deleted"):
        Syncer(sweep.storage, Refusing(MemoryTracker()), sweep.sweep_id).follow(sleep=lambda _: pytest.fail("waited"))


def test_one_process_of_a_machine_delivers_a_sweep(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path, "a", timeout_s=0),
        exclusive(tmp_path, "b", timeout_s=0),
        pytest.raises(DeliveryOwnedError, match="by another process"),
        exclusive(tmp_path, "a", timeout_s=0),
    ):
        pass

    with exclusive(tmp_path, "a", timeout_s=0):
        pass
