"""APPA-REAL (Agustsson et al., FG 2017): real and apparent ages, with a published split.

``gt_avg_train.csv``, ``gt_avg_valid.csv`` and ``gt_avg_test.csv`` list each image of their part in ``file_name`` with
``real_age`` and ``apparent_age_avg``, the mean of about 38 guesses, in years. Each image ``train/000000.jpg`` comes
with its face, cropped with a margin of 40 %: ``train/000000.jpg_face.jpg``. The face is packed if it exists, else the
image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from agr_core.bins import MAX_AGE
from agr_core.data.readers.base import READERS, ImageLabels, Labelling, exact_age
from agr_core.data.readers.files.base import Files, LeftOut
from agr_core.data.readers.label_files import last_two, named, read_table, read_text
from agr_core.errors import DataError
from agr_core.labels.attributes import Vocabulary

PARTITIONS = {"train": "train", "valid": "val", "test": "test"}
"""Partition of each part, by its name in the files."""

_FACE = "_face.jpg"


@dataclass(frozen=True)
class AppaRealReader:
    """Reader of APPA-REAL.

    Args:
        name: The reader's name.
        column: Column of the age, ``real_age`` or ``apparent_age_avg``.
    """

    name: str
    column: str
    layout: str = "gt_avg_train.csv, gt_avg_valid.csv, gt_avg_test.csv, train/000000.jpg_face.jpg"

    @property
    def vocabulary(self) -> Vocabulary:
        """Empty vocabulary: neither genders nor races."""
        return Vocabulary(genders=(), races=())

    def recognises(self, paths: Sequence[str]) -> bool:
        """Return whether a label file exists; the reader of apparent ages is used only if named."""
        names = {PurePosixPath(path).name for path in paths}
        return self.column == "real_age" and not names.isdisjoint(map(_label_file, PARTITIONS))

    def labelling(self, files: Files) -> Labelling:
        """Return the labels of each ``train/000000.jpg_face.jpg``."""
        present = {last_two(path) for path in files.paths}
        labels: dict[str, ImageLabels | str] = {}
        label_files: set[str] = set()
        for part, partition in PARTITIONS.items():
            path = named(files.paths, _label_file(part))
            if path is None:
                continue
            label_files.add(path)
            for _, row in read_table(read_text(files, path), path, ("file_name", self.column)):
                image = f"{part}/{row['file_name']}"
                if image in labels or image + _FACE in labels:
                    raise DataError(f"{files.source}: {path} names {row['file_name']!r} again; leave one of its lines.")
                labels_or_problem = _labels(row[self.column], partition)
                if image + _FACE in present:
                    labels[image + _FACE] = labels_or_problem
                    if image in present:
                        labels[image] = LeftOut("the face that is cut out of it is packed instead")
                else:
                    labels[image] = labels_or_problem
        if not label_files:
            wanted = ", ".join(map(_label_file, PARTITIONS))
            raise DataError(f"{files.source} has none of {wanted}; put them beside the folders of images.")
        return Labelling(labels, frozenset(label_files))

    def key(self, path: str) -> str:
        """Return ``train/000000.jpg_face.jpg``, without the folders above."""
        return last_two(path)


def _labels(text: str, partition: str) -> ImageLabels | str:
    try:
        years = float(text)
    except ValueError:
        years = math.nan
    if not 0 <= years <= MAX_AGE:
        return f"age {text!r} is none from 0 to {MAX_AGE} years"
    return ImageLabels(**exact_age(years), partition=partition)


def _label_file(part: str) -> str:
    return f"gt_avg_{part}.csv"


APPA_REAL = AppaRealReader("appa_real", "real_age")
APPA_REAL_APPARENT = AppaRealReader("appa_real_apparent", "apparent_age_avg")
READERS.register(APPA_REAL.name, APPA_REAL)
READERS.register(APPA_REAL_APPARENT.name, APPA_REAL_APPARENT)
