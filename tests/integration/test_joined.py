"""Training on two data sets and testing on a third, from YAML to re-run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agr_core.config import SyntheticConfig
from agr_core.data.packed.pack import pack

pytestmark = pytest.mark.slow


def test_a_sweep_trains_on_joined_data_sets_and_tests_on_a_foreign_one(agr: Any, tmp_path: Path) -> None:
    for name, seed, like in (("one", 1, "plain"), ("two", 2, "plain"), ("fair", 3, "fairface")):
        pack("synthetic", tmp_path / name, synthetic=SyntheticConfig(images=120, size=32, seed=seed, like=like))
    data = {
        "sources": {name: str(tmp_path / name) for name in ("one", "two", "fair")},
        "train": ["one", "two"],
        "test": ["fair"],
        "races": "utkface",
    }
    trial = {
        "data": data,
        "image": {"size": 16},
        "schedule": {"name": "constant", "epochs": 1},
        "model": {"name": "basic_cnn", "conv_layers": 2, "base_features": 4, "hidden": 8},
    }
    space = {"age": [{"encoding": "onehot", "bins": "utk7"}, {"encoding": "regression"}]}
    file = agr.sweep_file(name="joined", trial=trial, space=space, search={"algorithm": "grid"}, scheduler="none")
    submitted = agr.json("submit", file)
    assert submitted["trials"]["completed"] == 2

    rows = agr.json("leaderboard", submitted["sweep_id"])
    (read,) = [row for row in rows if "test/age_mae" in row["metrics"]]
    assert read["trial_id"] == submitted["best"]["trial_id"]
    assert read["metrics"]["test.fair/images"] == 120
    assert read["metrics"]["test.fair/age_interval_mae"] > 0
    assert 0 <= read["metrics"]["test.fair/race_acc"] <= 1

    again = agr.json("rerun", read["trial_id"])
    assert again["identical"]
    assert not any("data" in line or "split" in line for line in again["drift"])
