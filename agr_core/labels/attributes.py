"""Gender and race vocabularies: the class names of a data set and the indices models are trained on.

A class is stored by its name; its index is its place in the data set's own vocabulary, so that two data sets with
different race classes never share an index by accident.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agr_core.errors import DataError

GENDERS: tuple[str, ...] = ("male", "female")
"""UTKFace's 0 and 1; the same names in every data set."""

UTKFACE_RACES: tuple[str, ...] = ("White", "Black", "Asian", "Indian", "Others")
"""UTKFace's 0 to 4 (Zhang, Song and Qi 2017)."""

FAIRFACE_RACES: tuple[str, ...] = (
    "White",
    "Black",
    "Latino_Hispanic",
    "East Asian",
    "Southeast Asian",
    "Indian",
    "Middle Eastern",
)
"""FairFace's seven (Karkkainen and Joo, WACV 2021), in the order of its published models."""


@dataclass(frozen=True)
class Vocabulary:
    """The classes a data set knows, in index order, whether or not an image has them; empty: it has no such label."""

    genders: tuple[str, ...]
    races: tuple[str, ...]

    def names(self, label: str) -> tuple[str, ...]:
        """The class names of ``gender`` or ``race``."""
        return {"gender": self.genders, "race": self.races}[label]

    def index(self, label: str, values: Iterable[str | None]) -> NDArray[np.int64]:
        """The class index of each value (N,), -1 where the value is missing (None or NaN).

        Raises:
            DataError: If a value is not in the vocabulary.
        """
        names = self.names(label)
        places = {name: place for place, name in enumerate(names)}

        def place(value: str | None) -> int:
            if not isinstance(value, str):
                return -1
            if value not in places:
                raise DataError(
                    f"{label} {value!r} is not in the data set's vocabulary: {', '.join(names) or 'it has none'}."
                )
            return places[value]

        return np.fromiter((place(value) for value in values), dtype=np.int64)


ANY_VOCABULARY = Vocabulary(genders=GENDERS, races=tuple(dict.fromkeys((*UTKFACE_RACES, *FAIRFACE_RACES))))
"""Every class of the data sets we read: what a data set that was not looked at may have."""
