"""IMDb-WIKI (Rothe, Timofte and Van Gool, IJCV 2018): images beside ``imdb.mat`` or ``wiki.mat``, which label them.

The MATLAB file holds for each image: ``full_path``, its folder and name; ``dob``, the date of birth as MATLAB counts
days; ``photo_taken``, a year; ``gender``, 0 female, 1 male, NaN not known; ``face_score``, -Inf where no face was
found; ``second_face_score``, NaN where no second one was; and who it is, by ``celeb_id`` (IMDb) or ``name``. The age is
that on 1 July of the year, in whole years, as the authors' page has it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from pathlib import PurePosixPath
from typing import Any

from agr_core.data.mat_file import read_columns
from agr_core.data.readers.base import READERS, ImageLabels, Labelling, exact_age
from agr_core.data.readers.files import Files
from agr_core.data.readers.label_files import last_two, named, read_bytes
from agr_core.data.readers.names import age_problem
from agr_core.errors import DataError
from agr_core.labels.attributes import GENDERS, Vocabulary

_STRUCTS = {"imdb.mat": "imdb", "wiki.mat": "wiki"}
_NUMBERS = ("dob", "photo_taken", "gender", "face_score", "second_face_score")
_MATLAB_EPOCH = 366  # MATLAB's day 1 is 1 January of the year 0, Python's that of the year 1


class ImdbWikiReader:
    """Reads IMDb, Wikipedia or both, cropped or not. Images without a face or with a second one are skipped.

    Args:
        min_face_score: Images whose face was found with a lower score are skipped; 1 is common (S0-D1).
    """

    name = "imdb_wiki"
    layout = "imdb.mat or wiki.mat beside folders 00 ... 99 of images"
    vocabulary = Vocabulary(genders=GENDERS, races=())

    def __init__(self, min_face_score: float = -math.inf) -> None:
        self._min_face_score = min_face_score

    def recognises(self, paths: Sequence[str]) -> bool:
        """Whether one of the MATLAB files is there."""
        return any(PurePosixPath(path).name in _STRUCTS for path in paths)

    def labelling(self, files: Files) -> Labelling:
        """What the MATLAB files say of each folder and name."""
        labels: dict[str, ImageLabels | str] = {}
        found = {path for name in _STRUCTS if (path := named(files.paths, name)) is not None}
        if not found:
            raise DataError(f"{files.source} has none of {', '.join(_STRUCTS)}; put it beside the folders of images.")
        for path in sorted(found):
            self._read_mat(read_bytes(files, path), path, labels)
        return Labelling(labels, frozenset(found))

    def key(self, path: str) -> str:
        """Folder and name, as in ``full_path``."""
        return last_two(path)

    def _read_mat(self, data: bytes, path: str, labels: dict[str, ImageLabels | str]) -> None:
        """Put into ``labels`` what the file says of each image."""
        name = _STRUCTS[PurePosixPath(path).name]
        numbers, texts = (
            (_NUMBERS, ("full_path", "name")) if name == "wiki" else ((*_NUMBERS, "celeb_id"), ("full_path",))
        )
        columns = read_columns(data, path, name, numbers=numbers, texts=texts)
        people = columns["name" if name == "wiki" else "celeb_id"]
        for place, image in enumerate(map(str, columns["full_path"])):
            row = {field: float(columns[field][place]) for field in _NUMBERS}
            said = _labels(row, _person(name, people[place]), self._min_face_score)
            labels[image] = said if labels.get(image, said) == said else f"{path} names it twice, with different labels"


def age_when_taken(dob: float, photo_taken: float) -> int | None:
    """Age in whole years on 1 July of ``photo_taken``; None where ``dob`` (days, as MATLAB counts) is no date."""
    try:
        born = date.fromordinal(int(dob) - _MATLAB_EPOCH)
        taken = int(photo_taken)
    except (ValueError, OverflowError):
        return None
    return taken - born.year - ((born.month, born.day) > (7, 1))


def _labels(row: dict[str, float], person: str | None, min_face_score: float) -> ImageLabels | str:
    """What the file says of an image, or why it is not used."""
    if not math.isfinite(row["face_score"]):
        return "no face was found"
    if row["face_score"] < min_face_score:
        return f"face score below {min_face_score:g}"
    if not math.isnan(row["second_face_score"]):
        return "a second face was found"
    age = age_when_taken(row["dob"], row["photo_taken"])
    if age is None:
        return f"the date of birth {row['dob']:.0f} or the year {row['photo_taken']:.0f} is none"
    if problem := age_problem(age):
        return problem
    gender = None if math.isnan(row["gender"]) else GENDERS[0 if row["gender"] == 1 else 1]
    return ImageLabels(**exact_age(age), gender=gender, subject=person)


def _person(name: str, who: Any) -> str | None:
    """Who it is, apart from the people of the other file; None where the file does not say."""
    if name == "wiki":
        return f"wiki:{who}" if who else None
    return f"imdb:{who:.0f}" if math.isfinite(who) else None


READERS.register(ImdbWikiReader.name, ImdbWikiReader())
