"""Test figures over folds are those of all test images together, as scikit-learn computes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, precision_score
from typer.testing import CliRunner

from agr_core.evaluation.predictions import Classified, Predictions
from orchestrator.cli.main import app
from orchestrator.cli.render.table_formats import caption
from orchestrator.journal.segments import read_state
from orchestrator.journal.sweep_state import SweepState
from orchestrator.results.ablation_table import make_table
from orchestrator.results.leaderboard import rows
from orchestrator.simulation.memory_tracker import MemoryTracker
from orchestrator.storage import layout
from orchestrator.tracking.delivery import Syncer

Recorder = Callable[..., Any]
FOLDS = 5
FIGURES = ("test/age_mae", "test/gender_acc", "test/gender_f1", "test/gender_precision", "test/age_loss")


def _said(fold: int) -> Predictions:
    """Predictions of a fold's test part; folds are of different sizes."""
    random = np.random.default_rng(fold)
    images = 7 + 5 * fold
    ages = random.integers(0, 90, images).astype(np.float32)
    years = {"age_low": ages, "age_high": ages, "age_predicted": ages + random.normal(0, 6, images).astype(np.float32)}
    true, predicted = random.integers(0, 2, images), random.integers(0, 2, images)
    return Predictions(
        tuple(f"{fold}-{image}" for image in range(images)),
        years=years,
        classes={"gender": Classified(("male", "female"), true, predicted)},
    )


@pytest.fixture
def folded(record_sweep: Recorder) -> Any:
    """Two variants on five folds, both read."""
    document = {"variants": {"base": {}, "light": {"augment": "light"}}, "folds": FOLDS}
    sweep = record_sweep(document=document)
    for configuration, variant in enumerate(("base", "light")):
        for fold in range(FOLDS):
            trial = sweep.trial(
                configuration * FOLDS + fold,
                [9.0 + fold, 5.0 + fold - configuration],
                params={"data.split.strategy": "kfold", "data.split.fold": fold},
                configuration=configuration,
                repeat=fold,
                variant=variant,
                split_digest=f"{fold}" * 64,
            )
            sweep.read_test(trial, dict.fromkeys(FIGURES, 1.0))
            key = layout.predictions(layout.attempt(sweep.sweep_id, trial, 0), "test", 2)
            sweep.storage.write(key, _said(fold).to_parquet())
    return sweep


def _state(sweep: Any) -> SweepState:
    return read_state(sweep.storage, sweep.sweep_id)


def test_pooled_figures_are_scikit_learns_of_all_test_images(folded: Any) -> None:
    first = rows([_state(folded)], storage=folded.storage)[0]
    parts = [_said(fold) for fold in range(FOLDS)]
    age, read = (np.concatenate([part.years[name] for part in parts]) for name in ("age_low", "age_predicted"))
    true = np.concatenate([part.classes["gender"].true for part in parts])
    predicted = np.concatenate([part.classes["gender"].predicted for part in parts])

    assert {name: estimate.mean for name, estimate in first.pooled.items()} == pytest.approx(
        {
            "test/age_mae": mean_absolute_error(age.astype(np.float64), read.astype(np.float64)),
            "test/gender_acc": accuracy_score(true, predicted),
            "test/gender_f1": f1_score(true, predicted, average="macro"),
            "test/gender_precision": precision_score(true, predicted, average="macro"),
        },
        abs=1e-12,
    )
    assert first.means["test/age_mae"] == first.pooled["test/age_mae"]
    assert (first.means["test/age_mae"].count, first.means["test/age_mae"].images) == (FOLDS, len(age))
    assert first.means["test/age_loss"].mean == 1.0, "what predictions do not tell is the mean of the folds' figures"


def test_a_configuration_is_ranked_by_its_mean_over_the_folds_validation_parts(folded: Any) -> None:
    found = rows([_state(folded)], storage=folded.storage)
    assert [(row.rank, row.variant) for row in found] == [(1, "light")] * FOLDS + [(2, "base")] * FOLDS
    assert (found[0].mean, found[FOLDS].mean) == (6.0, 7.0)
    assert found[0].margin is not None
    document = found[0].to_json()
    assert (document["folds"], document["ranked_by"]) == (FOLDS, "mean")
    assert "seeds" not in document


def test_a_fold_that_failed_leaves_the_configuration_without_a_rank(record_sweep: Recorder) -> None:
    sweep = record_sweep(document={"folds": 3})
    for fold in range(2):
        sweep.trial(fold, [5.0], configuration=0, repeat=fold, split_digest=f"{fold}" * 64)
    sweep.trial(2, [], "failed", configuration=0, repeat=2, split_digest="2" * 64)
    (first, *_) = rows([_state(sweep)], storage=sweep.storage)
    assert (first.rank, first.note) == (None, "2 of 3 folds completed")


def test_the_table_has_a_row_a_configuration_and_compares_fold_by_fold(folded: Any) -> None:
    table = make_table(_state(folded), columns=("age_mae", "test/gender_acc"), against="base", storage=folded.storage)
    light = next(row for row in table.rows if row.label == "light")
    assert (light.seeds, light.completed) == (FOLDS, FOLDS)
    assert light.cells["best/age_mae"].estimate.mean == 6.0
    difference = light.cells["best/age_mae"].difference
    assert difference is not None
    assert (difference.mean, difference.count) == (-1.0, FOLDS)
    assert light.cells["test/gender_acc"].estimate.images == sum(7 + 5 * fold for fold in range(FOLDS))
    assert "5 folds, test figures of all test images together" in caption(table)


def test_mlflow_has_the_pooled_figures_and_the_intervals_in_each_run(folded: Any) -> None:
    tracker = MemoryTracker()
    folded.end()
    Syncer(folded.storage, tracker, folded.sweep_id).run_once()

    ranked = rows([_state(folded)], storage=folded.storage)
    runs = {run.tags["agr.trial_id"]: run for run in tracker.all_runs.values() if "agr.rank" in run.tags}
    assert len(runs) == 2 * FOLDS
    for row in ranked:
        run = runs[row.trial_id]
        assert run.curve("mean/age_mae.margin") == {0: row.margin}
        for name in ("age_mae", "gender_acc"):
            pooled = row.pooled[f"test/{name}"]
            assert run.curve(f"pooled/{name}") == {0: pooled.mean}
            assert run.curve(f"pooled/{name}.margin") == {0: pooled.margin}


def test_show_has_the_pooled_figures_of_the_configuration(folded: Any) -> None:
    row = rows([_state(folded)], storage=folded.storage)[0]
    shown = json.loads(_agr(folded, "show", row.trial_id, "--json"))
    assert shown["pooled"] == {name: estimate.to_json() for name, estimate in row.pooled.items()}
    pooled = row.pooled["test/age_mae"]
    screen = _agr(folded, "show", row.trial_id)
    assert "test of 5 folds" in screen
    assert f"{pooled.mean:.4g} ± {pooled.margin:.2g}" in screen


def _agr(sweep: Any, *arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--storage", sweep.storage.uri])
    assert result.exit_code == 0, result.output
    return result.stdout
