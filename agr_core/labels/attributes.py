"""Vocabularies: the gender and race classes of a data set, their indices, and the attributes its images may have.

A class is stored by its name; its index is its place in the data set's own vocabulary, so that two data sets with
different race classes never share an index by accident.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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

MORPH_RACES: tuple[str, ...] = ("White", "Black", "Asian", "Hispanic", "Others")
"""MORPH-II's codes W, B, A, H and O (Ricanek and Tesafaye, FG 2006)."""

RACE_VOCABULARIES: dict[str, tuple[str, ...]] = {
    "utkface": UTKFACE_RACES,
    "fairface": FAIRFACE_RACES,
    "morph": MORPH_RACES,
}
"""The vocabularies that races can be mapped into, by name."""

# What each class name means, in the finest groups that any of these data sets tells apart.
_GROUPS: dict[str, frozenset[str]] = {
    "White": frozenset({"white"}),
    "Black": frozenset({"black"}),
    "Indian": frozenset({"indian"}),
    "Asian": frozenset({"east asian", "southeast asian"}),
    "East Asian": frozenset({"east asian"}),
    "Southeast Asian": frozenset({"southeast asian"}),
    "Latino_Hispanic": frozenset({"latino"}),
    "Hispanic": frozenset({"latino"}),
    "Middle Eastern": frozenset({"middle eastern"}),
    "Others": frozenset({"others"}),  # and all that its vocabulary has no other class for
}

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


def map_race(name: str, from_: Sequence[str], to: Sequence[str]) -> str | None:
    """The class of another vocabulary that a race class falls into, or None where no single one holds all of it.

    ``East Asian`` falls into UTKFace's ``Asian``; UTKFace's ``Asian`` falls into none of FairFace's, which would have
    to know which Asians. ``Others`` means what its own vocabulary has no other class for.

    Args:
        name: A class of ``from_``.
        from_: The vocabulary of the data set that the label comes from.
        to: The vocabulary that is wanted.

    Raises:
        DataError: If ``name`` is not in ``from_``, or what a class means is not known here.
    """
    if name not in from_:
        raise DataError(f"race {name!r} is not in the vocabulary it should come from: {', '.join(from_) or 'empty'}.")
    if tuple(from_) == tuple(to):
        return name
    meant = _meaning(name, from_)
    return next((wanted for wanted in to if meant <= _meaning(wanted, to)), None)


@dataclass(frozen=True)
class RaceMap:
    """How the race classes of one vocabulary become those of another.

    ``classes``: for each class of the first the class of the other, or None: its images have no race label any more.
    """

    classes: dict[str, str | None]

    @property
    def unlabelled(self) -> tuple[str, ...]:
        """Classes whose images lose their race label."""
        return tuple(name for name, wanted in self.classes.items() if wanted is None)

    @property
    def merged(self) -> dict[str, tuple[str, ...]]:
        """Classes of the other vocabulary in which several are no longer told apart, and which."""
        together: dict[str, list[str]] = {}
        for name, wanted in self.classes.items():
            if wanted is not None:
                together.setdefault(wanted, []).append(name)
        return {wanted: tuple(names) for wanted, names in together.items() if len(names) > 1}

    def lost(self) -> str:
        """What is lost, in one line for people; empty if nothing is."""
        said = [f"{' and '.join(names)} are both {wanted}" for wanted, names in self.merged.items()]
        if self.unlabelled:
            said.append(f"{', '.join(self.unlabelled)} fit no single class and have no race label")
        return "; ".join(said)


def race_map(from_: Sequence[str], to: Sequence[str]) -> RaceMap:
    """``map_race`` for every class of ``from_``.

    Raises:
        DataError: If what a class means is not known here.
    """
    return RaceMap({name: map_race(name, from_, to) for name in from_})


def _meaning(name: str, vocabulary: Sequence[str]) -> frozenset[str]:
    """The finest groups that a class of a vocabulary covers."""
    if name not in _GROUPS:
        raise DataError(
            f"what race {name!r} means in other data sets is not known; known are {', '.join(_GROUPS)}. Add it to "
            "agr_core/labels/attributes.py, or use data sets with one vocabulary."
        )
    if name != "Others":
        return _GROUPS[name]
    # UTKFace's page says it: "Others (like Hispanic, Latino, Middle Eastern)".
    everybody = frozenset[str]().union(*_GROUPS.values())
    return everybody.difference(*(_GROUPS.get(other, ()) for other in vocabulary if other != name))


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
