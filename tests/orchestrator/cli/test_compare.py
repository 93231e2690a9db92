"""``agr compare``: trials side by side."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from agr_core.config import SyntheticConfig
from agr_core.data.packed.pack import pack

Recorder = Callable[..., Any]


@pytest.fixture
def trials(record_sweep: Recorder, tmp_path: Path) -> list[str]:
    pack("synthetic", tmp_path / "packed", synthetic=SyntheticConfig(images=12, size=32))
    sweep = record_sweep()
    small = {"model.base_features": 4, "image.size": 32}
    ids = [
        sweep.trial(0, [9.0, 7.0, 8.0], params={**small, "optimizer.lr": 0.01}, data_uri=str(tmp_path / "packed")),
        sweep.trial(1, [9.0, 6.0], params={**small, "model.base_features": 8}, data_uri=str(tmp_path / "packed")),
    ]
    sweep.read_test(ids[1], {"test/age_mae": 6.5})
    return ids


def test_compare_tells_the_difference_and_the_figures(trials: list[str], agr: Callable[..., Result]) -> None:
    found = json.loads(agr("compare", *trials, "--json").stdout)

    assert [one["trial_id"] for one in found] == trials
    assert found[0]["config"].keys() == {"model.base_features", "optimizer.lr"}
    assert [one["config"]["model.base_features"] for one in found] == [4, 8]
    assert [one["metrics"]["best/age_mae"] for one in found] == [7.0, 6.0]
    assert [one["metrics"].get("test/age_mae") for one in found] == [None, 6.5]
    assert [(one["epochs"], one["best_epoch"]) for one in found] == [(3, 2), (2, 2)]
    # The loss is a ninth of the error: 1, 7/9, 8/9 and 1, 6/9.
    assert [one["last"]["val/loss"] for one in found] == pytest.approx([8 / 9, 6 / 9])
    assert [one["mean_change"]["val/loss"] for one in found] == pytest.approx([(2 / 9 + 1 / 9) / 2, 3 / 9])


def test_compare_prints_a_column_for_each_trial(trials: list[str], agr: Callable[..., Result]) -> None:
    lines = [line.split() for line in agr("compare", *trials).stdout.splitlines()]
    assert trials in lines
    assert ["model.base_features", "4", "8"] in lines
    assert ["best/age_mae", "7", "6"] in lines
    assert ["test/age_mae", "6.5"] in lines


def test_compare_names_the_curves_by_what_differs(record_sweep: Recorder, agr: Callable[..., Result]) -> None:
    sweep = record_sweep()
    alike = {"model.name": "resnet10t", "optimizer.name": "nadam"}
    first, second = (
        sweep.trial(number, [9.0, 7.0], params={**alike, "optimizer.lr": rate})
        for number, rate in enumerate((0.01, 0.002))
    )

    text = agr("compare", first, second).stdout
    assert f"{first} lr=0.01\n" in text
    assert f"{second} lr=0.002\n" in text


def test_compare_tells_how_large_the_models_are(trials: list[str], agr: Callable[..., Result]) -> None:
    models = [one["model"] for one in json.loads(agr("compare", *trials, "--models", "--json").stdout)]
    assert models[0]["parameters"] < models[1]["parameters"]
    assert models[0]["gflops"] < models[1]["gflops"]
    assert [model["layers"] for model in models] == [4 + 1 + 3] * 2  # of the basic CNN, and three heads
    text = agr("compare", *trials, "--models").stdout
    assert f"{models[0]['parameters']:,}" in text


def test_compare_draws_the_curves_over_each_other(
    trials: list[str], agr: Callable[..., Result], tmp_path: Path
) -> None:
    agr("compare", *trials, "--metric", "val/age_mae", "-o", str(tmp_path / "curves.png"))
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    refused = agr("compare", *trials, "--metric", "val/age_mea", "-o", str(tmp_path / "other.png"), code=2)
    assert "none of the 2 trials reported 'val/age_mea'" in refused.stderr
    assert not (tmp_path / "other.png").exists()
    assert "ends in .png" in agr("compare", *trials, "-o", "curves.pdf", code=2).stderr


def test_compare_warns_of_different_splits(
    trials: list[str], record_sweep: Recorder, agr: Callable[..., Result]
) -> None:
    other = record_sweep("other-20260103-030405-beef")
    trial = other.trial(0, [9.0], split_digest="6" * 64)
    result = agr("compare", trials[0], f"other/{trial}")
    assert "warning: these trials were validated on different splits" in result.stderr
