"""UTKFace (Zhang, Song and Qi 2017): one face a file, its labels in the file's name.

``[age]_[gender]_[race]_[time].jpg``, often ``.jpg.chip.jpg``: age in years, gender 0 male 1 female, race 0 White
1 Black 2 Asian 3 Indian 4 Others. The time is not used; a few names of the original have an odd one and are read. The
in-the-wild images of ``part1`` to ``part3`` are named alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from agr_core.data.readers.base import READERS, ImageLabels, exact_age
from agr_core.data.readers.names import NameReader, age_problem
from agr_core.labels.attributes import GENDERS, UTKFACE_RACES, Vocabulary


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


UTKFACE = NameReader(
    name="utkface",
    layout="[age]_[gender]_[race]_[time].jpg",
    vocabulary=Vocabulary(genders=GENDERS, races=UTKFACE_RACES),
    pattern=re.compile(r"([0-9]{1,9})_([0-9]{1,9})_([0-9]{1,9})_.+"),
    labels=_labels,
)
READERS.register(UTKFACE.name, UTKFACE)
