"""``agr data split``: what people and programs see of a split."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from agr_core.config import SplitConfig, SyntheticConfig
from agr_core.data.packed.pack import Packed, pack
from agr_core.data.splits.splits import make_split, read_split
from orchestrator.cli.main import app


def agr(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["data", "split", *map(str, arguments)])


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    folder = tmp_path_factory.mktemp("faces") / "faces"
    pack("synthetic", folder, synthetic=SyntheticConfig(images=240, size=16, seed=2, like="adience"))
    return Packed.open(folder)


def test_a_split_is_written_and_its_parts_classes_and_groups_are_printed(faces: Packed, tmp_path: Path) -> None:
    out = tmp_path / "s.parquet"
    result = agr(faces.folder, "-o", out, "--by", "age,gender", "--fractions", "0.6,0.2,0.2", "--seed", "7", "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)

    wanted = SplitConfig(by=("age", "gender"), fractions=(0.6, 0.2, 0.2), seed=7)
    split = read_split(out)
    assert told["digest"] == split.digest == make_split(faces.table, wanted).digest
    for part in ("train", "val", "test"):
        rows = faces.table[split.parts == part]
        assert told["parts"][part]["images"] == len(rows)
        assert told["parts"][part]["gender"] == {"male": 0, "female": 0} | Counter(rows["gender"].dropna())
    subjects = faces.table["subject"].value_counts()
    assert told["groups"]["subjects"] == (subjects > 1).sum() > 0
    assert told["left_out"] == {}


def test_people_see_a_table_and_what_is_left_out(faces: Packed, tmp_path: Path) -> None:
    result = agr(faces.folder, "-o", tmp_path / "s.parquet", "--strategy", "official", "--train", "0,1,2", "--val", "3")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{tmp_path / 's.parquet'}: digest ")
    found = Counter(faces.table["partition"])
    images = next(line for line in lines if line.startswith("images"))
    assert images.split() == ["images", str(found["0"] + found["1"] + found["2"]), str(found["3"]), "0"]
    assert f"partition '4' is not used ({found['4']})" in result.stdout


def test_the_written_file_is_a_split_to_take_and_is_not_overwritten_by_another(faces: Packed, tmp_path: Path) -> None:
    first, again = tmp_path / "a.parquet", tmp_path / "b.parquet"
    assert agr(faces.folder, "-o", first, "--ages", "0,40").exit_code == 0
    assert agr(faces.folder, "-o", first, "--ages", "0,40").exit_code == 0
    assert agr(faces.folder, "-o", again, "--strategy", "file", "--path", first).exit_code == 0
    assert read_split(again).digest == read_split(first).digest

    refused = agr(faces.folder, "-o", first)
    assert refused.exit_code == 2
    assert "a.parquet holds another split" in refused.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--strategy", "kfolds"), "split.strategy"),
        (("--fold", "1"), "fold with strategy=stratified has no effect"),
        (("--fractions", "80%,20%"), "--fractions '80%,20%' must be comma-separated numbers"),
        (("--fractions", "0.8,0.1"), "split.fractions"),
        (("--ages", "65,10"), "reversed"),
        (("--strategy", "file", "--path", "none.csv"), "does not exist"),
        (("--bins", "utk77"), "Did you mean 'utk7'?"),
    ],
)
def test_wrong_options_are_one_message(faces: Packed, tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    refused = agr(faces.folder, "-o", tmp_path / "s.parquet", *options)
    assert refused.exit_code == 2
    assert message in refused.stderr
    assert not (tmp_path / "s.parquet").exists()
