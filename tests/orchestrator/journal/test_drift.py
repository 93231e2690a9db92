"""Which trials ran under other versions than the sweep began with is in the journal, and from there in MLflow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.catalog.ownership import this_driver
from orchestrator.journal.events import DriverStarted
from orchestrator.journal.segments import read_state
from orchestrator.tracking import describe

TORCH = "torch: 1.0 -> 2.0"


def test_trials_that_ran_under_other_versions_are_marked(record_sweep: Callable[..., Any]) -> None:
    sweep = record_sweep()
    same = sweep.trial(0, [9.0])
    moved = sweep.create(1)
    sweep.start(moved)
    sweep.report(moved, 1, 5.0)
    sweep.record(this_driver(time=sweep.now, resumed=True, restart=1, drift=(TORCH,)))
    sweep.start(moved, attempt=2)
    sweep.report(moved, 2, 4.0, attempt=2)
    sweep.end_trial(moved, "completed", [5.0, 4.0], attempt=2)
    other = sweep.trial(2, [7.0])

    state = read_state(sweep.storage, sweep.sweep_id)

    assert {trial_id: trial.drift for trial_id, trial in state.trials.items()} == {
        same: [],
        moved: [f"{TORCH} (attempt 2)"],
        other: [f"{TORCH} (attempt 0)"],
    }
    tags = [describe.end_tags(trial).get("agr.drift") for trial in state.trials.values()]
    assert tags == [None, f"{TORCH} (attempt 2)", f"{TORCH} (attempt 0)"]
    assert state.drivers[-1].restart == 1


def test_a_journal_of_an_earlier_version_has_no_drift() -> None:
    fields = {"kind": "driver_started", "time": 1.0, "driver_id": "a", "host": "h", "pid": 1, "resumed": True}
    driver = DriverStarted.model_validate(fields)
    assert (driver.restart, driver.drift) == (0, ())
