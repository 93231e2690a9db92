"""``agr predict``: a recorded trial's model on files, for people and as JSON."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from PIL import Image

from agr_core.config import TrialConfig
from agr_core.data.face_crop import FaceCropper
from agr_core.data.packed.pack import Packed
from orchestrator.results.trained_model import fetched
from orchestrator.storage import layout, open_storage
from tests.parts.real_data import real_data


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


def test_predict_draws_what_each_prediction_depends_on(
    trial: str, photos: Path, agr: Callable[..., Result], tmp_path: Path
) -> None:
    without = agr("predict", str(photos), "--model", trial, "--no-crop", "--json").stdout
    arguments = ("predict", str(photos), "--model", trial, "--no-crop", "--grad-cam", str(tmp_path / "cam.png"))

    assert agr(*arguments, "--json").stdout == without

    width, height = Image.open(tmp_path / "cam.png").size
    assert width / height == pytest.approx((4 * 2.0) / (3 * 2.3), rel=0.1), "a row for each file: image and three tasks"
    assert "ends in .png" in agr(*arguments[:-1], "cam.jpg", code=2).stderr


def test_a_file_that_is_no_image_does_not_keep_the_others_from_being_predicted(
    trial: str, photos: Path, agr: Callable[..., Result]
) -> None:
    (photos / "b.png").write_bytes(b"text")
    result = agr("predict", str(photos), "--model", trial, "--no-crop", "--json", code=2)
    found = json.loads(result.stdout)
    assert [len(one["faces"]) for one in found] == [1, 0, 1]
    assert found[1]["error"] == "not an image of a known format"
    warning, *errors = result.stderr.splitlines()
    assert warning.startswith(f"warning: trial {trial} was trained on drawn faces only")
    assert errors == [f"error: {photos / 'b.png'}: not an image of a known format"]


def test_predict_makes_the_folder_of_a_grid_and_refuses_one_that_cannot_be_made(
    trial: str, photos: Path, agr: Callable[..., Result], tmp_path: Path
) -> None:
    agr("predict", str(photos), "--model", trial, "--no-crop", "--grid", str(tmp_path / "a" / "b" / "grid.png"))
    assert (tmp_path / "a" / "b" / "grid.png").read_bytes().startswith(b"\x89PNG")
    for given, words in ((photos / "c.png" / "grid.png", "is a file, not a folder"), (photos, "ends in .png")):
        result = agr("predict", str(photos), "--model", trial, "--no-crop", "--grid", str(given), code=2)
        assert re.fullmatch(rf"error: --grid {given}: .*{words}.*\n", result.stderr)


def test_only_a_model_trained_on_drawn_faces_alone_is_marked_as_such(
    trial: str, tmp_path: Path, record_sweep: Callable[..., Any]
) -> None:
    storage = open_storage(str(tmp_path / "storage"))
    with fetched(storage, trial) as drawn:
        assert drawn.only_drawn
    for changes in (
        {"data": {"source": "faces.tar"}},
        {"model": {"name": "basic_cnn", "weights": "faces.safetensors"}},
    ):
        config = TrialConfig.from_document({**drawn.config.to_document(), **changes})
        assert not replace(drawn, config=config).only_drawn


def test_a_packed_data_set_of_drawn_faces_is_recognised_by_its_rows(
    trial: str, tmp_path: Path, agr: Callable[..., Result], photos: Path
) -> None:
    """Its folder may have any name; the trial recorded what its training images were."""
    storage = open_storage(str(tmp_path / "storage"))
    with fetched(storage, trial) as by_name:
        folder = {"source": str(tmp_path / "packed")}
        config = TrialConfig.from_document({**by_name.config.to_document(), "data": folder})
        assert replace(by_name, config=config, drawn=True).only_drawn
        assert not replace(by_name, config=config, drawn=False).only_drawn
        assert not replace(by_name, config=config).only_drawn  # an earlier version recorded nothing
        assert not replace(by_name, drawn=False).only_drawn
        labels = {"genders": by_name.vocabulary.genders, "races": by_name.vocabulary.races, "crop": None}
        sweep_id = by_name.sweep_id
    key = f"{layout.attempt(sweep_id, trial, 0)}/{layout.LABELS}"
    storage.write(key, json.dumps({**labels, "drawn": False}).encode())
    assert "drawn faces" not in agr("predict", str(photos), "--model", trial, "--no-crop").stderr
    storage.write(key, json.dumps({**labels, "drawn": "yes"}).encode())
    assert "drawn is neither true nor false" in agr("predict", str(photos), "--model", trial, code=1).stderr


def test_predict_refuses_what_it_cannot_use(
    trial: str, photos: Path, agr: Callable[..., Result], tmp_path: Path, record_sweep: Callable[..., Any]
) -> None:
    without = record_sweep("other-20260103-030405-beef").trial(0, [9.0])
    for arguments, words in (
        (("nowhere", "--model", trial), "nowhere does not exist"),
        ((str(photos), "--model", "zzzz"), "no trial starts with 'zzzz'"),
        ((str(photos), "--model", f"other/{without}"), "has no weights"),
        ((str(photos), "--model", trial, "--grid", "grid.jpg"), "ends in .png"),
        ((str(photos), "--model", trial, "--model", f"faces/{trial}"), "several models predict age, gender, race"),
        ((str(photos), "--model", trial, "--margin", "0.2"), "give one of them"),
    ):
        result = agr("predict", "--no-crop", *arguments, code=2)
        assert result.stderr.startswith("error: ")
        assert words in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_predict_needs_the_data_set_only_where_the_trial_did_not_record_its_classes(
    trial: str, photos: Path, agr: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "packed" / "manifest.json").unlink()
    result = agr("predict", str(photos), "--model", trial, "--no-crop", code=2)
    assert "the meaning of the model's outputs is unknown" in result.stderr

    storage = open_storage(str(tmp_path / "storage"))
    key = f"{layout.attempt('faces-20260102-030405-abcd', trial, 0)}/labels.json"
    labels = {"genders": ["m", "f"], "races": list("abcde"), "attributes": [], "crop": None}
    storage.write(key, json.dumps(labels).encode())
    found = json.loads(agr("predict", str(photos), "--model", trial, "--no-crop", "--json").stdout)
    assert found[0]["faces"][0]["probabilities"]["gender"].keys() == {"m", "f"}


# ---- faces in photographs


def photograph(utkface: Path, target: Path) -> None:
    """Two real faces, 200 pixels wide, on a wall."""
    with tarfile.open(utkface) as archive:
        names = sorted(name for name in archive.getnames() if "/26_0_" in name)[:2]
        faces = [Image.open(io.BytesIO(archive.extractfile(name).read())) for name in names]  # type: ignore[union-attr]
    wall = Image.new("RGB", (900, 420), (180, 180, 180))
    for place, face in enumerate(faces):
        wall.paste(face.resize((200, 200)), (100 + 450 * place, 110))
    wall.save(target)


@pytest.fixture
def wall(tmp_path: Path) -> Path:
    photograph(real_data("utkface/UTKFace_8k.tar"), tmp_path / "wall.png")
    return tmp_path / "wall.png"


def test_faces_are_found_in_photographs(trial: str, wall: Path, agr: Callable[..., Result]) -> None:
    result = agr("predict", str(wall), "--model", trial, "--json")
    (one,) = json.loads(result.stdout)
    assert len(one["faces"]) == 2
    for face, left in zip(sorted(one["faces"], key=lambda face: face["box"]), (100, 550), strict=True):
        middle = (face["box"][0] + face["box"][2]) / 2, (face["box"][1] + face["box"][3]) / 2
        assert middle == pytest.approx((left + 100, 210), abs=40)
    assert "not cropped by agr" in result.stderr
    wide = json.loads(agr("predict", str(wall), "--model", trial, "--margin", "0.4", "--json").stdout)
    assert [face["box"] for face in wide[0]["faces"]] == [face["box"] for face in one["faces"]]
    assert [face["age"] for face in wide[0]["faces"]] != [face["age"] for face in one["faces"]]


def test_faces_are_cut_out_as_the_manifest_says(
    trial: str, wall: Path, agr: Callable[..., Result], tmp_path: Path
) -> None:
    with_margin = agr("predict", str(wall), "--model", trial, "--margin", "0.4", "--json").stdout
    path = tmp_path / "packed" / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(
        json.dumps({**manifest, "crop": {**FaceCropper(margin=0.4).manifest(), "faces": {}, "several": []}})
    )

    assert agr("predict", str(wall), "--model", trial, "--json").stdout == with_margin
    refused = agr("predict", str(wall), "--model", trial, "--margin", "0.1", code=2)
    assert "was cropped with a margin of 0.4" in refused.stderr


def test_an_image_without_a_face_has_none(trial: str, agr: Callable[..., Result], tmp_path: Path) -> None:
    Image.new("RGB", (300, 300), (120, 130, 140)).save(tmp_path / "sky.png")
    result = agr("predict", str(tmp_path / "sky.png"), "--model", trial, "--json")
    assert json.loads(result.stdout) == [{"file": str(tmp_path / "sky.png"), "faces": []}]
    assert "no face found" in agr("predict", str(tmp_path / "sky.png"), "--model", trial).stdout
