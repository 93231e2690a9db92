"""Adience (Eidinger, Enbar and Hassner, TIFS 2014): images by Flickr user, labels in five fold files.

``fold_0_data.txt`` to ``fold_4_data.txt``, tab-separated, identify each face by ``user_id``, ``original_image`` and
``face_id``. Its image is ``faces/<user_id>/coarse_tilt_aligned_face.<face_id>.<original_image>`` or, aligned by
landmarks, ``aligned/<user_id>/landmark_aligned_face.<face_id>.<original_image>``. ``face_id`` identifies the person:
2,284 subjects, each in one fold only.

The published files repeat 117 rows and give some ages as a number or as a range other than the eight; ``AGES`` maps
these. Groups that a spreadsheet converted to dates, such as ``6-Apr``, are read as the group.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from agr_core.data.readers.base import READERS, ImageLabels, Labelling, Skipped, age_between, exact_age
from agr_core.data.readers.files import Files
from agr_core.data.readers.label_files import named, read_table, read_text
from agr_core.data.readers.tabular.ages import date_range
from agr_core.errors import DataError
from agr_core.labels.attributes import GENDERS, Vocabulary

FOLDS = 5

_GROUPS = ((0, 2), (4, 6), (8, 12), (15, 20), (25, 32), (38, 43), (48, 53), (60, 100))

_REPAIRS: dict[tuple[int, int], str] = {
    # Repair map of report S1 (S1-D2), plus (25, 23), which it lacks: 72 rows.
    (0, 2): "2; 3",
    (8, 12): "(8, 23); 13",
    (15, 20): "22",
    (25, 32): "(25, 23); 23; (27, 32); 29; 32; 34",
    (38, 43): "(38, 42); (38, 48); 35; 36; 42; 45",
    (48, 53): "46; 56",
    (60, 100): "55; 57; 58",
}

AGES: dict[str, tuple[int, int] | None] = (
    {str(group): group for group in _GROUPS}
    | {written: group for group, several in _REPAIRS.items() for written in several.split("; ")}
    | {"None": None}
)
"""Lowest and highest age of each written age, in years, both included; None: unknown."""

GENDER_CODES: dict[str, str | None] = {"m": GENDERS[0], "f": GENDERS[1], "u": None, "": None}
"""Gender of each written gender; None: unknown."""

_COLUMNS = ("user_id", "original_image", "face_id", "age", "gender")
_PREFIXES = ("coarse_tilt_aligned_face.", "landmark_aligned_face.")


class AdienceReader:
    """Reader of Adience, tilt-aligned or landmark-aligned. Faces of unknown gender or age are kept."""

    name = "adience"
    layout = "fold_0_data.txt ... fold_4_data.txt, faces/<user_id>/coarse_tilt_aligned_face.<face_id>.<original_image>"
    vocabulary = Vocabulary(genders=GENDERS, races=())

    def recognises(self, paths: Sequence[str]) -> bool:
        """Return whether one of the fold files exists."""
        names = {PurePosixPath(path).name for path in paths}
        return any(fold_file(fold) in names for fold in range(FOLDS))

    def labelling(self, files: Files) -> Labelling:
        """Return the labels of each face ``<user_id>/<face_id>.<original_image>``, and repeated lines."""
        labels: dict[str, ImageLabels | str] = {}
        positions: dict[str, str] = {}
        repeats: list[Skipped] = []
        fold_files: set[str] = set()
        for fold in range(FOLDS):
            path = named(files.paths, fold_file(fold))
            if path is None:
                continue
            fold_files.add(path)
            for line, row in read_table(read_text(files, path), path, _COLUMNS, delimiter="\t"):
                face = f"{row['user_id']}/{row['face_id']}.{row['original_image']}"
                labels_or_problem = _labels(row, fold)
                position = f"{path}, line {line}"
                if face not in labels:
                    labels[face], positions[face] = labels_or_problem, position
                elif labels[face] == labels_or_problem:
                    repeats.append(Skipped(position, "repeats an earlier line", lost=False))
                else:
                    raise DataError(
                        f"{files.source}: {position} and {positions[face]} label the face {face} differently; remove "
                        "one of them."
                    )
        if not fold_files:
            raise DataError(f"{files.source} has none of {fold_file(0)} to {fold_file(4)}; put them beside the images.")
        return Labelling(labels, frozenset(fold_files), tuple(repeats))

    def key(self, path: str) -> str:
        """Return user and face: ``<user_id>/<face_id>.<original_image>``."""
        image_path = PurePosixPath(path)
        name = image_path.name
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        return f"{image_path.parent.name}/{name}"


def _labels(row: dict[str, str], fold: int) -> ImageLabels | str:
    """Return the labels in a row, or its problem."""
    if row["age"] not in AGES and date_range(row["age"]) not in _GROUPS:
        return f"age {row['age']!r} is none of {', '.join(AGES)}"
    if row["gender"] not in GENDER_CODES:
        return f"gender {row['gender']!r} is none of m, f, u or blank"
    group = AGES[row["age"]] if row["age"] in AGES else date_range(row["age"])
    ages = age_between(*group) if group else exact_age(None)
    return ImageLabels(**ages, gender=GENDER_CODES[row["gender"]], subject=row["face_id"], partition=str(fold))


def fold_file(fold: int) -> str:
    """Return the name of a fold's file."""
    return f"fold_{fold}_data.txt"


READERS.register(AdienceReader.name, AdienceReader())
