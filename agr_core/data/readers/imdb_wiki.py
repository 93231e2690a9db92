"""IMDb-WIKI (Rothe, Timofte and Van Gool, IJCV 2018): images with labels in ``imdb.mat`` or ``wiki.mat``.

The MATLAB file holds for each image: ``full_path``, its folder and name; ``dob``, the date of birth as a MATLAB day
number; ``photo_taken``, a year; ``gender``, 0 female, 1 male, NaN unknown; ``face_score``, -Inf without a face;
``second_face_score``, NaN without a second face; and the person, by ``celeb_id`` (IMDb) or ``name``. The age is that on
1 July of the year, in whole years, as on the authors' page. Image names also contain date of birth and year, which are
used if the MATLAB files are missing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import date
from pathlib import PurePosixPath
from typing import Any

from agr_core.data.mat_file import read_columns
from agr_core.data.readers.base import READERS, ImageLabels, Labelling, exact_age
from agr_core.data.readers.files.base import Files, LeftOut
from agr_core.data.readers.label_files import last_two, named, read_bytes
from agr_core.data.readers.names import NameReader, age_problem
from agr_core.errors import DataError
from agr_core.labels.attributes import GENDERS, Vocabulary

_STRUCTS = {"imdb.mat": "imdb", "wiki.mat": "wiki"}
_NUMBERS = ("dob", "photo_taken", "gender", "face_score", "second_face_score")
_MATLAB_EPOCH = 366  # MATLAB's day 1 is 1 January of year 0, Python's is 1 January of year 1


class ImdbWikiReader:
    """Reader of IMDb, Wikipedia or both, cropped or not. Images without a face or with two faces are skipped.

    Args:
        min_face_score: Minimum score of the face; images below it are skipped; 1 is common (S0-D1).
    """

    name = "imdb_wiki"
    layout = "imdb.mat or wiki.mat beside folders 00 ... 99 of images"
    vocabulary = Vocabulary(genders=GENDERS, races=())

    def __init__(self, min_face_score: float = -math.inf) -> None:
        self._min_face_score = min_face_score

    def recognises(self, paths: Sequence[str]) -> bool:
        """Return whether one of the MATLAB files exists."""
        return any(PurePosixPath(path).name in _STRUCTS for path in paths)

    def labelling(self, files: Files) -> Labelling:
        """Return the labels of each folder and name."""
        labels: dict[str, ImageLabels | str] = {}
        paths_found = {path for name in _STRUCTS if (path := named(files.paths, name)) is not None}
        if not paths_found:
            raise DataError(f"{files.source} has none of {', '.join(_STRUCTS)}; put it beside the folders of images.")
        for path in sorted(paths_found):
            self._read_mat(read_bytes(files, path), path, labels)
        return Labelling(labels, frozenset(paths_found))

    def key(self, path: str) -> str:
        """Return folder and name, as in ``full_path``."""
        return last_two(path)

    def _read_mat(self, data: bytes, path: str, labels: dict[str, ImageLabels | str]) -> None:
        """Add the labels of each image in the file to ``labels``."""
        name = _STRUCTS[PurePosixPath(path).name]
        numbers, texts = (
            (_NUMBERS, ("full_path", "name")) if name == "wiki" else ((*_NUMBERS, "celeb_id"), ("full_path",))
        )
        columns = read_columns(data, path, name, numbers=numbers, texts=texts)
        people = columns["name" if name == "wiki" else "celeb_id"]
        for index, image in enumerate(map(str, columns["full_path"])):
            row = {field: float(columns[field][index]) for field in _NUMBERS}
            labels_or_reason = _labels(row, _person(name, people[index]), self._min_face_score)
            labels[image] = (
                labels_or_reason
                if labels.get(image, labels_or_reason) == labels_or_reason
                else f"{path} names it twice, with different labels"
            )


def age_when_taken(dob: float, photo_taken: float) -> int | None:
    """Return whole years on 1 July of ``photo_taken``; None if ``dob`` (MATLAB day number) is not a date."""
    try:
        born = date.fromordinal(int(dob) - _MATLAB_EPOCH)
        taken = int(photo_taken)
    except (ValueError, OverflowError):
        return None
    return _age_in_july(born, taken)


def _age_in_july(born: date, year: int) -> int:
    """Return the age in whole years on 1 July."""
    return year - born.year - ((born.month, born.day) > (7, 1))


def _labels(row: dict[str, float], person: str | None, min_face_score: float) -> ImageLabels | str:
    """Return the labels of an image, or the reason to skip it."""
    if not math.isfinite(row["face_score"]):
        return LeftOut("no face was found")
    if row["face_score"] < min_face_score:
        return LeftOut(f"face score below {min_face_score:g}")
    if not math.isnan(row["second_face_score"]):
        return LeftOut("a second face was found")
    age = age_when_taken(row["dob"], row["photo_taken"])
    if age is None:
        return f"the date of birth {row['dob']:.0f} or the year {row['photo_taken']:.0f} is none"
    if problem := age_problem(age):
        return problem
    gender = None if math.isnan(row["gender"]) else GENDERS[0 if row["gender"] == 1 else 1]
    return ImageLabels(**exact_age(age), gender=gender, subject=person)


def _person(name: str, who: Any) -> str | None:
    """Return an identifier of the person, distinct from those of the other file; None if unknown."""
    if name == "wiki":
        return f"wiki:{who}" if who else None
    return f"imdb:{who:.0f}" if math.isfinite(who) else None


class ImdbWikiNames(NameReader):
    """Reader of either data set by image names alone, without MATLAB files: no gender, no face score."""

    def recognises(self, paths: Sequence[str]) -> bool:
        """Return whether any image has an IMDb-WIKI name, and neither MATLAB file exists."""
        return not any(PurePosixPath(path).name in _STRUCTS for path in paths) and super().recognises(paths)


def _labels_of_name(match: re.Match[str]) -> ImageLabels | str:
    person, year, month, day, taken = match.groups()
    try:
        age = _age_in_july(date(int(year), int(month), int(day)), int(taken))
    except ValueError:
        return f"the date of birth {year}-{month}-{day} is none"
    subject = f"imdb:{int(person[2:])}" if person.startswith("nm") else f"wiki:{person}"
    return age_problem(age) or ImageLabels(**exact_age(age), subject=subject)


IMDB_WIKI_NAMES = ImdbWikiNames(
    name="imdb_wiki_names",
    layout="nm[person]_rm[image]_[date of birth]_[year].jpg or [person]_[date of birth]_[year].jpg",
    vocabulary=Vocabulary(genders=(), races=()),
    pattern=re.compile(r"(nm[0-9]+|[0-9]+)(?:_rm[0-9]+)?_([0-9]{1,4})-([0-9]{1,2})-([0-9]{1,2})_([0-9]{4})\.\w+"),
    labels=_labels_of_name,
)

READERS.register(ImdbWikiReader.name, ImdbWikiReader())
READERS.register(IMDB_WIKI_NAMES.name, IMDB_WIKI_NAMES)
