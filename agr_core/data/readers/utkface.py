"""UTKFace (Zhang, Song and Qi 2017): one face a file, its labels in the file's name.

``[age]_[gender]_[race]_[time].jpg``, often ``.jpg.chip.jpg``: age in years, gender 0 male 1 female, race 0 White
1 Black 2 Asian 3 Indian 4 Others. The time is not used; a few names of the original have an odd one and are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from agr_core.data.readers.base import READERS, ImageLabels, RawImage, Skipped, exact_age, is_image_name, read_image
from agr_core.data.readers.files import Files
from agr_core.labels.attributes import GENDERS, UTKFACE_RACES, Vocabulary
from agr_core.labels.bins import MAX_AGE

_NAME = re.compile(r"([0-9]{1,9})_([0-9]{1,9})_([0-9]{1,9})_.+")


class UtkFaceReader:
    """Reads UTKFace and data sets named like it."""

    name = "utkface"
    layout = "[age]_[gender]_[race]_[time].jpg"
    vocabulary = Vocabulary(genders=GENDERS, races=UTKFACE_RACES)

    def recognises(self, paths: Sequence[str]) -> bool:
        """Whether any image is named as in UTKFace."""
        return any(is_image_name(path) and _NAME.fullmatch(PurePosixPath(path).name) for path in paths)

    def read(self, files: Files) -> Iterator[RawImage | Skipped]:
        """Every image whose name and bytes can be read, in the order of the paths."""
        for path, reason in files.refused:
            yield Skipped(path, reason)
        for path in files.paths:
            yield self._read_one(files, path)

    def _read_one(self, files: Files, path: str) -> RawImage | Skipped:
        if not is_image_name(path):
            return Skipped(path, "not an image file by its name")
        labels = parse_name(PurePosixPath(path).name)
        if isinstance(labels, str):
            return Skipped(path, labels)
        return read_image(files, path, labels)


def parse_name(name: str) -> ImageLabels | str:
    """Age, gender and race of a file name, or what is wrong with it."""
    match = _NAME.fullmatch(name)
    if match is None:
        return f"the name is not {UtkFaceReader.layout}"
    age, gender, race = (int(field) for field in match.groups())
    if age > MAX_AGE:
        return f"age {age} is outside 0 to {MAX_AGE} years"
    if gender >= len(GENDERS):
        return f"gender {gender} is none of {_codes(GENDERS)}"
    if race >= len(UTKFACE_RACES):
        return f"race {race} is none of {_codes(UTKFACE_RACES)}"
    return ImageLabels(**exact_age(float(age)), gender=GENDERS[gender], race=UTKFACE_RACES[race])


def _codes(names: Sequence[str]) -> str:
    return ", ".join(f"{code} {name}" for code, name in enumerate(names))


READERS.register(UtkFaceReader.name, UtkFaceReader())
