"""Five folds trained for real on drawn faces in Adience's layout: pooled figures are scikit-learn's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.journal.segments import read_state
from orchestrator.simulation.memory_tracker import MemoryTracker
from orchestrator.storage import open_storage
from orchestrator.tracking.delivery import Syncer
from tests.parts.trained_sweep import train_all

SWEEP = "folded-20260101-000000-abcd"
FOLDS = 5
IMAGES = 120


def agr(*arguments: str | Path | int) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.slow
def test_pooled_figures_of_published_folds_are_those_of_the_stored_predictions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGR_HOME", str(tmp_path))
    agr("data", "synth", "--layout", "adience", "--images", IMAGES, "--size", "16", "-o", tmp_path / "adience")
    agr("data", "pack", tmp_path / "adience", "-o", tmp_path / "packed")
    storage = open_storage(str(tmp_path / "storage"))
    train_all(storage.uri, SWEEP, document(tmp_path / "packed"))
    trials = read_state(storage, SWEEP).trials
    assert [trial.outcome for trial in trials.values()] == ["completed"] * FOLDS

    # An independent reading: the stored files and the published folds by pandas, the figures by scikit-learn.
    files = [file for file in (tmp_path / "storage").rglob("*.parquet") if "test" in file.name]
    assert len(files) == FOLDS
    said = [pd.read_parquet(file) for file in files]
    shards = (tmp_path / "packed").rglob("*.parquet")
    table = pd.concat(pd.read_parquet(shard, columns=["sample_id", "partition"]) for shard in shards)
    fold_of = dict(zip(table["sample_id"], table["partition"], strict=True))
    assert all(len({fold_of[image] for image in part["sample_id"]}) == 1 for part in said), "a published fold each"
    images = pd.concat(said)
    assert sorted(images["sample_id"]) == sorted(table["sample_id"]), "each image is tested once"

    low, high, years = (images[name].to_numpy(np.float64) for name in ("age_low", "age_high", "age_predicted"))
    true, predicted = images["gender"], images["gender_predicted"]
    expected = {
        "test/age_interval_mae": np.maximum(0, np.maximum(low - years, years - high)).mean(),
        "test/gender_acc": accuracy_score(true, predicted),
        "test/gender_f1": f1_score(true, predicted, average="macro"),
    }
    at = ("--storage", storage.uri)
    rows: list[dict[str, Any]] = json.loads(agr("leaderboard", SWEEP, "--json", *at))
    shown = json.loads(agr("show", next(iter(trials)), "--json", *at))
    tracker = MemoryTracker()
    Syncer(storage, tracker, SWEEP).run_once()
    runs = [run for run in tracker.all_runs.values() if "agr.rank" in run.tags]
    assert len(runs) == FOLDS
    for name, value in expected.items():
        found = rows[0]["means"][name]
        assert found["mean"] == pytest.approx(value, abs=1e-6), name
        assert found["low"] < found["mean"] < found["high"]
        assert shown["pooled"][name] == found
        for run in runs:
            short = name.removeprefix("test/")
            assert run.curve(f"pooled/{short}") == {0: found["mean"]}
            assert run.curve(f"pooled/{short}.margin") == {0: pytest.approx((found["high"] - found["low"]) / 2)}
    values = [row["value"] for row in rows]
    assert (rows[0]["mean"], rows[0]["folds"]) == (pytest.approx(np.mean(values)), FOLDS)
    assert {row["rank"] for row in rows} == {1}
    printed = agr("leaderboard", SWEEP, *at)
    assert sum(trial_id in printed for trial_id in trials) == 1, "one row a configuration"
    (row,) = json.loads(agr("table", SWEEP, "--cols", ",".join(expected), "--json", *at))["rows"]
    means = {name: cell["mean"] for name, cell in row["cells"].items()}
    assert means == pytest.approx({name: rows[0]["means"][name]["mean"] for name in expected})


def document(packed: Path) -> dict[str, Any]:
    return {
        "name": "folded",
        "trial": {
            "data": {"source": str(packed), "split": {"strategy": "official"}},
            "tasks": ["age", "gender"],
            "age": {"encoding": "onehot", "bins": "adience8"},
            "image": {"size": 16},
            "model": {"name": "basic_cnn", "conv_layers": 1, "base_features": 2, "hidden": 4},
            "schedule": {"name": "constant", "epochs": 1},
        },
        "variants": {"base": {}},
        "folds": FOLDS,
        "objective": {"metric": "val/age_interval_mae", "direction": "minimize"},
    }
