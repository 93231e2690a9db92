"""Adience (Eidinger, Enbar and Hassner, TIFS 2014): images by Flickr user, labels in five fold files.

``fold_0_data.txt`` to ``fold_4_data.txt``, tab-separated, name each face by ``user_id``, ``original_image`` and
``face_id``. Its image is ``faces/<user_id>/coarse_tilt_aligned_face.<face_id>.<original_image>`` or, aligned by
landmarks, ``aligned/<user_id>/landmark_aligned_face.<face_id>.<original_image>``. ``face_id`` says who it is: 2,284
subjects, each in one fold only.

The files as published print 117 rows twice or more often, and give some ages as a number or as a range that is none of
the eight; ``AGES`` says what these are read as.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

from agr_core.data.readers.base import READERS, ImageLabels, Labelling, Skipped, age_between, exact_age
from agr_core.data.readers.files import Files
from agr_core.data.readers.label_files import named, read_table, read_text
from agr_core.errors import DataError
from agr_core.labels.attributes import GENDERS, Vocabulary

FOLDS = 5

_GROUPS = ((0, 2), (4, 6), (8, 12), (15, 20), (25, 32), (38, 43), (48, 53), (60, 100))

_REPAIRS: dict[tuple[int, int], str] = {
    # Report 001's repair map (S1-D2), and (25, 23), which it forgets: 72 rows.
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
"""Youngest and oldest age of each age as it is written, years, both included; None: not known."""

GENDER_CODES: dict[str, str | None] = {"m": GENDERS[0], "f": GENDERS[1], "u": None, "": None}
"""Gender of each gender as it is written; None: not known."""

_COLUMNS = ("user_id", "original_image", "face_id", "age", "gender")
_PREFIXES = ("coarse_tilt_aligned_face.", "landmark_aligned_face.")


class AdienceReader:
    """Reads Adience, tilted upright or aligned by landmarks. Faces without a known gender or age are kept."""

    name = "adience"
    layout = "fold_0_data.txt ... fold_4_data.txt, faces/<user_id>/coarse_tilt_aligned_face.<face_id>.<original_image>"
    vocabulary = Vocabulary(genders=GENDERS, races=())

    def recognises(self, paths: Sequence[str]) -> bool:
        """Whether one of the fold files is there."""
        names = {PurePosixPath(path).name for path in paths}
        return any(fold_file(fold) in names for fold in range(FOLDS))

    def labelling(self, files: Files) -> Labelling:
        """What the fold files say of each face ``<user_id>/<face_id>.<original_image>``, and the lines that repeat."""
        labels: dict[str, ImageLabels | str] = {}
        places: dict[str, str] = {}
        repeats: list[Skipped] = []
        fold_files: set[str] = set()
        for fold in range(FOLDS):
            path = named(files.paths, fold_file(fold))
            if path is None:
                continue
            fold_files.add(path)
            for line, row in read_table(read_text(files, path), path, _COLUMNS, delimiter="\t"):
                face = f"{row['user_id']}/{row['face_id']}.{row['original_image']}"
                said = _labels(row, fold)
                place = f"{path}, line {line}"
                if face not in labels:
                    labels[face], places[face] = said, place
                elif labels[face] == said:
                    repeats.append(Skipped(place, "repeats an earlier line"))
                else:
                    raise DataError(
                        f"{files.source}: {place} and {places[face]} say different things; remove one of them."
                    )
        if not fold_files:
            raise DataError(f"{files.source} has none of {fold_file(0)} to {fold_file(4)}; put them beside the images.")
        return Labelling(labels, frozenset(fold_files), tuple(repeats))

    def key(self, path: str) -> str:
        """User and face: ``<user_id>/<face_id>.<original_image>``."""
        place = PurePosixPath(path)
        name = place.name
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        return f"{place.parent.name}/{name}"


def _labels(row: dict[str, str], fold: int) -> ImageLabels | str:
    """What a row says, or what is wrong with it."""
    if row["age"] not in AGES:
        return f"age {row['age']!r} is none of {', '.join(AGES)}"
    if row["gender"] not in GENDER_CODES:
        return f"gender {row['gender']!r} is none of m, f, u or blank"
    group = AGES[row["age"]]
    ages = age_between(*group) if group else exact_age(None)
    return ImageLabels(**ages, gender=GENDER_CODES[row["gender"]], subject=row["face_id"], partition=str(fold))


def fold_file(fold: int) -> str:
    """The name of a fold's file."""
    return f"fold_{fold}_data.txt"


READERS.register(AdienceReader.name, AdienceReader())
