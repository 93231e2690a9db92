"""The figures of a trial, by the names that people type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agr_core.errors import InputError
from agr_core.objective import Objective
from orchestrator.journal.events import BaselineMeasured
from orchestrator.journal.segments import read_state
from orchestrator.journal.sweep_state import SweepState
from orchestrator.results.leaderboard import rows
from orchestrator.results.trial_metrics import against_baseline, metric_direction, resolve_metric

Recorder = Callable[..., Any]
MINIMIZE = Objective(metric="val/age_mae", direction="minimize")
MAXIMIZE = Objective(metric="val/gender_acc", direction="maximize")


def state_of(sweep: Any) -> SweepState:
    return read_state(sweep.storage, sweep.sweep_id)


def test_a_metric_nobody_reported_is_refused_with_the_nearest_name(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    sweep.trial(0, [1.0])

    with pytest.raises(InputError, match=r"'age_mea'\. Did you mean '(best/)?age_mae'\?"):
        rows([state_of(sweep)], metric="age_mea")


def test_of_what_was_reported_the_figures_of_single_groups_are_counted_and_not_listed() -> None:
    reported = {"best/age_mae", "best/loss", "best/age_mae.by_race.White", "best/age_mae.by_race.Black"}

    with pytest.raises(InputError) as caught:
        resolve_metric("nothing", reported)

    assert str(caught.value).endswith("Reported: best/age_mae, best/loss, and 2 of single groups.")
    assert resolve_metric("age_mae.by_race.White", reported) == "best/age_mae.by_race.White"


@pytest.mark.parametrize(
    ("metric", "direction"),
    [
        ("best/age_mae", "minimize"),
        ("best/age_interval_mae", "minimize"),
        ("best/loss", "minimize"),
        ("best/gender_loss", "minimize"),
        ("best/age_cs5", "maximize"),
        ("test/race_acc", "maximize"),
        ("best/age_f1.utk7", "maximize"),
    ],
)
def test_which_direction_is_better_follows_from_the_metric(metric: str, direction: str) -> None:
    assert metric_direction(metric, [MINIMIZE]) == direction
    assert metric_direction(metric, [MAXIMIZE]) == direction


def test_the_best_trial_is_held_against_the_baseline_of_its_own_split(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    best = sweep.trial(0, [9.0, 4.0])
    sweep.trial(1, [8.0])
    assert against_baseline(state_of(sweep)) == {}
    split = state_of(sweep).trials[best].created.split_digest
    measured = {"val/age_mae": 15.0, "val/gender_acc": 0.5}
    sweep.record(BaselineMeasured(time=sweep.tick(), split_digest="another split", metrics={"val/age_mae": 1.0}))
    assert against_baseline(state_of(sweep)) == {}
    sweep.record(BaselineMeasured(time=sweep.tick(), split_digest=split, metrics=measured))
    figures = against_baseline(state_of(sweep))
    assert figures["age_mae"] == (4.0, 15.0)
    assert {"age_mae"} <= figures.keys() <= {"age_mae", "gender_acc"}


def test_the_baseline_has_the_weighted_sum_too(record_sweep: Recorder) -> None:
    both = Objective(metric={"val/age_mae": 1, "val/gender_acc": -10}, direction="minimize")
    sweep = record_sweep(objective=both)
    best = sweep.trial(0, [8.0])  # gender_acc 0.8
    split = state_of(sweep).trials[best].created.split_digest
    measured = {"val/age_mae": 15.0, "val/gender_acc": 0.5}
    sweep.record(BaselineMeasured(time=sweep.tick(), split_digest=split, metrics=measured))
    figures = against_baseline(state_of(sweep))
    assert figures == {"age_mae": (8.0, 15.0), "gender_acc": (0.8, 0.5), "objective": (0.0, 10.0)}
    assert rows([state_of(sweep)])[0].metrics["best/objective"] == 0.0
    assert metric_direction("best/objective", [both]) == "minimize"
