"""Compressed trials are the same trials to whoever asks."""

from __future__ import annotations

import pickle
import tracemalloc

import pytest

from orchestrator.journal.events import TestRead
from orchestrator.journal.segments import read_state
from orchestrator.journal.sweep_state import SweepState
from orchestrator.simulation.memory_tracker import MemoryTracker
from orchestrator.tracking.delivered.compressed import CompressedTrials
from orchestrator.tracking.delivery import Syncer

from ..conftest import Recorder


def sweep_state(record_sweep: Recorder, trials: int) -> SweepState:
    sweep = record_sweep()
    for number in range(trials):
        sweep.trial(number, [9.0, 7.0 + number], params={"optimizer.lr": 0.01 * (number + 1)})
    return read_state(sweep.storage, sweep.sweep_id)


def compressed(state: SweepState) -> CompressedTrials:
    trials = CompressedTrials()
    for trial_id, trial in state.trials.items():
        trials[trial_id] = pickle.loads(pickle.dumps(trial))
        trials.compress(trial_id)
    return trials


def test_compressed_trials_are_equal_and_in_order_of_creation(record_sweep: Recorder) -> None:
    state = sweep_state(record_sweep, 3)
    trials = compressed(state)
    assert list(trials) == list(state.trials)
    assert list(trials.values()) == list(state.trials.values())
    assert list(trials.items()) == list(state.trials.items())
    assert len(trials) == 3
    del trials[next(iter(trials))]
    assert len(trials) == 2


def test_a_change_of_a_trial_that_was_asked_for_lasts_and_is_compressed_again(record_sweep: Recorder) -> None:
    state = sweep_state(record_sweep, 2)
    trials = compressed(state)
    trial_id = list(trials)[1]
    state.trials = trials
    read = TestRead(time=99.0, trial_id=trial_id, label="best", metrics={"test/age_mae": 6.5})
    state.apply(read)
    assert trials[trial_id].tests == {"best": read}
    trials.compress(trial_id)
    trials.compress(trial_id)
    assert [trial.tests for trial in trials.values()] == [{}, {"best": read}]


def test_a_trial_that_nobody_created_is_unknown(record_sweep: Recorder) -> None:
    trials = compressed(sweep_state(record_sweep, 1))
    assert "t-missing" not in trials
    assert trials.get("t-missing") is None
    with pytest.raises(KeyError):
        trials.compress("t-missing")


def test_a_compressed_trial_takes_less_than_a_kilobyte_also_after_somebody_looked_at_all(
    record_sweep: Recorder,
) -> None:
    state = sweep_state(record_sweep, 40)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        trials = compressed(state)
        assert sum(trial.ended is not None for trial in trials.values()) == 40
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / 40 < 1_000


def test_a_delivery_compresses_what_has_ended_and_a_second_delivery_too(
    record_sweep: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_away: list[str] = []
    compress = CompressedTrials.compress

    def note(trials: CompressedTrials, trial_id: str) -> None:
        put_away.append(trial_id)
        compress(trials, trial_id)

    monkeypatch.setattr(CompressedTrials, "compress", note)
    sweep, tracker = record_sweep(), MemoryTracker()
    ended = [sweep.trial(number, [9.0, 7.0]) for number in range(2)]
    running = sweep.create(2)
    sweep.start(running)
    sweep.report(running, 1, 9.0)
    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()
    assert put_away == ended
    put_away.clear()
    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()
    assert sorted(put_away) == sorted(ended)
