"""Vocabularies: the gender and race classes of a data set, their indices, and the attributes its images may have.

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

CELEBA_ATTRIBUTES: tuple[str, ...] = (
    "5_o_Clock_Shadow",
    "Arched_Eyebrows",
    "Attractive",
    "Bags_Under_Eyes",
    "Bald",
    "Bangs",
    "Big_Lips",
    "Big_Nose",
    "Black_Hair",
    "Blond_Hair",
    "Blurry",
    "Brown_Hair",
    "Bushy_Eyebrows",
    "Chubby",
    "Double_Chin",
    "Eyeglasses",
    "Goatee",
    "Gray_Hair",
    "Heavy_Makeup",
    "High_Cheekbones",
    "Male",
    "Mouth_Slightly_Open",
    "Mustache",
    "Narrow_Eyes",
    "No_Beard",
    "Oval_Face",
    "Pale_Skin",
    "Pointy_Nose",
    "Receding_Hairline",
    "Rosy_Cheeks",
    "Sideburns",
    "Smiling",
    "Straight_Hair",
    "Wavy_Hair",
    "Wearing_Earrings",
    "Wearing_Hat",
    "Wearing_Lipstick",
    "Wearing_Necklace",
    "Wearing_Necktie",
    "Young",
)
"""CelebA's forty (Liu, Luo, Wang and Tang, ICCV 2015), in the order of ``list_attr_celeba.txt``."""


@dataclass(frozen=True)
class Vocabulary:
    """The classes a data set knows, in index order, whether or not an image has them; empty: it has no such label.

    An image has one gender and one race, but any number of ``attributes``, each present or absent.
    """

    genders: tuple[str, ...]
    races: tuple[str, ...]
    attributes: tuple[str, ...] = ()

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
