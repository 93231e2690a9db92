"""FG-NET (Lanitis, Taylor and Cootes, TPAMI 2002): ``001A02.JPG`` and ``001A02a.JPG`` are subject 1 at the age of 2."""

from __future__ import annotations

import re

from agr_core.data.readers.base import READERS, ImageLabels, exact_age
from agr_core.data.readers.names import NameReader
from agr_core.labels.attributes import Vocabulary


def _labels(match: re.Match[str]) -> ImageLabels:
    return ImageLabels(**exact_age(int(match[2])), subject=match[1])


FGNET = NameReader(
    name="fgnet",
    layout="[subject]A[age].JPG",
    vocabulary=Vocabulary(genders=(), races=()),
    pattern=re.compile(r"([0-9]{3})[Aa]([0-9]{2})[a-z]?\.\w+"),
    labels=_labels,
)
READERS.register(FGNET.name, FGNET)
