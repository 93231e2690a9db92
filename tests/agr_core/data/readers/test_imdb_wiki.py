from __future__ import annotations

import io
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from agr_core.data.packed.pack import pack
from agr_core.data.readers import Skipped
from agr_core.data.readers.imdb_wiki import ImdbWikiReader, age_when_taken
from agr_core.errors import DataError

from ..conftest import picture, read_all

NAN, NO_FACE = float("nan"), -float("inf")


def cells(values: list[Any]) -> np.ndarray:
    """A 1 x N cell array."""
    array = np.empty((1, len(values)), dtype=object)
    for place, value in enumerate(values):
        array[0, place] = value
    return array


def mat_file(kind: str, rows: list[dict[str, Any]]) -> bytes:
    """A MATLAB file as the authors publish it: one struct, a field a column."""
    taken = {
        "dob": np.array([[row["dob"] for row in rows]], dtype=np.int32),
        "photo_taken": np.array([[row["taken"] for row in rows]], dtype=np.uint16),
        "full_path": cells([row["path"] for row in rows]),
        "gender": np.array([[row.get("gender", 1.0) for row in rows]]),
        "name": cells([row.get("name", "") for row in rows]),
        "face_location": cells([np.array([[1.0, 1.0, 9.0, 9.0]]) for _ in rows]),
        "face_score": np.array([[row.get("score", 3.5) for row in rows]]),
        "second_face_score": np.array([[row.get("second", NAN) for row in rows]]),
    }
    if kind == "imdb":
        taken["celeb_names"] = cells(["'Lee' George"])
        taken["celeb_id"] = np.array([[row.get("celeb", 6488) for row in rows]], dtype=np.uint16)
    buffer = io.BytesIO()
    savemat(buffer, {kind: taken})
    return buffer.getvalue()


def datenum(born: date) -> int:
    """MATLAB's serial date number: 719529 is 1 January 1970."""
    return 719529 + (born - date(1970, 1, 1)).days


@pytest.mark.parametrize(
    ("born", "taken", "age"),
    [
        (date(1981, 5, 5), 2009, 28),
        (date(1980, 7, 1), 2000, 20),  # birthday on 1 July: twenty that day
        (date(1980, 7, 2), 2000, 19),
        (date(1980, 12, 31), 1980, -1),
        (date(1899, 5, 9), 1968, 69),
    ],
)
def test_the_age_is_that_on_the_first_of_july_in_whole_years(born: date, taken: int, age: int) -> None:
    assert age_when_taken(datenum(born), taken) == age


def test_matlab_s_own_example_of_a_date_number() -> None:
    # MathWorks, datenum: 1 January 2000 is 730486.
    assert datenum(date(2000, 1, 1)) == 730486
    assert age_when_taken(730486, 2010) == 10
    assert age_when_taken(0, 2010) is None
    assert age_when_taken(47, 2010) is None


WIKI = [
    {
        "dob": datenum(date(1981, 5, 5)),
        "taken": 2009,
        "path": "17/10000217_1981-05-05_2009.jpg",
        "name": "Sami Jauhojärvi",
    },
    {"dob": datenum(date(1990, 9, 1)), "taken": 2014, "path": "48/10000548_1925-04-04_1964.jpg", "gender": 0.0},
    {"dob": datenum(date(1990, 9, 1)), "taken": 2014, "path": "00/3_1990-09-01_2014.jpg", "gender": NAN, "name": "N N"},
]
WIKI_IMAGES = {f"wiki_crop/{row['path']}": picture(number) for number, row in enumerate(WIKI)}


def test_images_have_the_labels_of_the_matlab_file(write_folder: Callable[..., Path]) -> None:
    images, skipped = read_all(write_folder(WIKI_IMAGES | {"wiki_crop/wiki.mat": mat_file("wiki", WIKI)}))
    assert [(image.path, image.age, image.gender, image.subject) for image in images] == [
        ("wiki_crop/00/3_1990-09-01_2014.jpg", 23, None, "wiki:N N"),
        ("wiki_crop/17/10000217_1981-05-05_2009.jpg", 28, "male", "wiki:Sami Jauhojärvi"),
        ("wiki_crop/48/10000548_1925-04-04_1964.jpg", 23, "female", None),
    ]
    assert all(image.age == image.age_low == image.age_high and image.race is None for image in images)
    assert skipped == {}


def test_imdb_and_wikipedia_are_read_together_and_their_people_are_kept_apart(
    write_folder: Callable[..., Path],
) -> None:
    imdb = [{"dob": datenum(date(1899, 5, 10)), "taken": 1968, "path": "01/nm0000001_rm124825600_1899-5-10_1968.jpg"}]
    files = WIKI_IMAGES | {"wiki_crop/wiki.mat": mat_file("wiki", WIKI), "imdb_crop/imdb.mat": mat_file("imdb", imdb)}
    images, skipped = read_all(write_folder(files | {f"imdb_crop/{imdb[0]['path']}": picture(9)}))
    assert len(images) == 4
    assert (images[0].age, images[0].subject) == (69, "imdb:6488")
    assert skipped == {}


def test_images_without_a_face_with_a_second_one_or_with_an_impossible_age_are_named(
    write_folder: Callable[..., Path],
) -> None:
    born = datenum(date(1950, 1, 1))
    rows = [
        {"dob": born, "taken": 2000, "path": "00/good.jpg"},
        {"dob": born, "taken": 2000, "path": "00/no-face.jpg", "score": NO_FACE},
        {"dob": born, "taken": 2000, "path": "00/two-faces.jpg", "second": 2.25},
        {"dob": born, "taken": 1949, "path": "00/unborn.jpg"},
        {"dob": 730, "taken": 2009, "path": "00/ancient.jpg"},
        {"dob": 47, "taken": 2009, "path": "00/no-date.jpg"},
        {"dob": born, "taken": 2000, "path": "00/twice.jpg"},
        {"dob": born, "taken": 2001, "path": "00/twice.jpg"},
        {"dob": born, "taken": 2000, "path": "00/lost.jpg"},
    ]
    names = {row["path"] for row in rows} - {"00/lost.jpg"} | {"00/extra.jpg"}
    files = {f"imdb/{name}": picture(number) for number, name in enumerate(sorted(names))}
    images, skipped = read_all(write_folder(files | {"imdb/imdb.mat": mat_file("imdb", rows)}))
    assert [image.path for image in images] == ["imdb/00/good.jpg"]
    assert skipped == {
        "imdb/00/no-face.jpg": "no face was found",
        "imdb/00/two-faces.jpg": "a second face was found",
        "imdb/00/unborn.jpg": "age -1 is outside 0 to 116 years",
        "imdb/00/ancient.jpg": "age 2007 is outside 0 to 116 years",
        "imdb/00/no-date.jpg": "the date of birth 47 or the year 2009 is none",
        "imdb/00/twice.jpg": "imdb/imdb.mat names it twice, with different labels",
        "imdb/00/extra.jpg": "no line of imdb.mat names it",
        "00/lost.jpg": "named in imdb.mat, but there is no such image",
    }


def test_faces_found_with_a_score_below_the_least_are_skipped(
    write_folder: Callable[..., Path], tmp_path: Path
) -> None:
    scores = [0.9, 1.0, 5.0]
    rows = [row | {"score": score} for row, score in zip(WIKI, scores, strict=True)]
    folder = write_folder(WIKI_IMAGES | {"wiki_crop/wiki.mat": mat_file("wiki", rows)})
    report = pack(str(folder), tmp_path / "packed", reader=ImdbWikiReader(min_face_score=1.0))
    assert report.images == 2
    assert report.skipped == (Skipped(f"wiki_crop/{rows[0]['path']}", "face score below 1"),)


def test_a_single_image_is_read_too(write_folder: Callable[..., Path]) -> None:
    path = WIKI[0]["path"]
    images, _ = read_all(write_folder({f"w/{path}": picture(1), "w/wiki.mat": mat_file("wiki", WIKI[:1])}))
    assert [(image.age, image.subject) for image in images] == [(28, "wiki:Sami Jauhojärvi")]


@pytest.mark.parametrize(
    "data", [b"MATLAB 7.3 MAT-file, but no HDF5", b"", mat_file("imdb", WIKI)], ids=["damaged", "empty", "other struct"]
)
def test_a_file_that_is_not_theirs_is_refused(data: bytes, write_folder: Callable[..., Path]) -> None:
    with pytest.raises(
        DataError, match=r"wiki_crop/wiki.mat is not the MATLAB file it should be \(.+\); fetch it again"
    ):
        read_all(write_folder(WIKI_IMAGES | {"wiki_crop/wiki.mat": data}))


def test_a_file_that_crashes_its_reader_is_refused_and_does_not_end_the_program(
    write_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agr_core.data.mat_file.sys.executable", "false")  # a process that ends without an answer
    with pytest.raises(DataError, match=r"wiki.mat is not the MATLAB file it should be .its reader crashed, code 1.;"):
        read_all(write_folder(WIKI_IMAGES | {"wiki_crop/wiki.mat": mat_file("wiki", WIKI)}))


def test_a_matlab_file_that_unpacks_to_far_more_than_labels_is_refused(write_folder: Callable[..., Path]) -> None:
    buffer = io.BytesIO()
    savemat(buffer, {"imdb": {"dob": np.zeros(9 * 2**20)}}, do_compression=True)
    folder = write_folder({"imdb.mat": buffer.getvalue()})
    with pytest.raises(DataError, match="unpacks to more than 50 times its size"):
        read_all(folder)
