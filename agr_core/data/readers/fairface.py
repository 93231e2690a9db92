"""FairFace (Karkkainen and Joo, WACV 2021): images in ``train/`` and ``val/``, labels in a CSV file for each.

Columns ``file,age,gender,race,service_test``; the last is not used. In the published files a spreadsheet took two of
the nine age groups for dates: ``03-Sep`` is 3-9, ``Oct-19`` is 10-19.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from agr_core.data.readers.base import READERS, ImageLabels, Labelling, age_between
from agr_core.data.readers.files import Files
from agr_core.data.readers.label_files import last_two, named, read_table, read_text
from agr_core.errors import DataError
from agr_core.labels.attributes import FAIRFACE_RACES, GENDERS, Vocabulary
from agr_core.labels.bins import MAX_AGE

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
"""Youngest and oldest age of each age group as it is written, years."""

LABEL_FILES = {"fairface_label_train.csv": "train", "fairface_label_val.csv": "val"}
"""The label files, and the partition that each labels."""

_COLUMNS = ("file", "age", "gender", "race")


class FairFaceReader:
    """Reads FairFace, with either margin, whole or one of its partitions."""

    name = "fairface"
    layout = "fairface_label_train.csv, fairface_label_val.csv, train/1.jpg, val/1.jpg"
    vocabulary = Vocabulary(genders=GENDERS, races=FAIRFACE_RACES)

    def recognises(self, paths: Sequence[str]) -> bool:
        """Whether one of the label files is there."""
        return any(PurePosixPath(path).name in LABEL_FILES for path in paths)

    def labelling(self, files: Files) -> Labelling:
        """What the label files say of each ``train/1.jpg``."""
        labels: dict[str, ImageLabels | str] = {}
        label_files: set[str] = set()
        for name, partition in LABEL_FILES.items():
            path = named(files.paths, name)
            if path is None:
                continue
            label_files.add(path)
            for _, row in read_table(read_text(files, path), path, _COLUMNS):
                if row["file"] in labels:
                    raise DataError(f"{files.source}: {path} names {row['file']!r} again; leave one of its lines.")
                labels[row["file"]] = _labels(row, partition)
        if not label_files:
            raise DataError(f"{files.source} has none of {', '.join(LABEL_FILES)}; put them beside train/ and val/.")
        return Labelling(labels, frozenset(label_files))

    def key(self, path: str) -> str:
        """``train/1.jpg``, whatever folders that lies in."""
        return last_two(path)


def _labels(row: dict[str, str], partition: str) -> ImageLabels | str:
    """What a row says, or what is wrong with it."""
    gender = row["gender"].lower()
    if row["age"] not in AGES:
        return f"age {row['age']!r} is none of {', '.join(AGES)}"
    if gender not in GENDERS:
        return f"gender {row['gender']!r} is none of Male, Female"
    if row["race"] not in FAIRFACE_RACES:
        return f"race {row['race']!r} is none of {', '.join(FAIRFACE_RACES)}"
    return ImageLabels(**age_between(*AGES[row["age"]]), gender=gender, race=row["race"], partition=partition)


READERS.register(FairFaceReader.name, FairFaceReader())
