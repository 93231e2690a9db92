"""Reads faces named ``q<number>_<age>_<m or f>.<jpg or png>``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from agr_core.data.readers.base import ImageLabels, Labelling
from agr_core.data.readers.files import Files
from agr_core.labels.attributes import Vocabulary

_NAME = re.compile(r"q\d+_(?P<age>\d{1,3})_(?P<gender>[mf])\.(jpg|png)")
_GENDERS = {"m": "male", "f": "female"}


class QuartersReader:
    """What ``agr data pack`` asks of a reader; ``agr_core.data.readers.base.Reader`` describes each member."""

    name = "quarters"
    layout = "q<number>_<age>_<m or f>.jpg"
    vocabulary = Vocabulary(genders=("male", "female"), races=())

    def recognises(self, paths: Sequence[str]) -> bool:
        """Whether most files are named so."""
        fitting = sum(_NAME.fullmatch(self.key(path)) is not None for path in paths)
        return 2 * fitting > len(paths)

    def labelling(self, files: Files) -> Labelling:
        """The labels that the names say; a name that says none is named as skipped."""
        labels: dict[str, ImageLabels | str] = {}
        for path in files.paths:
            match = _NAME.fullmatch(self.key(path))
            if match is None:
                labels[self.key(path)] = f"not named {self.layout}"
            else:
                age = float(match["age"])
                labels[self.key(path)] = ImageLabels(
                    age=age, age_low=age, age_high=age, gender=_GENDERS[match["gender"]]
                )
        return Labelling(labels)

    def key(self, path: str) -> str:
        """The file's name."""
        return PurePosixPath(path).name


QUARTERS = QuartersReader()
