"""AgeDB (Moschoglou et al., CVPR Workshops 2017): ``[number]_[Name]_[age]_[f|m].jpg``; the name is the subject."""

from __future__ import annotations

import re

from agr_core.data.readers.base import READERS, ImageLabels, exact_age
from agr_core.data.readers.names import NameReader, age_problem
from agr_core.labels.attributes import GENDERS, Vocabulary


def _labels(match: re.Match[str]) -> ImageLabels | str:
    name, age, gender = match.groups()
    return age_problem(int(age)) or ImageLabels(
        **exact_age(int(age)), gender={"m": GENDERS[0], "f": GENDERS[1]}[gender.lower()], subject=name
    )


AGEDB = NameReader(
    name="agedb",
    layout="[number]_[Name]_[age]_[f|m].jpg",
    vocabulary=Vocabulary(genders=GENDERS, races=()),
    pattern=re.compile(r"[0-9]+_(.+)_([0-9]{1,3})_([fmFM])\.\w+"),
    labels=_labels,
)
READERS.register(AGEDB.name, AGEDB)
