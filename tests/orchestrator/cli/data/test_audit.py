"""``agr data audit``: what people and programs see of an audit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from agr_core.config import SyntheticConfig
from agr_core.data.decode import decode
from agr_core.data.drawn.synthetic import draw_faces
from agr_core.data.packed.pack import pack, read_manifest
from orchestrator.cli.main import app

_KEYS = {
    "images", "duplicate_groups", "near_duplicate_groups", "cross_split_groups", "near_cross_split_groups",
    "label_conflicts", "near_label_conflicts", "passed", "unreadable", "bad_names", "tiny", "thin", "duplicates",
    "near_duplicates", "mirrored", "cross_split", "conflicts", "single_labels", "missing_classes", "shift",
}  # fmt: skip


def audit(*arguments: str | Path, code: int = 0) -> Result:
    result = CliRunner().invoke(app, ["data", "audit", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Drawn faces, one of them twice under two ages, one twice under one; one name that does not parse."""
    folder = tmp_path / "raw"
    folder.mkdir()
    faces = [face.data for face in draw_faces(SyntheticConfig(images=48, size=64, seed=5))]
    for number, data in enumerate(faces):
        (folder / f"{(20, 40)[number % 2]}_{number // 2 % 2}_{number // 4 % 2}_{number}.jpg").write_bytes(data)
    (folder / "60_0_0_again.jpg").write_bytes(faces[0])
    (folder / "20_0_0_again.jpg").write_bytes(faces[8])
    (folder / "20_0_again.jpg").write_bytes(faces[1])
    return folder


def _split(raw: Path, path: Path) -> Path:
    names = sorted(file.name for file in raw.iterdir())
    path.write_text("file,split\n" + "".join(f"{name},{'valid' if 'again' in name else 'train'}\n" for name in names))
    return path


def test_programs_get_every_finding_and_exit_code_1(raw: Path, tmp_path: Path) -> None:
    found = json.loads(audit(raw, "--split", _split(raw, tmp_path / "split.csv"), "--json", code=1).stdout)
    assert found.keys() == _KEYS
    assert (found["images"], found["duplicate_groups"]) == (50, 2)
    assert (found["cross_split_groups"], found["label_conflicts"]) == (2, 1)
    assert [entry["file"] for entry in found["bad_names"]] == ["20_0_again.jpg"]


def test_people_see_the_faults_first_with_examples(raw: Path) -> None:
    lines = audit(raw, code=1).stdout.splitlines()
    assert lines[0].endswith("50 images, not passed")
    assert lines[1].strip() == "1  groups of identical images or of one subject with contradicting labels"
    assert lines[2].strip() == "20_0_0_0.jpg: 20 / 60_0_0_again.jpg: 60"


def test_the_mended_split_passes_and_the_source_stays(raw: Path, tmp_path: Path) -> None:
    before = {file.name: hashlib.sha256(file.read_bytes()).digest() for file in raw.iterdir()}
    page, mended = tmp_path / "page.html", tmp_path / "mended.csv"
    given = _split(raw, tmp_path / "split.csv")
    text = given.read_text()
    found = json.loads(audit(raw, "--split", given, "--fix", mended, "--html", page, "--json", code=1).stdout)
    listed = tmp_path / "mended.left_out.csv"
    assert found["fix"] == {
        "split": str(mended), "left_out": str(listed), "images_moved": 1, "images_left_out": 2,
    }  # fmt: skip
    assert {file.name: hashlib.sha256(file.read_bytes()).digest() for file in raw.iterdir()} == before
    assert given.read_text() == text
    assert "passed" in audit(raw, "--split", mended).stdout
    assert "passed" in audit(raw, "--leave-out", listed).stdout
    assert "data:image/jpeg" in page.read_text()

    pack(str(raw), tmp_path / "packed")
    assert "passed" in audit(tmp_path / "packed", "--split", mended).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "does not exist"),
        (("{raw}", "--split", "nowhere.csv"), "nowhere.csv"),
        (("{raw}", "--split", "official"), "no official partition"),
        (("{raw}", "--leave-out", "nowhere.csv"), "nowhere.csv"),
        (("{raw}", "--html", "nowhere/page.html"), "nowhere/page.html"),
    ],
)
def test_what_cannot_be_used_is_exit_code_2(raw: Path, arguments: tuple[str, ...], said: str) -> None:
    assert said in audit(*(word.format(raw=raw) for word in arguments), code=2).output


def test_packing_prints_what_an_audit_finds(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGR_HOME", str(tmp_path / "home"))
    result = CliRunner().invoke(app, ["data", "pack", str(raw), "-o", str(tmp_path / "packed")])
    assert result.exit_code == 0, result.output
    assert "audit: groups of byte-identical images: 2, groups with contradicting labels: 1" in result.stderr


def test_a_split_leaves_out_what_the_list_names(raw: Path, tmp_path: Path) -> None:
    audit(raw, "--fix", tmp_path / "mended.csv", code=1)
    listed, split = tmp_path / "mended.left_out.csv", tmp_path / "split.parquet"
    arguments = ["data", "split", str(raw), "-o", str(split), "--leave-out", str(listed)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "2 of 50 images are in no part: left out by mended.left_out.csv (2)" in " ".join(result.stdout.split())
    pack(str(raw), tmp_path / "packed")
    assert "passed" in audit(tmp_path / "packed", "--split", split).stdout


def test_images_with_no_face_and_with_several_are_found(tmp_path: Path) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir()
    face = decode(list(draw_faces(SyntheticConfig(images=10, size=160, seed=1)))[6].data)
    for name, places in (("20_0_0_1", ()), ("20_0_0_2", (10,)), ("20_0_0_3", (10, 220)), ("20_0_0_4", (50,))):
        scene = np.full((200, 400, 3), 128, dtype=np.uint8)
        for left in places:
            scene[20:180, left : left + 160] = face
        Image.fromarray(scene).save(folder / f"{name}.png")
    page = tmp_path / "page.html"
    found = json.loads(audit(folder, "--faces", "--workers", "0", "--html", page, "--json").stdout)
    assert found.keys() == _KEYS | {"no_face", "several_faces", "no_detection"}
    assert found["no_face"] == ["20_0_0_1.png"]
    assert found["several_faces"] == [{"file": "20_0_0_3.png", "faces": 2}]
    assert found["no_detection"] == []
    sections = page.read_text().partition("No face found")[2].partition("Several faces")
    assert ("20_0_0_1.png" in sections[0], "20_0_0_3.png" in sections[2]) == (True, True)
    shown = audit(folder, "--faces", "--workers", "0").stdout
    assert "images without a face" in shown
    assert "20_0_0_3.png: 2 faces" in shown


def test_an_image_on_which_detection_fails_is_not_called_one_without_a_face(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "scenes"
    folder.mkdir()
    face = list(draw_faces(SyntheticConfig(images=10, size=160, seed=1)))[6].data
    (folder / "20_0_0_1.jpg").write_bytes(face)
    monkeypatch.setattr("agr_core.data.face_crop.MAX_PIXELS", 100)  # no crop fits
    found = json.loads(audit(folder, "--faces", "--workers", "0", "--json").stdout)
    assert found["no_face"] == []
    assert "its face takes" in found["no_detection"][0]["reason"]


def test_packing_leaves_out_what_the_list_names(raw: Path, tmp_path: Path) -> None:
    audit(raw, "--fix", tmp_path / "mended.csv", code=1)
    listed, packed = tmp_path / "mended.left_out.csv", tmp_path / "packed"
    arguments = ["data", "pack", str(raw), "-o", str(packed), "--leave-out", str(listed)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    manifest = read_manifest(packed)
    assert manifest["rows"] == 48
    assert {"file": "20_0_0_0.jpg", "reason": "left out: age contradicted by 60_0_0_again.jpg"} in manifest["skipped"]
    assert "passed" in audit(packed).stdout

    listed.write_text("file\nnobody.jpg\n")
    result = CliRunner().invoke(app, [*arguments[:4], str(tmp_path / "other"), *arguments[5:]])
    assert result.exit_code == 2
    assert "--leave-out names 'nobody.jpg', which the source does not have" in result.output
    assert not (tmp_path / "other").exists()
