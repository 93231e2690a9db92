"""A sweep stopped and resumed three times, also in the middle of a trial, proposes what one left alone proposes.

One worker, the real search, the real scheduler and the real journal; only the training is a formula.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from agr_core.reporting import EpochReport
from orchestrator.journal.segments import read_events, read_state
from orchestrator.spec.load import Sweep
from orchestrator.sweep.halving import EarlyStopping, early_stopping
from orchestrator.sweep.run import SweepRun
from tests.parts.sweeps import local, make_run, small_sweep

EPOCHS = 9
TRIALS = 18
TWO = [{"metric": "val/age_mae", "direction": "minimize"}, {"metric": "val/gender_acc", "direction": "maximize"}]
HYPERBAND = {"name": "hyperband", "grace_epochs": 1, "reduction_factor": 3}

SWEEPS: dict[str, dict[str, Any]] = {
    "tpe, asha": {},
    "tpe, hyperband": {"scheduler": HYPERBAND},
    "tpe, two objectives": {"objective": TWO, "scheduler": "none"},
    "nsga2": {
        "objective": TWO,
        "scheduler": "none",
        "search": {"algorithm": "nsga2", "trials": TRIALS, "seed": 7, "population": 5},
    },
}


def scheduler_of(run: SweepRun, sweep: Sweep) -> EarlyStopping:
    return early_stopping(sweep)


def train(run: SweepRun, scheduler: EarlyStopping, epochs: int) -> None:
    """So many epochs by one worker, which begins with what is unfinished; every seventh trial diverges."""
    for _ in range(epochs):
        live = next(iter(run.live.values()), None)
        if live is None:
            created = run.next_trial(1)
            if created is None:
                return
            scheduler.added(created.trial_id, created.number)
            live = run.live[created.trial_id]
        if live.created.number % 7 == 6:
            run.decisions.end_trial(live.trial_id, "diverged", "loss is not finite")
            run.trial_over(live.trial_id)
            continue
        epoch = live.epoch + 1
        optimizer = live.created.config["optimizer"]
        error = 5 + abs(math.log10(optimizer["lr"]) + 3) + 4 / epoch + (optimizer["name"] == "sgd")
        metrics = {"val/age_mae": error, "val/gender_acc": optimizer["lr"]}
        run.epoch_reported(live.trial_id, EpochReport(epoch=epoch, metrics=metrics, finished=epoch == EPOCHS))
        if epoch == EPOCHS or scheduler.reported(live.trial_id, epoch, error):
            scheduler.ended(live.trial_id, epoch, error)
            run.trial_over(live.trial_id)


def told(path: Path) -> list[Any]:
    """What the trials of a sweep were and how they ended."""
    return [
        (
            json.dumps(trial.created.config, sort_keys=True),
            trial.outcome,
            [(report.epoch, report.value) for report in trial.reports],
            trial.ended and trial.ended.point,
        )
        for trial in read_state(local(path), "small-20260101-000000-abcd").trials.values()
    ]


@pytest.mark.parametrize("changes", SWEEPS.values(), ids=SWEEPS)
def test_three_stops_change_nothing(tmp_path: Path, changes: dict[str, Any]) -> None:
    search = {"algorithm": "tpe", "trials": TRIALS, "seed": 7}
    sweep = small_sweep(**{"search": search, **changes})
    whole = make_run(local(tmp_path / "whole"), sweep)
    whole.begin()
    train(whole, scheduler_of(whole, sweep), 1000)
    whole.end("completed")

    cut = make_run(local(tmp_path / "cut"), sweep)
    cut.begin()
    train(cut, scheduler_of(cut, sweep), 13)
    for epochs in (20, 17, 1000):
        cut.end("interrupted")
        events, last = read_events(local(tmp_path / "cut"), cut.sweep_id)
        cut = make_run(local(tmp_path / "cut"), sweep, next_segment=last + 1)
        scheduler = scheduler_of(cut, sweep)
        cut.replay(events, scheduler)
        train(cut, scheduler, epochs)
    cut.end("completed")

    stopped_early = {"pruned"} if sweep.spec.scheduler.name != "none" else set()
    assert {outcome for _, outcome, *_ in told(tmp_path / "whole")} == {"completed", "diverged"} | stopped_early
    assert len(told(tmp_path / "whole")) == TRIALS
    assert told(tmp_path / "cut") == told(tmp_path / "whole")
