"""``agr data pack`` of anybody's faces: twelve forms in which people bring them, one command each, no row lost unsaid.

What is packed is counted against what pandas reads of the same files.
"""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from agr_core.data.packed.pack import Packed
from orchestrator.cli.main import app

COUNT = 24


def picture(seed: int) -> bytes:
    """A JPEG of its own for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 255, (5, 5, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.kron(pixels, np.ones((4, 4, 1), dtype=np.uint8))).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@dataclass
class Brought:
    """What somebody brings: the source, the options it takes, what pandas reads, and the images that can be packed."""

    source: Path
    table: pd.DataFrame
    images: int
    options: list[str] = field(default_factory=list)
    ages: set[tuple[float, float]] | None = None
    genders: tuple[int, int] | None = None


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def tarred(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def images(pattern: str, count: int = COUNT) -> dict[str, bytes]:
    return {pattern.format(number): picture(number) for number in range(count)}


def labelled(name: str, **columns: list[Any]) -> pd.DataFrame:
    """A table of COUNT rows; ``name`` is the pattern of the images' names."""
    given = {"gender": ["male", "female"] * (COUNT // 2), "age": [20 + number for number in range(COUNT)]}
    return pd.DataFrame({"file_name": [name.format(number) for number in range(COUNT)], **given, **columns})


def csv_with_own_columns(folder: Path) -> Brought:
    """Two rows have no image, one image is damaged."""
    table = labelled("{:02d}.jpg").rename(columns={"file_name": "img", "age": "age_years", "gender": "sex"})
    table.to_csv(folder / "labels.csv", index=False)
    files = images("{:02d}.jpg", COUNT - 2) | {"03.jpg": picture(3)[:200]}
    write(folder / "photos", files)
    options = ["--labels", str(folder / "labels.csv"), "--columns", "path=img,age=age_years,gender=sex"]
    return Brought(folder / "photos", pd.read_csv(folder / "labels.csv"), COUNT - 3, [*options, "--allow-skipped"])


def tsv_with_backslashes(folder: Path) -> Brought:
    table = labelled("train\\{:02d}.jpg", gender=["M", "F"] * (COUNT // 2))
    table.to_csv(folder / "labels.tsv", index=False, sep="\t")
    write(folder / "faces", images("train/{:02d}.jpg"))
    options = ["--labels", str(folder / "labels.tsv")]
    return Brought(folder / "faces", pd.read_csv(folder / "labels.tsv", sep="\t"), COUNT, options, genders=(12, 12))


def json_lines_in_a_zip(folder: Path) -> Brought:
    text = labelled("{:02d}.jpg").to_json(orient="records", lines=True)
    source = zipped(folder / "faces.zip", images("set/img/{:02d}.jpg") | {"set/labels.jsonl": text.encode()})
    return Brought(source, pd.read_json(io.StringIO(text), lines=True), COUNT, ["--labels", "labels.jsonl"])


def parquet_beside_a_tar(folder: Path) -> Brought:
    labelled("/data/somewhere/{:02d}.jpg", race=["White", "East Asian", "Latino_Hispanic"] * (COUNT // 3)).to_parquet(
        folder / "labels.parquet"
    )
    source = tarred(folder / "faces.tar", images("faces/{:02d}.jpg"))
    options = ["--labels", str(folder / "labels.parquet")]
    return Brought(source, pd.read_parquet(folder / "labels.parquet"), COUNT, options)


def excel_with_ranges_taken_for_dates(folder: Path) -> Brought:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["Photo", "Age", "Gender"])
    dates = [
        (datetime(2023, 9, 3), "d-mmm"),
        (datetime(2019, 10, 1), "mmm-yy"),
        (None, "20-29"),
        (None, "more than 70"),
    ]
    for number in range(COUNT):
        when, shown = dates[number % 4]
        sheet.append([f"{number:02d}.jpg", when or shown, "Female"])
        if when is not None:
            sheet.cell(row=number + 2, column=2).number_format = shown
    book.save(folder / "labels.xlsx")
    write(folder / "faces", images("{:02d}.jpg"))
    options = ["--labels", str(folder / "labels.xlsx")]
    ages = {(3.0, 9.0), (10.0, 19.0), (20.0, 29.0), (70.0, 116.0)}
    return Brought(folder / "faces", pd.read_excel(folder / "labels.xlsx"), COUNT, options, ages)


def hugging_face(folder: Path) -> Brought:
    """Image bytes in the file, codes named in its metadata; one image is damaged."""
    table = pa.table(
        {
            "image": [
                {"bytes": b"no image" if number == 5 else picture(number), "path": f"{number}.jpg"}
                for number in range(COUNT)
            ],
            "age": [number % 2 for number in range(COUNT)],
            "gender": [number % 2 for number in range(COUNT)],
        }
    )
    features = {
        "age": {"names": ["3-9", "more than 70"], "_type": "ClassLabel"},
        "gender": {"names": ["Male", "Female"], "_type": "ClassLabel"},
    }
    described = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(described, folder / "faces.parquet")
    table_read = pd.read_parquet(folder / "faces.parquet")
    return Brought(folder / "faces.parquet", table_read, COUNT - 1, [], {(3.0, 9.0), (70.0, 116.0)}, (12, 11))


def sharded_hugging_face(folder: Path) -> Brought:
    for number, part in enumerate(("train", "test")):
        rows = range(number * 12, number * 12 + 12)
        table = pa.table({"image": [{"bytes": picture(row), "path": None} for row in rows], "age": [30] * 12})
        write(folder / "set/data", {})
        (folder / "set/data").mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / f"set/data/{part}-00000-of-00001.parquet")
    return Brought(folder / "set", pd.read_parquet(folder / "set/data"), COUNT)


def image_folder(folder: Path) -> Brought:
    """``metadata.csv`` in the folder of each part, names relative to it."""
    tables = []
    for part in ("train", "test"):
        table = labelled("{:02d}.jpg")
        write(
            folder / "set", images(part + "/{:02d}.jpg") | {f"{part}/metadata.csv": table.to_csv(index=False).encode()}
        )
        tables.append(pd.read_csv(folder / f"set/{part}/metadata.csv"))
    return Brought(folder / "set", pd.concat(tables), 2 * COUNT)


def kaggle_pixels(folder: Path) -> Brought:
    """One image lacks a pixel."""
    random = np.random.default_rng(0)
    pixels = [" ".join(map(str, random.integers(0, 256, 48 * 48 - (row == 7)))) for row in range(COUNT)]
    table = pd.DataFrame(
        {
            "age": range(1, COUNT + 1),
            "ethnicity": [row % 5 for row in range(COUNT)],
            "gender": [row % 2 for row in range(COUNT)],
            "img_name": [f"2016{row:04d}.jpg.chip.jpg" for row in range(COUNT)],
            "pixels": pixels,
        }
    )
    table.to_csv(folder / "age_gender.csv", index=False)
    return Brought(folder / "age_gender.csv", pd.read_csv(folder / "age_gender.csv"), COUNT - 1, genders=(12, 11))


def codes_and_semicolons(folder: Path) -> Brought:
    table = labelled(
        "{:02d}.jpg",
        age=["(25, 32)", "60+", "4", "15-20"] * (COUNT // 4),
        gender=[1, 2] * (COUNT // 2),
        race=[4, 0] * (COUNT // 2),
    )
    table.to_csv(folder / "labels.csv", index=False, sep=";", encoding="utf-16")
    write(folder / "faces", images("{:02d}.jpg"))
    options = ["--labels", str(folder / "labels.csv"), "--map", "gender.1=male,gender.2=female"]
    options += ["--map", "race.4=Others,race.0=White"]
    ages = {(25.0, 32.0), (60.0, 116.0), (4.0, 4.0), (15.0, 20.0)}
    read = pd.read_csv(folder / "labels.csv", sep=";", encoding="utf-16")
    return Brought(folder / "faces", read, COUNT, options, ages, (12, 12))


def metadata_json_lines(folder: Path) -> Brought:
    """Inside an archive, found without a word."""
    text = labelled("img/{:02d}.jpg").to_json(orient="records", lines=True)
    source = tarred(folder / "faces.tar.gz", images("img/{:02d}.jpg") | {"metadata.jsonl": text.encode()})
    return Brought(source, pd.read_json(io.StringIO(text), lines=True), COUNT)


def csv_beside_an_archive(folder: Path) -> Brought:
    """A row repeats another, one is torn, two disagree; a picture is not named, a text is none."""
    table = labelled("{:02d}.jpg")
    lines = table.to_csv(index=False).splitlines()
    lines += ["00.jpg,male,20", "01.jpg,male,99", "gone.jpg,female,30"]
    write(
        folder / "set",
        {"labels.csv": "\n".join(lines).encode() + b"\n", "readme.md": b"faces", "extra.png": picture(9)},
    )
    zipped(folder / "set/faces.zip", images("{:02d}.jpg"))
    read = pd.read_csv(folder / "set/labels.csv")
    return Brought(folder / "set", read, COUNT - 1, ["--labels", "labels.csv", "--allow-skipped"])


SOURCES = [
    csv_with_own_columns,
    tsv_with_backslashes,
    json_lines_in_a_zip,
    parquet_beside_a_tar,
    excel_with_ranges_taken_for_dates,
    hugging_face,
    sharded_hugging_face,
    image_folder,
    kaggle_pixels,
    codes_and_semicolons,
    metadata_json_lines,
    csv_beside_an_archive,
]

NO_ROWS = ("no line of", "not an image file by its name", "the table holds the images itself")


def agr(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["data", "pack", *map(str, arguments)])


@pytest.mark.parametrize("bring", SOURCES)
def test_every_row_is_packed_or_named_with_its_reason(bring: Callable[[Path], Brought], tmp_path: Path) -> None:
    brought = bring(tmp_path)

    result = agr(brought.source, *brought.options, "-o", tmp_path / "packed", "--json")

    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["images"] == brought.images
    of_rows = [entry for entry in document["skipped"] if not entry["reason"].startswith(NO_ROWS)]
    assert brought.images + len(of_rows) == len(brought.table)
    packed = Packed.open(tmp_path / "packed")
    assert packed.manifest["labels"]["rows"] == len(brought.table)
    ages = {(float(low), float(high)) for low, high in packed.table[["age_low", "age_high"]].itertuples(index=False)}
    if brought.ages is not None:
        assert ages == brought.ages
    else:
        assert ages <= {(float(age), float(age)) for age in brought.table.filter(regex="^age").iloc[:, 0].astype(float)}
    if brought.genders is not None:
        counts = packed.table["gender"].value_counts()
        assert (counts["male"], counts["female"]) == brought.genders
    again = agr(brought.source, "--mapping", tmp_path / "packed", "-o", tmp_path / "again", "--allow-skipped")
    assert again.exit_code == 0, again.stderr
    assert Packed.open(tmp_path / "again").digest == packed.digest


def test_a_dry_run_shows_columns_values_and_ten_images_and_writes_nothing(tmp_path: Path) -> None:
    brought = codes_and_semicolons(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    result = agr(brought.source, *brought.options, "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count("age ") == 10
    assert "00.jpg: age 25-32, male, Others" in result.stdout
    assert "path: column file_name" in result.stderr
    rows = [line.split() for line in result.stderr.splitlines()]
    assert ["gender", "1", "12", "male", "--map"] in rows
    assert ["age", "60+", "6", "60-116"] in rows
    assert sorted(tmp_path.rglob("*")) == before
    document = json.loads(agr(brought.source, *brought.options, "--dry-run", "--json").stdout)
    assert len(document["images"]) == 10
    assert document["labels"]["rows"] == COUNT


def test_values_that_nobody_mapped_are_an_error_and_nothing_is_packed(tmp_path: Path) -> None:
    brought = codes_and_semicolons(tmp_path)
    result = agr(brought.source, *brought.options[:2], "-o", tmp_path / "packed")
    assert result.exit_code == 2
    assert (
        "gender (column gender): '1' 12 times, '2' 12 times; race (column race): '0' 12 times, '4' 12" in result.stderr
    )
    assert not (tmp_path / "packed").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no output given; give --output FOLDER"),
        (["-o", "p", "--labels", "gone.csv"], "--labels gone.csv is not a file, and"),
        (["-o", "p", "--labels", "00.jpg"], "00.jpg is not a table"),
        (["-o", "p", "--columns", "age"], "must be ROLE=COLUMN"),
        (["-o", "p", "--labels", "x.csv", "--reader", "utkface"], "--reader and --labels both set how labels are read"),
        (["-o", "p", "--mapping", "none"], "is not a packed data set"),
    ],
)
def test_options_that_make_no_sense_are_one_message(options: list[str], message: str, tmp_path: Path) -> None:
    source = write(tmp_path / "faces", images("{:02d}.jpg"))
    result = agr(source, *options)
    assert result.exit_code == 2
    assert message in result.stderr
