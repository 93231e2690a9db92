"""UTKFace (Zhang, Song and Qi 2017): one face per file, labels in the file's name.

``[age]_[gender]_[race]_[time].jpg``, often ``.jpg.chip.jpg``: age in years, gender 0 male 1 female, race 0 White 1
Black 2 Asian 3 Indian 4 Others. The time is not used; a few original names with a malformed time are accepted. The
in-the-wild images of ``part1`` to ``part3`` have the same names. Kaggle's copy contains each face two to four times: in
``UTKFace``, again in ``crop_part1``, and both again in ``utkface_aligned_cropped``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from agr_core.data.readers.base import READERS, ImageLabels, exact_age
from agr_core.data.readers.names import NameReader, age_problem
from agr_core.labels.attributes import GENDERS, UTKFACE_RACES, Vocabulary

_KAGGLE_FOLDERS = frozenset({"crop_part1", "utkface_aligned_cropped"})


def _labels(match: re.Match[str]) -> ImageLabels | str:
    age, gender, race = (int(field) for field in match.groups())
    if problem := age_problem(age):
        return problem
    if gender >= len(GENDERS):
        return f"gender {gender} is none of {_codes(GENDERS)}"
    if race >= len(UTKFACE_RACES):
        return f"race {race} is none of {_codes(UTKFACE_RACES)}"
    return ImageLabels(**exact_age(age), gender=GENDERS[gender], race=UTKFACE_RACES[race])


def _codes(names: Sequence[str]) -> str:
    return ", ".join(f"{code} {name}" for code, name in enumerate(names))


def is_kaggle_copy(path: str) -> bool:
    """Return whether a path is in one of the folders in which Kaggle's UTKFace repeats faces."""
    return not _KAGGLE_FOLDERS.isdisjoint(PurePosixPath(path).parts[:-1])


UTKFACE = NameReader(
    name="utkface",
    layout="[age]_[gender]_[race]_[time].jpg",
    vocabulary=Vocabulary(genders=GENDERS, races=UTKFACE_RACES),
    pattern=re.compile(r"([0-9]{1,9})_([0-9]{1,9})_([0-9]{1,9})_.+"),
    labels=_labels,
)
READERS.register(UTKFACE.name, UTKFACE)
