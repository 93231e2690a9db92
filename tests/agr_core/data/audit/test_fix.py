from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agr_core.config import SplitConfig
from agr_core.data.audit.fix import fix, read_left_out, write_fixed
from agr_core.data.audit.report import Audit
from agr_core.data.splits.published import assigned_parts
from agr_core.data.splits.splits import make_split
from agr_core.errors import DataError, InputError

from .conftest import examined, jpeg, named, pixels_of

Folder = Callable[..., Path]


@pytest.fixture
def faulty(drawn: list[bytes], folder: Folder) -> Path:
    """Every tenth face again: with its own labels as it is, with its own and recompressed, and with another age."""
    files = named(drawn)
    names = list(files)
    for row in (0, 10, 20):
        files[f"{names[row][:7]}_same.jpg"] = files[names[row]]
    for row in (5, 15, 25):
        files[f"{names[row][:7]}_near.jpg"] = jpeg(pixels_of(files[names[row]]), 60)
    files["77_0_0_wrong.jpg"] = files[names[30]]
    files["77_0_0_wrong_near.jpg"] = jpeg(pixels_of(files[names[31]]), 60)
    return folder(files)


@pytest.fixture
def leaking(faulty: Path) -> Audit:
    seen = examined(faulty)
    parts = np.array(["val" if "_same" in name or "_near" in name else "train" for name in seen.table["path"]], object)
    return Audit(seen, parts)


def test_every_group_comes_to_lie_on_one_side_and_conflicts_in_none(leaking: Audit) -> None:
    assert (len(leaking.cross_split), len(leaking.near_cross_split)) == (3, 4)
    fixed = fix(leaking)
    audit = Audit(leaking.examined, fixed.parts)
    assert audit.passed
    wrong = [name for row, name in enumerate(audit.table["path"]) if fixed.parts[row] == "left_out"]
    assert len(wrong) == 4
    assert {"77_0_0_wrong.jpg", "77_0_0_wrong_near.jpg"} < set(wrong)
    assert fixed.moved == 6
    assert set(fixed.left_out) == {row for row, part in enumerate(fixed.parts) if part == "left_out"}


def test_without_a_split_there_is_a_new_one_with_three_parts(faulty: Path) -> None:
    audit = Audit(examined(faulty))
    fixed = fix(audit)
    assert set(fixed.parts) == {"train", "val", "test", "left_out"}
    assert Audit(audit.examined, fixed.parts).passed


@pytest.mark.parametrize("output", ["mended.csv", "mended"])
def test_the_files_say_where_each_image_is_and_what_contradicts_it(leaking: Audit, tmp_path: Path, output: str) -> None:
    fixed = fix(leaking)
    split, listed = write_fixed(leaking, fixed, tmp_path / output)
    names = ("mended.csv", "mended.left_out.csv") if output.endswith(".csv") else ("split.csv", "left_out.csv")
    assert (split.name, listed.name) == names
    parts = {row["file"]: row["split"] for row in csv.DictReader(split.open())}
    assert parts == dict(zip(leaking.table["path"], fixed.parts, strict=True))
    reasons = {row["file"]: row["reason"] for row in csv.DictReader(listed.open())}
    assert reasons["77_0_0_wrong.jpg"].startswith("age and race contradicted by 20_0_1_")
    assert len(reasons) == 4

    # What was written is a split that sweeps and audits take.
    made = make_split(leaking.table, SplitConfig(strategy="file", path=str(split)))
    assert made.parts.tolist() == fixed.parts.tolist() == assigned_parts(leaking.table, split).parts.tolist()
    assert made.groups.moved == 0
    out = read_left_out(leaking.table, listed)
    assert out.tolist() == [part == "left_out" for part in fixed.parts]


def test_the_list_alone_ends_the_conflicts(faulty: Path, leaking: Audit, tmp_path: Path) -> None:
    _, listed = write_fixed(leaking, fix(leaking), tmp_path / "mended.csv")
    seen = examined(faulty)
    assert not Audit(seen).passed
    assert Audit(seen, left_out=read_left_out(seen.table, listed)).passed


def test_nothing_is_written_over(leaking: Audit, tmp_path: Path) -> None:
    fixed = fix(leaking)
    (tmp_path / "mended.left_out.csv").write_text("mine")
    with pytest.raises(InputError, match=r"mended\.left_out\.csv exists"):
        write_fixed(leaking, fixed, tmp_path / "mended.csv")
    assert not (tmp_path / "mended.csv").exists()
    assert (tmp_path / "mended.left_out.csv").read_text() == "mine"


def test_of_two_files_one_of_which_cannot_be_written_neither_is_left(leaking: Audit, tmp_path: Path) -> None:
    name = "x" * 245  # with .csv a file may have it, with .left_out.csv none
    with pytest.raises(InputError, match=r"cannot write .*x\.left_out\.csv: File name too long"):
        write_fixed(leaking, fix(leaking), tmp_path / f"{name}.csv")
    assert list(tmp_path.glob("x*")) == []


def test_a_list_of_another_data_set_is_refused(leaking: Audit, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("file\nelsewhere.jpg\n")
    with pytest.raises(DataError, match=r"'elsewhere\.jpg', which the data set does not have"):
        read_left_out(leaking.table, tmp_path / "list.csv")
    (tmp_path / "list.csv").write_text("name\nx\n")
    with pytest.raises(DataError, match="no column `file`"):
        read_left_out(leaking.table, tmp_path / "list.csv")


def test_where_all_contradict_there_is_no_split(drawn: list[bytes], folder: Folder) -> None:
    audit = Audit(examined(folder({"20_0_0_a.jpg": drawn[0], "30_0_0_b.jpg": drawn[0]})))
    with pytest.raises(DataError, match="no image is left"):
        fix(audit)
