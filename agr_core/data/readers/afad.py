"""AFAD, the Asian Face Age Dataset (Niu et al., CVPR 2016): folders ``[age]/[111|112]``, 111 for men, 112 for women."""

from __future__ import annotations

import re

from agr_core.data.readers.base import READERS, ImageLabels, exact_age
from agr_core.data.readers.names import NameReader, age_problem
from agr_core.labels.attributes import GENDERS, Vocabulary

_RACE = "Asian"  # the whole data set


def _labels(match: re.Match[str]) -> ImageLabels | str:
    age, gender = int(match[1]), {"111": GENDERS[0], "112": GENDERS[1]}[match[2]]
    return age_problem(age) or ImageLabels(**exact_age(age), gender=gender, race=_RACE)


AFAD = NameReader(
    name="afad",
    layout="[age]/[111|112]/[file].jpg",
    vocabulary=Vocabulary(genders=GENDERS, races=(_RACE,)),
    pattern=re.compile(r"([0-9]{1,3})/(111|112)/.+"),
    labels=_labels,
    depth=3,
)
READERS.register(AFAD.name, AFAD)
