"""``agr predict``: a recorded trial's model on files, for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from agr_core.config import SyntheticConfig, TrialConfig
from agr_core.data.pack import Packed, pack
from agr_core.labels.bins import Bins
from agr_core.models import build_model
from agr_core.trainer.checkpoint import TensorFile
from orchestrator.journal import read_state
from orchestrator.storage import layout

PARAMS = {"model.base_features": 4, "model.hidden": 16, "image.size": 32, "age.bins": "utk7"}


@pytest.fixture
def trial(record_sweep: Callable[..., Any], tmp_path: Path) -> str:
    """A recorded trial with weights and data, untrained."""
    pack("synthetic", tmp_path / "packed", synthetic=SyntheticConfig(images=12, size=32))
    sweep = record_sweep()
    found: str = sweep.trial(0, [9.0, 7.0], params=PARAMS, data_uri=str(tmp_path / "packed"))
    config = TrialConfig.from_document(read_state(sweep.storage, sweep.sweep_id).trials[found].created.config)
    model = build_model(config, age_outputs=Bins.from_spec("utk7").count, num_genders=2, num_races=5)
    folder = layout.attempt(sweep.sweep_id, found, 0)
    sweep.storage.write(layout.best_weights(folder, 2), TensorFile.of(model.state_dict()).content)
    return found


@pytest.fixture
def photos(tmp_path: Path, trial: str) -> Path:
    """Three drawn faces, one named as in UTKFace."""
    folder = tmp_path / "photos"
    folder.mkdir()
    contents = Packed.open(tmp_path / "packed").image_bytes([0, 1, 2])
    for name, content in zip(("26_1_0_x.png", "b.png", "c.png"), contents, strict=True):
        (folder / name).write_bytes(content)
    return folder


def test_predict_prints_the_documented_json(trial: str, photos: Path, agr: Callable[..., Result]) -> None:
    found = json.loads(agr("predict", str(photos), "--model", trial[:5], "--no-crop", "--json").stdout)

    assert [Path(one["file"]).name for one in found] == ["26_1_0_x.png", "b.png", "c.png"]
    for one in found:
        (face,) = one["faces"]
        assert face["box"] == [0, 0, 32, 32]
        assert 0 <= face["age"] <= 116
        assert face["gender"] in ("male", "female")
        assert face["probabilities"]["race"].keys() == {"White", "Black", "Asian", "Indian", "Others"}


def test_predict_draws_a_grid_and_a_table(trial: str, photos: Path, agr: Callable[..., Result], tmp_path: Path) -> None:
    text = agr("predict", str(photos), "--model", trial, "--no-crop", "--grid", str(tmp_path / "grid.png")).stdout
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
    assert "26_1_0_x.png" in text
    assert "0 0 32 32" in text
    assert "male (" in text


def test_a_file_that_is_no_image_does_not_keep_the_others_from_being_predicted(
    trial: str, photos: Path, agr: Callable[..., Result]
) -> None:
    (photos / "b.png").write_bytes(b"text")
    result = agr("predict", str(photos), "--model", trial, "--no-crop", "--json", code=2)
    found = json.loads(result.stdout)
    assert [len(one["faces"]) for one in found] == [1, 0, 1]
    assert found[1]["error"] == "not an image of a known format"
    assert result.stderr.splitlines() == [f"error: {photos / 'b.png'}: not an image of a known format"]


def test_predict_refuses_what_it_cannot_use(
    trial: str, photos: Path, agr: Callable[..., Result], tmp_path: Path, record_sweep: Callable[..., Any]
) -> None:
    without = record_sweep("other-20260103-030405-beef").trial(0, [9.0])
    for arguments, words in (
        (("nowhere", "--model", trial), "nowhere does not exist"),
        ((str(photos), "--model", "zzzz"), "no trial starts with 'zzzz'"),
        ((str(photos), "--model", f"other/{without}"), "has no weights"),
        ((str(photos), "--model", trial, "--grid", "grid.jpg"), "ends in .png"),
    ):
        result = agr("predict", "--no-crop", *arguments, code=2)
        assert result.stderr.startswith("error: ")
        assert words in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_predict_says_when_the_data_sets_manifest_is_gone(
    trial: str, photos: Path, agr: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "packed" / "manifest.json").unlink()
    result = agr("predict", str(photos), "--model", trial, "--no-crop", code=2)
    assert "its manifest names the classes" in result.stderr
