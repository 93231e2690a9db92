"""What Tune hears of trials, and what it does not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ray.tune.experiment import Trial

from orchestrator.errors import StorageFullError
from orchestrator.ray_tune.adapters import Polled
from orchestrator.sweep.halving import NoStopping
from tests.parts.sweeps import local, make_run, small_sweep


def test_once_the_driver_itself_failed_tune_reports_no_failure_of_a_trial(tmp_path: Path) -> None:
    """A full disk breaks off the end of a trial, which Tune takes for an error of the trial that has just ended."""
    run = make_run(local(tmp_path), small_sweep())
    scheduler = Polled(run, NoStopping())
    failed: list[str] = []
    scheduler.failed = lambda trial: failed.append(trial.trial_id)
    trial: Any = SimpleNamespace(trial_id="gone", status=Trial.ERROR)

    scheduler.on_trial_error(None, trial)
    assert failed == ["gone"]
    run.fatal = StorageFullError("the disk is full")
    scheduler.on_trial_error(None, trial)
    assert failed == ["gone"]
