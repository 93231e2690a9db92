"""Weights that nothing needs are removed, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.cleanup.retention import checkpoint_epoch, checkpoint_files, named_files, release, tidy, usage
from orchestrator.journal.segments import read_state
from orchestrator.storage import layout

Recorder = Callable[..., Any]
COSINE = {"schedule.name": "cosine"}
"""Its first epochs depend on their number, so nobody can go on from the checkpoint of a completed trial."""
RECORDS = ("trial.json", "metrics.jsonl", "log.txt")


def store(sweep: Any, trial: str, epoch: int, *, attempt: int = 0) -> None:
    """What an attempt leaves in the storage: its last checkpoint, weights of its best epoch, its records."""
    folder = layout.attempt(sweep.sweep_id, trial, attempt)
    for name in ("last.safetensors", "state.json"):
        sweep.storage.write(f"{layout.checkpoint(folder, epoch)}/{name}", b"x" * 1000)
    sweep.storage.write(layout.best_weights(folder, epoch), b"x" * 100)
    for name in RECORDS:
        sweep.storage.write(f"{folder}/{name}", b"x")


def named(sweep: Any, trial: str) -> set[str]:
    """What the trial's end names: the weights of its first epoch."""
    return named_files(layout.attempt(sweep.sweep_id, trial, 0), [1])


def left(sweep: Any) -> set[str]:
    """Trial and file, of all that is stored of the trials, without the records."""
    keys = [info.key.removeprefix(layout.trials(sweep.sweep_id) + "/") for info in sweep.storage.list("sweeps")]
    return {key for key in keys if "/attempt-" in key and not key.endswith(RECORDS)}


def a_sweep(record_sweep: Recorder, values: list[float]) -> tuple[Any, list[str]]:
    sweep = record_sweep()
    trials = [sweep.trial(number, [value], params=COSINE) for number, value in enumerate(values)]
    for trial in trials:
        store(sweep, trial, 1)
    return sweep, trials


def test_when_the_sweep_is_over_the_weights_of_its_best_trials_are_left(record_sweep: Recorder) -> None:
    sweep, trials = a_sweep(record_sweep, [9.0, 5.0, 7.0, 6.0])
    before = usage(sweep.storage, sweep.sweep_id)
    freed = tidy(sweep.storage, read_state(sweep.storage, sweep.sweep_id), keep=2, over=True)
    assert left(sweep) == {f"{trials[number]}/attempt-0/best/000001.safetensors" for number in (1, 3)}
    after = usage(sweep.storage, sweep.sweep_id)
    assert (before.weights, after.weights, freed) == (8400, 200, 8200)
    assert before.others == after.others > 0


def test_while_it_runs_completed_trials_lose_their_checkpoints_only(record_sweep: Recorder) -> None:
    sweep, (first,) = a_sweep(record_sweep, [9.0])
    running = sweep.create(1)
    sweep.start(running)
    store(sweep, running, 3)
    tidy(sweep.storage, read_state(sweep.storage, sweep.sweep_id), keep=1, over=False)
    checkpoint = f"{running}/attempt-0/checkpoints/000003"
    assert left(sweep) == {
        f"{first}/attempt-0/best/000001.safetensors",
        f"{running}/attempt-0/best/000003.safetensors",
        f"{checkpoint}/last.safetensors",
        f"{checkpoint}/state.json",
    }


def test_a_trial_that_did_not_complete_has_no_weights_either_while_the_sweep_runs(record_sweep: Recorder) -> None:
    sweep, (first,) = a_sweep(record_sweep, [9.0])
    pruned = sweep.trial(1, [5.0], "pruned")
    store(sweep, pruned, 1)
    tidy(sweep.storage, read_state(sweep.storage, sweep.sweep_id), keep=1, over=False)
    assert left(sweep) == {f"{first}/attempt-0/best/000001.safetensors"}
    store(sweep, pruned, 1)
    assert release(sweep.storage, sweep.sweep_id, pruned, "pruned", named=named(sweep, pruned), keep=1) == 2100
    assert left(sweep) == {f"{first}/attempt-0/best/000001.safetensors"}


def test_a_sweep_that_keeps_all_keeps_those_of_trials_that_did_not_complete(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    pruned = sweep.trial(0, [5.0], "pruned")
    store(sweep, pruned, 1)
    assert release(sweep.storage, sweep.sweep_id, pruned, "pruned", named=named(sweep, pruned), keep=None) == 2000
    assert tidy(sweep.storage, read_state(sweep.storage, sweep.sweep_id), keep=None, over=True) == 0
    assert left(sweep) == {f"{pruned}/attempt-0/best/000001.safetensors"}


def test_a_sweep_that_keeps_all_keeps_the_best_weights_of_all(record_sweep: Recorder) -> None:
    sweep, trials = a_sweep(record_sweep, [9.0, 5.0])
    tidy(sweep.storage, read_state(sweep.storage, sweep.sweep_id), keep=None, over=True)
    assert left(sweep) == {f"{trial}/attempt-0/best/000001.safetensors" for trial in trials}


def test_what_an_earlier_attempt_left_goes_though_its_worker_came_back_and_wrote_on(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    trial = sweep.create(0, COSINE)
    sweep.start(trial, attempt=1)
    sweep.report(trial, 1, 5.0, attempt=1)
    sweep.end_trial(trial, "completed", [5.0], attempt=1)
    store(sweep, trial, 1, attempt=1)
    store(sweep, trial, 7, attempt=0)  # it was cut off from the network, and trained on
    tidy(sweep.storage, read_state(sweep.storage, sweep.sweep_id), keep=1, over=True)
    assert left(sweep) == {f"{trial}/attempt-1/best/000001.safetensors"}


def test_a_trial_that_ends_lets_go_of_its_checkpoint(record_sweep: Recorder) -> None:
    sweep, trials = a_sweep(record_sweep, [9.0, 5.0])
    assert release(sweep.storage, sweep.sweep_id, trials[0], "completed", named=named(sweep, trials[0]), keep=1) == 2000
    assert {key for key in left(sweep) if key.startswith(trials[0])} == {
        f"{trials[0]}/attempt-0/best/000001.safetensors"
    }
    assert len(left(sweep)) == 4


def test_a_trial_that_may_be_resumed_keeps_its_checkpoint(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    trial = sweep.create(0)
    sweep.start(trial)
    sweep.report(trial, 1, 5.0)
    sweep.end_trial(trial, "interrupted", [5.0], resumable=True)
    store(sweep, trial, 1)
    assert tidy(sweep.storage, read_state(sweep.storage, sweep.sweep_id), keep=1, over=True) == 0


def test_weights_of_epochs_that_the_end_does_not_name_go_with_their_predictions(record_sweep: Recorder) -> None:
    """Its worker had stored better weights, whose report the driver did not get before the trial ended."""
    sweep, (trial, *_) = a_sweep(record_sweep, [9.0, 5.0])
    folder = layout.attempt(sweep.sweep_id, trial, 0)
    ours, unheard = (named_files(folder, [epoch]) for epoch in (1, 2))

    for remove in (
        lambda: release(sweep.storage, sweep.sweep_id, trial, "completed", named=named(sweep, trial), keep=None),
        lambda: tidy(sweep.storage, read_state(sweep.storage, sweep.sweep_id), keep=None, over=False),
    ):
        for key in (*ours, *unheard):
            sweep.storage.write(key, b"x")
        remove()
        assert all(sweep.storage.exists(key) for key in ours)
        assert not any(sweep.storage.exists(key) for key in unheard)


def test_a_completed_trial_that_can_be_continued_keeps_its_checkpoint_as_long_as_its_weights(
    record_sweep: Recorder,
) -> None:
    sweep = record_sweep()
    trials = [sweep.trial(number, [value]) for number, value in enumerate([9.0, 5.0])]  # by a constant rate
    pruned = sweep.trial(2, [7.0], "pruned")
    for trial in (*trials, pruned):
        store(sweep, trial, 1)
    for trial, outcome in ((trials[0], "completed"), (trials[1], "completed"), (pruned, "pruned")):
        config = read_state(sweep.storage, sweep.sweep_id).trials[trial].created.config
        folder = layout.attempt(sweep.sweep_id, trial, 0)
        kept = {*named(sweep, trial), *checkpoint_files(folder, 1, config)}
        release(sweep.storage, sweep.sweep_id, trial, outcome, named=kept, keep=1)  # type: ignore[arg-type]
    whole = [
        f"{{}}/attempt-0/{name}" for name in ("checkpoints/000001/last.safetensors", "checkpoints/000001/state.json")
    ]
    whole.append("{}/attempt-0/best/000001.safetensors")
    assert left(sweep) == {name.format(trial) for trial in trials for name in whole}
    state = read_state(sweep.storage, sweep.sweep_id)
    assert [checkpoint_epoch(sweep.storage, state, trial) for trial in (*trials, pruned)] == [1, 1, None]
    tidy(sweep.storage, state, keep=1, over=True)
    assert left(sweep) == {name.format(trials[1]) for name in whole}
