"""``agr data``: what people and programs see of data sets."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from agr_core.data.packed.pack import Packed, is_packed, verify
from orchestrator.cli.main import app
from tests.parts.real_data import real_data

if TYPE_CHECKING:
    from tests.parts.s3 import S3Server

# age, gender, race: 0 male 1 female; 0 White 1 Black 2 Asian 3 Indian 4 Others
LABELS = [(1, 0, 0), (5, 0, 1), (20, 1, 2), (20, 1, 3), (35, 0, 4), (50, 1, 0), (50, 1, 0), (90, 1, 0)]


def agr(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def document(*arguments: str | Path) -> dict[str, Any]:
    result = agr(*arguments, "--json")
    assert result.exit_code == 0, result.output
    parsed: dict[str, Any] = json.loads(result.stdout)
    return parsed


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Eight faces in UTKFace's format, one name with a missing field, one file that is no image."""
    path = tmp_path / "faces.tar"
    with tarfile.open(path, "w") as tar:

        def add(name: str, data: bytes) -> None:
            member = tarfile.TarInfo(f"faces/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))

        for number, (age, gender, race) in enumerate(LABELS):
            pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
            add(f"{age}_{gender}_{race}_20170{number}.jpg", cv2.imencode(".jpg", pixels)[1].tobytes())
        add("39_1_2017.jpg", b"")
        add("10_1_1_2017.jpg", b"no image [bold]")
    return path


EXPECTED = {
    "images": 8,
    "gender": {"male": 3, "female": 5},
    "race": {"White": 4, "Black": 1, "Asian": 1, "Indian": 1, "Others": 1},
    "age": {"min": 1.0, "max": 90.0, "mean": 33.875},
    "bins": {"0-2": 1, "3-6": 1, "7-14": 0, "15-30": 2, "31-40": 1, "41-65": 2, "66+": 1},
}


def test_pack_says_what_it_packed_and_what_it_skipped(raw: Path, tmp_path: Path) -> None:
    packed = document("pack", raw, "-o", tmp_path / "packed", "--allow-skipped")

    assert {name: packed[name] for name in EXPECTED} == EXPECTED
    assert [entry["file"] for entry in packed["skipped"]] == ["faces/10_1_1_2017.jpg", "faces/39_1_2017.jpg"]
    assert all(entry["reason"] for entry in packed["skipped"])
    assert packed["digest"] == Packed.open(tmp_path / "packed").digest
    assert set(packed) == {
        "images",
        "digest",
        "skipped",
        "gender",
        "race",
        "age",
        "bins",
        "bin_ages",
        "partition",
        "unknown",
        "attributes",
    }


def test_more_than_a_tenth_lost_is_an_error_unless_allowed_and_a_hundredth_a_warning(raw: Path, tmp_path: Path) -> None:
    refused = agr("pack", raw, "-o", tmp_path / "packed")
    assert refused.exit_code == 2
    assert "2 of 10 images and labels cannot be used, 20.0%, more than 10%" in refused.stderr
    assert "the name is not [age]_[gender]_[race]_[time].jpg: 1" in refused.stderr
    assert not (tmp_path / "packed").exists()
    allowed = agr("pack", raw, "-o", tmp_path / "packed", "--allow-skipped")
    assert allowed.exit_code == 0
    assert "warning: 2 of 10 images and labels could not be used, 20.0%" in allowed.stderr


def test_stats_of_the_raw_and_of_the_packed_data_are_what_pack_said(raw: Path, tmp_path: Path) -> None:
    packed = document("pack", raw, "-o", tmp_path / "packed", "--allow-skipped")

    assert document("stats", raw) == document("stats", tmp_path / "packed") == packed


def test_stats_writes_a_page_beside_the_counts(raw: Path, tmp_path: Path) -> None:
    said = agr("stats", raw, "--html", tmp_path / "page.html", "--json")
    assert json.loads(said.stdout)["images"] == 8
    assert "wrote" in said.stderr
    assert f"<h1>{raw}</h1>" in (tmp_path / "page.html").read_text(encoding="utf-8")
    refused = agr("stats", raw, "--html", tmp_path / "no" / "page.html")
    assert refused.exit_code == 2
    assert "Give another file with --html." in refused.stderr


def test_the_bins_of_another_scheme_are_counted(raw: Path) -> None:
    assert document("stats", raw, "--bins", "utk4")["bins"] == {"0-12": 2, "13-19": 0, "20-59": 5, "60+": 1}


def test_people_see_counts_bars_and_every_skipped_file_in_full(raw: Path, tmp_path: Path) -> None:
    said = agr("pack", raw, "-o", tmp_path / "packed", "--allow-skipped")

    assert said.exit_code == 0
    lines = said.stdout.splitlines()
    assert f"{tmp_path / 'packed'}: 8 images, digest" in lines[0]
    assert lines[1] == "ages 1 to 90 years, mean 33.9"
    row = next(line for line in lines if line.startswith("female"))
    assert row.split()[:3] == ["female", "5", "62.5%"]
    assert "██████" in row
    assert "2 files skipped:" in lines
    assert any(line.startswith("  faces/39_1_2017.jpg: the name is not [age]_[gender]_[race]") for line in lines)
    assert "packing" in said.stderr
    assert "packing" not in said.stdout


def test_images_without_a_required_label_are_skipped_and_named(tmp_path: Path) -> None:
    header = "user_id\toriginal_image\tface_id\tage\tgender\n"
    (tmp_path / "adience/faces/ann").mkdir(parents=True)
    rows = [("a.jpg", "(25, 32)", "f"), ("b.jpg", "None", "f"), ("c.jpg", "(4, 6)", "u"), ("d.jpg", "None", "")]
    for number, (name, _, _) in enumerate(rows):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 20, 3), dtype=np.uint8)
        place = tmp_path / f"adience/faces/ann/coarse_tilt_aligned_face.7.{name}"
        place.write_bytes(cv2.imencode(".jpg", pixels)[1].tobytes())
    lines = "".join(f"ann\t{name}\t7\t{age}\t{gender}\n" for name, age, gender in rows)
    (tmp_path / "adience/fold_0_data.txt").write_text(header + lines)

    everything = document("pack", tmp_path / "adience", "-o", tmp_path / "all")
    both = document("pack", tmp_path / "adience", "-o", tmp_path / "both", "--require", "age", "--require", "gender")

    assert (everything["images"], everything["unknown"]) == (4, {"age": 2, "gender": 2, "race": 4})
    assert everything["partition"] == {"0": 4}
    assert (both["images"], both["unknown"]) == (1, {"age": 0, "gender": 0, "race": 1})
    assert [entry["reason"] for entry in both["skipped"]] == [
        "no age label, which was required",
        "no gender label, which was required",
        "no age and no gender label, which was required",
    ]
    said = agr("stats", tmp_path / "all").stdout.splitlines()
    assert "images without a label: age 2, gender 2, race 4" in said


def test_labels_are_counted_where_there_is_no_image(tmp_path: Path) -> None:
    lines = "".join(f"ann\t{number}.jpg\t7\t{age}\tf\n" for number, age in enumerate(["(0, 2)", "None", "(0, 2)"]))
    header = "user_id\toriginal_image\tface_id\tage\tgender\n"
    (tmp_path / "fold_3_data.txt").write_text(header + lines + lines[: lines.index("\n") + 1])

    told = document("labels", tmp_path)

    assert (told["images"], told["gender"], told["partition"]) == (3, {"male": 0, "female": 3}, {"3": 3})
    assert told["unknown"] == {"age": 1, "gender": 0, "race": 3}
    assert told["skipped"] == [{"file": "fold_3_data.txt, line 5", "reason": "repeats an earlier line"}]
    assert document("labels", tmp_path, "--require", "age")["images"] == 2
    said = agr("labels", tmp_path).stdout.splitlines()
    assert said[0] == f"{tmp_path}: labels of 3 images"
    assert "1 files skipped:" in said


def test_many_files_skipped_for_one_reason_are_one_line_for_people_and_all_in_json(tmp_path: Path) -> None:
    for number in range(30):
        (tmp_path / f"{number:02d}_0_0_1.jpg").write_bytes(b"" if number else b"no image")
    (tmp_path / "1_0_0_1.jpg").write_bytes(cv2.imencode(".jpg", np.zeros((20, 20, 3), np.uint8))[1].tobytes())

    assert len(document("stats", tmp_path)["skipped"]) == 30
    said = agr("stats", tmp_path).stdout.splitlines()
    assert said[said.index("30 files skipped:") + 1 :] == [
        "  29 files, 01_0_0_1.jpg and others that --json names: the file is empty",
        "  00_0_0_1.jpg: not an image of a known format",
    ]


def test_synth_draws_the_same_faces_for_the_same_seed(tmp_path: Path) -> None:
    options = ("--images", "30", "--size", "16", "--seed")
    first = document("synth", "-o", tmp_path / "a", *options, "5")
    again = document("synth", "-o", tmp_path / "b", *options, "5")
    other = document("synth", "-o", tmp_path / "c", *options, "6")

    assert first == again
    assert first["images"] == 30
    assert first["digest"] != other["digest"]
    verify(tmp_path / "a")


def test_synth_can_draw_with_another_data_set_s_labels(tmp_path: Path) -> None:
    drawn = document("synth", "-o", tmp_path / "a", "--images", "30", "--size", "16", "--like", "fairface")

    assert drawn["partition"] == {"train": 27, "val": 3}
    assert "East Asian" in drawn["race"]


def test_synth_lays_faces_out_as_a_data_set_that_pack_then_reads(tmp_path: Path) -> None:
    options = ("--images", "30", "--size", "16", "--layout", "celeba")
    assert document("synth", "-o", tmp_path / "raw", *options) == {
        "images": 30,
        "folder": str(tmp_path / "raw"),
        "layout": "celeba",
    }
    packed = document("pack", tmp_path / "raw", "-o", tmp_path / "packed")

    assert (packed["images"], packed["skipped"]) == (30, [])
    assert packed["partition"] == {"test": 3, "train": 24, "val": 3}
    assert packed["attributes"]["Male"] == packed["gender"]["male"]
    said = agr("synth", "-o", tmp_path / "again", *options)
    assert said.stdout == (
        f"{tmp_path / 'again'}: 30 images laid out as celeba; next: agr data pack {tmp_path / 'again'} -o FOLDER\n"
    )


@pytest.mark.services
def test_a_data_set_goes_into_s3_and_comes_back(raw: Path, tmp_path: Path, s3_uri: str) -> None:
    packed = document("pack", raw, "-o", f"{s3_uri}/packed", "--allow-skipped")
    pulled = document("pull", f"{s3_uri}/packed", tmp_path / "copy")
    pushed = document("push", tmp_path / "copy", f"{s3_uri}/pushed")

    assert pulled == {
        "images": 8,
        "digest": packed["digest"],
        "source": f"{s3_uri}/packed",
        "target": str(tmp_path / "copy"),
    }
    assert pushed["digest"] == packed["digest"]
    assert document("stats", f"{s3_uri}/pushed") == packed
    assert agr("pull", f"{s3_uri}/pushed", tmp_path / "copy").stdout.startswith(f"{tmp_path / 'copy'}: 8 images, ")


@pytest.mark.services
def test_a_bucket_that_is_not_there_fails_with_one_line(raw: Path, s3_environment: S3Server) -> None:
    failed = agr("pack", raw, "-o", "s3://no-such-bucket/faces")

    assert failed.exit_code == 1
    assert failed.stderr.splitlines()[-1].startswith("error: ")
    assert "there is no bucket 'no-such-bucket'" in failed.stderr
    assert failed.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pack", "no-such-folder", "-o", "out"), "no-such-folder does not exist"),
        (("pack", "empty", "-o", "out"), "empty"),
        (("pack", "faces.tar", "-o", "file:out"), "give s3://bucket/prefix, or the plain path of a folder"),
        (("pack", "faces.tar", "-o", "out", "--reader", "utkfaces"), "Did you mean 'utkface'?"),
        (("pack", "faces.tar", "-o", "out", "--bins", "utk77"), "Did you mean 'utk7'?"),
        (("pack", "faces.tar", "-o", "empty/.."), "exists and is not a packed data set"),
        (("pack", "faces.tar", "-o", "out", "--margin", "0.2"), "need --crop"),
        (("pack", "faces.tar", "-o", "out", "--align"), "need --crop"),
        (("pack", "faces.tar", "-o", "out", "--crop", "--margin", "-1"), "margin -1"),
        (("stats", "no-such-folder"), "no-such-folder does not exist"),
        (("stats", "faces.tar", "--against", "empty"), "--against needs --html FILE"),
        (("stats", "faces.tar", "--bins", "utk77"), "Did you mean 'utk7'?"),
        (("push", "empty", "s3://bucket/faces"), "empty is not a packed data set"),
        (("push", "s3://bucket/faces", "empty"), "must be s3://bucket/prefix"),
        (("pull", "empty", "s3://bucket/faces"), "must be s3://bucket/prefix"),
        (("pull", "s3://bucket/faces", "s3://bucket/other"), "must be a folder of this machine"),
        (("pull", "s3://k:hunter2@bucket/faces", "out"), "holds credentials"),
        (("synth", "-o", "out", "--images", "3"), "--images"),
        (("synth", "-o", "out", "--size", "9999"), "--size"),
        (("synth", "-o", "out", "--like", "utk"), "--like"),
        (
            ("synth", "-o", "out", "--layout", "celeba", "--like", "plain"),
            "needs the labels of faces drawn like celeba",
        ),
        (("synth", "-o", "s3://bucket/raw", "--layout", "celeba"), "must be a folder of this machine"),
        (("synth", "-o", ".", "--layout", "celeba"), "exists and is not an empty folder"),
        (("pack", "faces.tar", "-o", "out", "--require", "beauty"), "--require"),
        (
            ("pack", "faces.tar", "-o", "out", "--reader", "utkface", "--min-face-score", "1"),
            "is for imdb_wiki, not for",
        ),
        (("pack", "faces.tar", "-o", "out", "--min-face-score", "1"), "has none of imdb.mat, wiki.mat"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_input_is_one_message_and_exit_code_2(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()

    refused = agr(*arguments)

    assert refused.exit_code == 2, refused.output
    assert message in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "hunter2" not in refused.stderr
    assert refused.stdout == ""
    assert not is_packed(Path("out"))


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from orchestrator.cli.main import app\n"
        "assert CliRunner().invoke(app, ['data', '--help']).exit_code == 0\n"
        "print([name for name in ('torch', 'ray', 'mlflow', 'boto3', 'pandas', 'cv2') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "[]"


@pytest.mark.slow
def test_real_faces_are_packed_but_for_the_three_malformed_names(tmp_path: Path) -> None:
    packed = document("pack", real_data("utkface/UTKFace_8k.tar"), "-o", tmp_path / "packed")

    assert packed["images"] == 8_000
    assert [entry["file"] for entry in packed["skipped"]] == [
        "UTKFace/39_1_20170116174525125.jpg.chip.jpg",
        "UTKFace/61_1_20170109142408075.jpg.chip.jpg",
        "UTKFace/61_1_20170109150557335.jpg.chip.jpg",
    ]
    assert sum(packed["gender"].values()) == sum(packed["race"].values()) == sum(packed["bins"].values()) == 8_000


AUGMENTS = """
name: pictures
space:
  augment: [{name: crop_flip}, {name: rand_augment}]
trial: {image: {size: 16, crop_from: 20}}
search: {algorithm: grid}
objective: {metric: val/loss, direction: minimize}
"""


def test_augment_draws_each_augmentation_of_a_sweep_file_before_and_after(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(AUGMENTS)
    picture = tmp_path / "grid.png"
    result = agr("augment", raw, "--config", tmp_path / "sweep.yaml", "-o", picture, "--images", "2", "--versions", "3")
    assert result.exit_code == 0, result.output
    pixels = cv2.imread(str(picture))
    assert pixels is not None
    assert pixels.shape[0] > pixels.shape[1] / 2 > 100  # four rows of four


def test_augment_refuses_a_picture_that_cannot_be_written(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(AUGMENTS)
    result = agr("augment", raw, "--config", tmp_path / "sweep.yaml", "-o", tmp_path / "no" / "grid.png")
    assert result.exit_code == 2
    assert "cannot write" in result.output
    assert "--output" in result.output


def test_labels_that_no_image_has_get_no_table_of_zeros(tmp_path: Path) -> None:
    agr("synth", "--layout", "celeba", "--images", "12", "--size", "16", "-o", tmp_path / "raw")
    said = agr("pack", tmp_path / "raw", "-o", tmp_path / "celeba").stdout
    assert "images without a label: age 12, race 12" in said
    assert "gender" in said
    assert "age (utk7)" not in said
