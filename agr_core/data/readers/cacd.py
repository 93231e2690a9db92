"""CACD (Chen, Chen and Hsu, ECCV 2014): ``[age]_[First]_[Last]_[number].jpg``; the name is the subject."""

from __future__ import annotations

import re

from agr_core.data.readers.base import READERS, ImageLabels, exact_age
from agr_core.data.readers.names import NameReader, age_problem
from agr_core.labels.attributes import Vocabulary


def _labels(match: re.Match[str]) -> ImageLabels | str:
    age = int(match[1])
    return age_problem(age) or ImageLabels(**exact_age(age), subject=match[2])


CACD = NameReader(
    name="cacd",
    layout="[age]_[First]_[Last]_[number].jpg",
    vocabulary=Vocabulary(genders=(), races=()),
    # A name contains a letter, possibly accented or after digits (50 Cent); names of digits only are UTKFace's.
    pattern=re.compile(r"([0-9]{1,3})_(.*[^\W\d_].*)_[0-9]{4}\.\w+"),
    labels=_labels,
)
READERS.register(CACD.name, CACD)
