"""MORPH-II (Ricanek and Tesafaye, FG 2006): ``[subject]_[number][M|F][age].JPG``, and races in a CSV file.

``morph_2008_nonCommercial.csv`` names each image in its column ``photo`` and gives ``race`` as W, B, A, H or O; without
it races are not known. Age and gender come from the image's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from agr_core.data.readers.base import READERS, ImageLabels, RawImage, Skipped, exact_age, read_image
from agr_core.data.readers.files import Files
from agr_core.data.readers.label_files import named, read_table, read_text
from agr_core.data.readers.names import NameReader, age_problem
from agr_core.labels.attributes import GENDERS, MORPH_RACES, Vocabulary

RACES = dict(zip("WBAHO", MORPH_RACES, strict=True))
"""Race of each code."""

_LABEL_FILE = "morph_2008_nonCommercial.csv"


def _labels(match: re.Match[str]) -> ImageLabels | str:
    subject, gender, age = match[1], {"M": GENDERS[0], "F": GENDERS[1]}[match[2].upper()], int(match[3])
    return age_problem(age) or ImageLabels(**exact_age(age), gender=gender, subject=subject)


_NAMES = NameReader(
    name="morph",
    layout="[subject]_[number][M|F][age].JPG",
    vocabulary=Vocabulary(genders=GENDERS, races=MORPH_RACES),
    pattern=re.compile(r"([0-9]+)_[0-9]+([MFmf])([0-9]{1,3})\.\w+"),
    labels=_labels,
)


class MorphReader:
    """Reads MORPH-II, with its table or without."""

    name = _NAMES.name
    layout = _NAMES.layout
    vocabulary = _NAMES.vocabulary

    def recognises(self, paths: Sequence[str]) -> bool:
        """Whether any image is named as in MORPH-II."""
        return _NAMES.recognises(paths)

    def read(self, files: Files) -> Iterator[RawImage | Skipped]:
        """Every image whose name and bytes can be read, in the order of the paths."""
        label_file = named(files.paths, _LABEL_FILE)
        races: dict[str, str] = {}
        if label_file is not None:
            for _, row in read_table(read_text(files, label_file), label_file, ("photo", "race")):
                races[PurePosixPath(row["photo"]).name] = row["race"].upper()
        for path, reason in files.refused:
            yield Skipped(path, reason)
        for path in files.paths:
            if path == label_file:
                continue
            said = _NAMES.parse(path)
            code = races.get(PurePosixPath(path).name)
            if isinstance(said, str):
                yield Skipped(path, said)
            elif code is not None and code not in RACES:
                yield Skipped(path, f"race {code!r} is none of {', '.join(RACES)}")
            else:
                yield read_image(files, path, replace(said, race=None if code is None else RACES[code]))


READERS.register(MorphReader.name, MorphReader())
