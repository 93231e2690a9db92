"""MORPH-II (Ricanek and Tesafaye, FG 2006): ``[subject]_[number][M|F][age].JPG``, and races in a CSV file.

``morph_2008_nonCommercial.csv`` has the image in column ``photo`` and ``race`` as W, B, A, H or O; without it, races
are unknown. Age and gender are in the image's name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from agr_core.data.readers.base import READERS, ImageLabels, Labelling, exact_age
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
    """Reader of MORPH-II, with or without its table."""

    name = _NAMES.name
    layout = _NAMES.layout
    vocabulary = _NAMES.vocabulary

    def recognises(self, paths: Sequence[str]) -> bool:
        """Return whether any image has a MORPH-II name."""
        return _NAMES.recognises(paths)

    def labelling(self, files: Files) -> Labelling:
        """Return the labels from each image's name, with the race from the table."""
        label_file = named(files.paths, _LABEL_FILE)
        races: dict[str, str] = {}
        if label_file is not None:
            for _, row in read_table(read_text(files, label_file), label_file, ("photo", "race")):
                races[PurePosixPath(row["photo"]).name] = row["race"].upper()
        labels = {
            path: _with_race(labels_or_problem, races.get(PurePosixPath(path).name))
            for path, labels_or_problem in _NAMES.labelling(files).labels.items()
        }
        return Labelling(labels, frozenset(() if label_file is None else (label_file,)))

    def key(self, path: str) -> str:
        """Return the path itself."""
        return path


def _with_race(labels_or_problem: ImageLabels | str, code: str | None) -> ImageLabels | str:
    if isinstance(labels_or_problem, str) or code is None:
        return labels_or_problem
    return (
        replace(labels_or_problem, race=RACES[code])
        if code in RACES
        else f"race {code!r} is none of {', '.join(RACES)}"
    )


READERS.register(MorphReader.name, MorphReader())
