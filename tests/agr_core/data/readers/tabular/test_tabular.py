"""Tables of labels: what ages, columns, values and names of images mean, and what is refused."""

from __future__ import annotations

import io
import json
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agr_core.data.packed.pack import Packed, pack
from agr_core.data.readers.tabular import LabelOptions
from agr_core.data.readers.tabular.ages import parse_age
from agr_core.data.readers.tabular.children import pixels_png
from agr_core.data.readers.tabular.columns import choose_columns
from agr_core.data.readers.tabular.image_index import ImageIndex
from agr_core.data.readers.tabular.sheet import MAX_LINE, read_sheet
from agr_core.data.readers.tabular.values import Values
from agr_core.errors import DataError

from ...conftest import picture


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("25", (25, 25)),
        ("25.5", (25.5, 25.5)),
        (" 25 years ", (25, 25)),
        ("25-32", (25, 32)),
        ("(25, 32)", (25, 32)),
        ("[25,32]", (25, 32)),
        ("25 to 32", (25, 32)),
        ("25\N{EN DASH}32", (25, 32)),
        ("60+", (60, 116)),
        ("60 and over", (60, 116)),
        ("more than 70", (70, 116)),
        (">70", (70, 116)),
        ("under 3", (0, 2)),
        ("<= 2", (0, 2)),
        ("03-Sep", (3, 9)),
        ("3-Sep", (3, 9)),
        ("09-Mar", (3, 9)),
        ("Oct-19", (10, 19)),
        ("19-Oct", (10, 19)),
        ("2-Jan", (1, 2)),
        ("32-25", None),
        ("-1", None),
        ("adult", None),
        ("25 or so", None),
        ("3-Foo", None),
        ("2023-09-03", None),
        ("", None),
    ],
)
def test_ages_are_read_as_people_and_spreadsheets_write_them(text: str, years: tuple[float, float] | None) -> None:
    assert parse_age(text) == years


def test_columns_are_found_by_their_usual_names_and_given_ones_decide() -> None:
    columns = ("Img-Name", "apparent_age", "Age", "Sex", "note")
    found = choose_columns(columns, {}, file="t.csv", embedded=None)
    assert found.of == {"path": "Img-Name", "age": "Age", "gender": "Sex"}
    assert found.passed_over == {"age": ("apparent_age",)}
    given = choose_columns(columns, {"age": "apparent_age", "gender": ""}, file="t.csv", embedded=None)
    assert given.of == {"path": "Img-Name", "age": "apparent_age"}


@pytest.mark.parametrize(
    ("columns", "given", "message"),
    [
        (("file", "age"), {"age": "years"}, "has no column 'years'; its columns are file, age"),
        (("who", "age"), {}, "no column that names the image .who, age."),
        (("file", "hair"), {}, "no column of ages, genders or races"),
    ],
)
def test_a_column_that_is_missing_is_named(columns: tuple[str, ...], given: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        choose_columns(columns, given, file="t.csv", embedded=None)


def test_every_value_that_nobody_mapped_is_named_with_its_count() -> None:
    values = Values({}, {}, {})
    values.take("gender", ["1", "2", "1", "male", "", "NaN"])
    values.take("race", ["4.0"])
    with pytest.raises(DataError) as error:
        values.check("t.csv", {"gender": "sex", "race": "eth"})
    said = str(error.value)
    assert (
        "the meaning of 3 values is unknown: gender (column sex): '1' 2 times, '2' 1 times; race (column eth): '4.0'"
        in said
    )
    assert "--map gender.1=male" in said


def test_given_meanings_come_before_the_file_s_names_and_these_before_words() -> None:
    values = Values(
        {"gender": {"male": "female", "u": "", "1": "male"}}, {"gender": {"2": "Female"}}, {"race": {"4": "Others"}}
    )
    values.take("gender", ["male", "U", "1.0", "2", "woman", "null"])
    values.take("race", ["4", "South-East Asian", "latino_hispanic"])
    values.check("t.csv", {})
    genders = [values.meaning("gender", text) for text in ("male", "U", "1.0", "2", "woman", "null")]
    assert genders == ["female", None, "male", "female", "female", None]
    races = [values.meaning("race", text) for text in ("4", "South-East Asian", "latino_hispanic")]
    assert races == ["Others", "Southeast Asian", "Latino_Hispanic"]
    assert {(row.value, row.became, row.by) for row in values.rows()} >= {
        ("male", "female", "--map"),
        ("U", "not known", "--map"),
        ("2", "female", "named in the file"),
        ("4", "Others", "UTKFace's code"),
    }


@pytest.mark.parametrize(
    ("found", "races"),
    [
        (["White", "Asian"], ("White", "Black", "Asian", "Indian", "Others")),
        (["White", "Hispanic"], ("White", "Black", "Asian", "Hispanic", "Others")),
        (["Asian", "Middle Eastern"], ("Asian", "Middle Eastern")),
        ([], ()),
    ],
)
def test_races_are_those_of_the_smallest_known_vocabulary_that_has_all(
    found: list[str], races: tuple[str, ...]
) -> None:
    values = Values({}, {}, {})
    values.take("race", found)
    assert values.races() == races


@pytest.mark.parametrize(
    ("columns", "values", "message"),
    [
        (["age"], [], "--columns 'age' must be ROLE=COLUMN"),
        (["hair=h"], [], "ROLE one of path, age"),
        ([], ["gender=male"], "must be ROLE.VALUE=MEANING"),
        ([], ["subject.1=a"], "roles: age, gender, race, partition"),
    ],
)
def test_options_of_another_form_are_refused(columns: list[str], values: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        LabelOptions.parse(None, columns, values)


def test_an_unknown_meaning_is_refused_with_the_allowed_ones() -> None:
    with pytest.raises(DataError, match=r"--map gender\.1=mail: 'mail' is unknown; allowed: male, female"):
        Values({"gender": {"1": "mail"}}, {}, {})


def test_options_are_lists_in_which_a_part_with_a_comma_is_quoted() -> None:
    options = LabelOptions.parse("l.csv", ["path=img, age=a.b"], ['gender.1=male,"age.(1, 2)=5"', "race.x=y=White"])
    assert options.columns == {"path": "img", "age": "a.b"}
    assert options.values == {"gender": {"1": "male"}, "age": {"(1, 2)": "5"}, "race": {"x=y": "White"}}


FILES = ["train/1.jpg", "test/1.jpg", "test/2.PNG", "a/b/3.jpg", "no suffix"]


@pytest.mark.parametrize(
    ("name", "folder", "path"),
    [
        ("train/1.jpg", "", "train/1.jpg"),
        ("1.jpg", "test", "test/1.jpg"),
        ("train\\1.jpg", "", "train/1.jpg"),
        ("./C:/photos/test/1.JPG", "", "test/1.jpg"),
        ("/somewhere/me/3.jpg", "", "a/b/3.jpg"),
        ("2", "", "test/2.PNG"),
        ("2.jpg", "", "test/2.PNG"),
        ("no suffix", "", "no suffix"),
    ],
)
def test_the_image_that_a_name_means_is_found(name: str, folder: str, path: str) -> None:
    assert ImageIndex(FILES).find(name, folder) == (path, None)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("1.jpg", "1.jpg may be test/1.jpg or train/1.jpg; name its folder"),
        ("9.jpg", "there is no image 9.jpg"),
        ("", "it names no image"),
    ],
)
def test_a_name_that_means_no_one_image_is_refused(name: str, reason: str) -> None:
    assert ImageIndex(FILES).find(name, "") == (None, reason)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1 2 3", "3 pixels are no square"),
        ("1 2 3 x", "no whole numbers"),
        ("1 2 3 256", "not from 0"),
        ("", "0 pixels"),
    ],
)
def test_pixels_that_are_no_image_are_named(text: str, problem: str) -> None:
    said = pixels_png(text)
    assert isinstance(said, str)
    assert problem in said


# --------------------------------------------------------------------------------------------------------------------
# Tables that strangers damaged


def bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as workbook:
        workbook.writestr("xl/worksheets/sheet1.xml", bytes(70 * 2**20))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.csv", b"", "is empty; its first line must name the columns"),
        ("a.csv", b"file,age\n\0\0\n", "is not text"),
        ("a.csv", b"age,age\n1,2\n", "has two columns 'age'"),
        ("a.csv", b"file,age\n" + b"x" * (MAX_LINE + 2), "a line of more than 16,777,216 characters"),
        ("a.jsonl", b"[" * 100_000 + b"\n", "no line that is a JSON object"),
        ("a.parquet", b"PAR1" + b"\xff" * 100 + b"PAR1", "is not a Parquet file"),
        ("a.xlsx", b"PK\x03\x04" + b"\xff" * 100, "is not an Excel workbook"),
        ("a.xlsx", bomb(), "unpacks to more than 100 times its size"),
    ],
    ids=["empty", "NUL", "two columns", "long line", "deep", "Parquet", "Excel", "Excel bomb"],
)
def test_a_file_that_is_not_a_table_is_refused_in_one_line(name: str, data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_sheet(io.BytesIO(data), name)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["parquet", "xlsx"])
def test_a_damaged_parquet_file_or_workbook_is_read_or_refused(kind: str, seed: int, tmp_path: Path) -> None:
    path = tmp_path / f"faces.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table({"image": [{"bytes": picture(1), "path": "a.jpg"}] * 9, "age": list(range(9))}), path)
    else:
        book = openpyxl.Workbook()
        for row in (["file", "age"], ["a.jpg", 3]):
            book.active.append(row)  # type: ignore[union-attr]
        book.save(path)
        (tmp_path / "a.jpg").write_bytes(picture(1))
    random = np.random.default_rng(seed)
    data = bytearray(path.read_bytes())
    for place in random.integers(0, len(data), 3 + 10 * seed):
        data[place] = int(random.integers(0, 256))
    path.write_bytes(data)
    with suppress(DataError):
        report = pack(str(path), tmp_path / "packed")
        assert report.images == len(Packed.open(tmp_path / "packed"))


def test_json_lines_of_other_kinds_are_rows_with_their_reason() -> None:
    lines = [json.dumps({"file_name": "a.jpg", "age": 3.0}), "", "no JSON", "[1]"]
    sheet = read_sheet(io.BytesIO("\n".join(lines).encode()), "a.jsonl")
    assert sheet.cells == {"file_name": ["a.jpg", "", ""], "age": ["3", "", ""]}
    assert sheet.lines == [1, 3, 4]
    assert sheet.problems == {1: "the line is no JSON object", 2: "the line is no JSON object"}


def test_nested_objects_of_json_lines_are_columns_with_dotted_names() -> None:
    lines = [{"image": {"path": f"{row}.jpg"}, "labels": {"age": 20 + row, "gender": "male"}} for row in range(2)]
    sheet = read_sheet(io.BytesIO("\n".join(map(json.dumps, lines)).encode()), "labels.jsonl")
    assert sheet.cells == {"image.path": ["0.jpg", "1.jpg"], "labels.age": ["20", "21"], "labels.gender": ["male"] * 2}
    chosen = choose_columns(sheet.columns, {}, file="labels.jsonl", embedded=None)
    assert chosen.of == {"path": "image.path", "age": "labels.age", "gender": "labels.gender"}


def test_a_json_document_is_refused_by_what_it_is() -> None:
    with pytest.raises(DataError, match=r"labels\.json is JSON; write JSON lines"):
        read_sheet(io.BytesIO(b'[{"file": "1.jpg", "age": 20}]'), "labels.json")


def test_the_sheet_with_the_images_names_is_read_and_named() -> None:
    book = openpyxl.Workbook()
    book.active.append(["how these were labelled"])
    labels = book.create_sheet("labels")
    labels.append(["file_name", "age"])
    labels.append(["1.jpg", 20])
    content = io.BytesIO()
    book.save(content)
    sheet = read_sheet(io.BytesIO(content.getvalue()), "faces.xlsx")
    assert (sheet.file, sheet.columns) == ("faces.xlsx, sheet labels", ("file_name", "age"))
    assert sheet.cells == {"file_name": ["1.jpg"], "age": ["20"]}
