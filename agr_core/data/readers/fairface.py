"""FairFace (Karkkainen and Joo, WACV 2021): images in ``train/`` and ``val/``, labels in one CSV file each.

The columns are ``file,age,gender,race,service_test``; the last is not used. In the published files, a spreadsheet
converted two of the nine age groups to dates: ``03-Sep`` is 3-9, ``Oct-19`` is 10-19. Files saved by other programs
have ``9-Mar``, ``3-Sep`` or ``19-Oct``, or backslashes in image names; they are read the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from agr_core.bins import MAX_AGE
from agr_core.data.readers.base import READERS, ImageLabels, Labelling, age_between
from agr_core.data.readers.files import Files
from agr_core.data.readers.label_files import last_two, named, read_table, read_text
from agr_core.data.readers.tabular.ages import date_range
from agr_core.errors import DataError
from agr_core.labels.attributes import FAIRFACE_RACES, GENDERS, Vocabulary

AGES: dict[str, tuple[int, int]] = {
    "0-2": (0, 2),
    "3-9": (3, 9),
    "03-Sep": (3, 9),
    "10-19": (10, 19),
    "Oct-19": (10, 19),
    "20-29": (20, 29),
    "30-39": (30, 39),
    "40-49": (40, 49),
    "50-59": (50, 59),
    "60-69": (60, 69),
    "more than 70": (70, MAX_AGE),
}
"""Lowest and highest age of each written age group, in years."""

LABEL_FILES = {"fairface_label_train.csv": "train", "fairface_label_val.csv": "val"}
"""Label files, and the partition of each."""

_COLUMNS = ("file", "age", "gender", "race")


class FairFaceReader:
    """Reader of FairFace, with either margin, complete or one partition."""

    name = "fairface"
    layout = "fairface_label_train.csv, fairface_label_val.csv, train/1.jpg, val/1.jpg"
    vocabulary = Vocabulary(genders=GENDERS, races=FAIRFACE_RACES)

    def recognises(self, paths: Sequence[str]) -> bool:
        """Return whether one of the label files exists."""
        return any(PurePosixPath(path).name in LABEL_FILES for path in paths)

    def labelling(self, files: Files) -> Labelling:
        """Return the labels of each ``train/1.jpg``."""
        labels: dict[str, ImageLabels | str] = {}
        label_files: set[str] = set()
        for name, partition in LABEL_FILES.items():
            path = named(files.paths, name)
            if path is None:
                continue
            label_files.add(path)
            for _, row in read_table(read_text(files, path), path, _COLUMNS):
                image = row["file"].replace("\\", "/")
                if image in labels:
                    raise DataError(f"{files.source}: {path} names {image!r} again; leave one of its lines.")
                labels[image] = _labels(row, partition)
        if not label_files:
            raise DataError(f"{files.source} has none of {', '.join(LABEL_FILES)}; put them beside train/ and val/.")
        return Labelling(labels, frozenset(label_files))

    def key(self, path: str) -> str:
        """Return ``train/1.jpg``, without the folders above."""
        return last_two(path)


def _labels(row: dict[str, str], partition: str) -> ImageLabels | str:
    """Return the labels in a row, or its problem."""
    gender = row["gender"].lower()
    ages = AGES.get(row["age"]) or date_range(row["age"])
    if ages is None or ages not in AGES.values():
        return f"age {row['age']!r} is none of {', '.join(AGES)}"
    if gender not in GENDERS:
        return f"gender {row['gender']!r} is none of Male, Female"
    if row["race"] not in FAIRFACE_RACES:
        return f"race {row['race']!r} is none of {', '.join(FAIRFACE_RACES)}"
    return ImageLabels(**age_between(*ages), gender=gender, race=row["race"], partition=partition)


READERS.register(FairFaceReader.name, FairFaceReader())
