"""The end of a sweep: what is removed, and what a sweep that may go on keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.journal.outcome import SweepStatus
from orchestrator.storage import layout
from orchestrator.sweep.conclude import conclude_sweep, conclude_trial, tidy_sweep
from orchestrator.sweep.decisions import Ending, Stop
from tests.parts.sweeps import local, make_run, report, small_sweep


@pytest.mark.parametrize(("status", "kept"), [("completed", 1), ("stopped", 2)])
def test_a_stopped_sweep_keeps_the_weights_of_all_that_completed(
    tmp_path: Path, status: SweepStatus, kept: int
) -> None:
    """It may be resumed, and confirmations may then bring the second best configuration to the first place."""
    storage = local(tmp_path)
    run = make_run(storage, small_sweep(), keep_checkpoints=1)
    run.begin()
    weights = []
    for number in range(2):
        created = run.next_trial(1)
        assert created is not None
        run.attempt_started(created.trial_id, "host")
        attempt = layout.attempt(run.sweep_id, created.trial_id, 0)
        weights.append(layout.best_weights(attempt, 1))
        storage.write(weights[-1], b"weights")
        run.epoch_reported(created.trial_id, report(1, 5.0 + number, finished=True))
        conclude_trial(run, created.trial_id)
    run.decisions.stop = Stop(status, "")
    tidy_sweep(run)
    assert [storage.exists(key) for key in weights] == [True, kept == 2]


@pytest.mark.parametrize(
    ("completed", "interrupted", "stop", "closed", "status", "reason"),
    [
        (0, False, None, "", "failed", "no trial completed"),
        (1, False, None, "", "completed", ""),
        (2, False, None, "", "completed", ""),
        (0, False, None, "the budget is nearly used", "completed", "the budget is nearly used"),
        (1, False, Stop("stopped", "agr stop"), "", "stopped", "agr stop"),
        (1, True, Stop("stopped", "agr stop"), "", "interrupted", "by a signal"),
    ],
)
def test_the_status_of_a_sweep_says_why_it_ended(
    tmp_path: Path, completed: int, interrupted: bool, stop: Stop | None, closed: str, status: SweepStatus, reason: str
) -> None:
    run = make_run(local(tmp_path), small_sweep())
    run.begin()
    for _ in range(completed):
        created = run.next_trial(1)
        assert created is not None
        run.epoch_reported(created.trial_id, report(1, 5.0, finished=True))
        run.trial_over(created.trial_id)
    run.decisions.stop, run.decisions.closed = stop, closed
    ended = conclude_sweep(run, interrupted=interrupted)
    assert (ended.status, ended.reason) == (status, reason)


@pytest.mark.parametrize("resumable", [True, False])
def test_a_trial_that_goes_on_with_its_sweep_keeps_its_checkpoint_and_another_does_not(
    tmp_path: Path, resumable: bool
) -> None:
    storage = local(tmp_path)
    run = make_run(storage, small_sweep())
    run.begin()
    created = run.next_trial(1)
    assert created is not None
    run.attempt_started(created.trial_id, "host")
    tensors = f"{layout.checkpoint(layout.attempt(run.sweep_id, created.trial_id, 0), 1)}/last.safetensors"
    storage.write(tensors, b"tensors")
    run.epoch_reported(created.trial_id, report(1, 5.0))
    run.decisions.endings[created.trial_id] = Ending("interrupted", "agr stop", resumable=resumable)
    assert conclude_trial(run, created.trial_id) == "interrupted"
    assert storage.exists(tensors) == resumable
