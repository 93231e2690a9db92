"""A run that the tracker makes after its creation was given up: it is removed, also when the delivery seemed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from orchestrator.errors import TrackerUnavailableError
from orchestrator.simulation.memory_tracker import MemoryTracker
from orchestrator.tracking.base import TrackedRun
from orchestrator.tracking.delivered.surplus import LATE_S
from orchestrator.tracking.delivery import Syncer
from orchestrator.tracking.describe import TRIAL_ID

from ..conftest import Recorder


class LateTracker(MemoryTracker):
    """Gives no answer to the creation of the first trial's run, and makes that run when ``late`` is called."""

    late: Callable[[], str] | None = None

    def create_run(self, experiment_id: str, name: str, start_time: float, tags: dict[str, str]) -> str:
        make = super().create_run
        if self.late is None and TRIAL_ID in tags:
            self.late = lambda: make(experiment_id, name, start_time, tags)
            raise TrackerUnavailableError("the tracker does not answer.")
        return make(experiment_id, name, start_time, tags)

    def make_late(self) -> None:
        assert self.late is not None
        self.late()


def trials(tracker: MemoryTracker) -> list[str]:
    return [run.tags[TRIAL_ID] for run in tracker.all_runs.values() if TRIAL_ID in run.tags]


def test_a_delivery_waits_for_the_effect_of_a_request_without_an_answer(record_sweep: Recorder) -> None:
    tracker, sweep = LateTracker(), record_sweep()
    trial = sweep.trial(0, [9.0])
    sweep.end()
    now, slept = 0.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        slept.append(seconds)
        if now >= LATE_S / 2 and len(trials(tracker)) == 1:
            tracker.make_late()

    syncer = Syncer(sweep.storage, tracker, sweep.sweep_id, clock=lambda: now)
    syncer.follow(sleep=sleep, clock=lambda: now, driver_lives=lambda: now < LATE_S / 4)

    assert trials(tracker) == [trial]
    assert syncer.finished
    assert LATE_S <= sum(slept) < LATE_S + 10


def test_a_delivery_without_such_a_request_ends_at_once(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), record_sweep()
    sweep.trial(0, [9.0])
    sweep.end()
    slept: list[float] = []
    Syncer(sweep.storage, tracker, sweep.sweep_id).follow(sleep=slept.append)
    assert slept == []


def test_the_next_sync_removes_a_run_made_after_the_delivery_was_over(record_sweep: Recorder) -> None:
    tracker, sweep = LateTracker(), record_sweep()
    trial = sweep.trial(0, [9.0])
    sweep.end()
    killed = Syncer(sweep.storage, tracker, sweep.sweep_id)
    for _ in range(2):
        try:
            killed.run_once()
        except TrackerUnavailableError:
            continue
    tracker.make_late()
    assert trials(tracker) == [trial, trial]

    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()

    assert trials(tracker) == [trial]


class SearchedTracker(LateTracker):
    """Counts the searches."""

    searches = 0

    def runs(self, experiment_id: str, tags: Mapping[str, str]) -> list[TrackedRun]:
        self.searches += 1
        return super().runs(experiment_id, tags)


def test_runs_are_searched_for_before_they_are_made_only_after_a_request_without_an_answer(
    record_sweep: Recorder,
) -> None:
    tracker, sweep = SearchedTracker(), record_sweep()
    tracker.late = lambda: ""
    syncer = Syncer(sweep.storage, tracker, sweep.sweep_id, clock=lambda: 0.0)
    syncer.run_once()
    opened = tracker.searches
    known = [sweep.trial(number, [9.0]) for number in range(20)]
    syncer.run_once()
    assert trials(tracker) == known
    assert tracker.searches == opened, "MLflow takes longer for each the more runs there are"

    tracker.late = None
    late = sweep.trial(20, [9.0])
    with pytest.raises(TrackerUnavailableError):
        syncer.run_once()
    tracker.make_late()
    syncer.run_once()
    assert trials(tracker) == [*known, late], "the run that was made without an answer is found"
