"""Vocabularies: class names and indices of gender and race, names of attributes, mappings between race vocabularies.

A class is stored by name; its index is its position in the data set's own vocabulary. Two data sets with different race
classes therefore never share an index by accident.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agr_core.errors import DataError

GENDERS: tuple[str, ...] = ("male", "female")
"""Genders in UTKFace's order 0, 1; all data sets use these names."""

UTKFACE_RACES: tuple[str, ...] = ("White", "Black", "Asian", "Indian", "Others")
"""Races of UTKFace, 0 to 4 (Zhang, Song and Qi 2017)."""

FAIRFACE_RACES: tuple[str, ...] = (
    "White",
    "Black",
    "Latino_Hispanic",
    "East Asian",
    "Southeast Asian",
    "Indian",
    "Middle Eastern",
)
"""Races of FairFace (Karkkainen and Joo, WACV 2021), in the order of its published models."""

MORPH_RACES: tuple[str, ...] = ("White", "Black", "Asian", "Hispanic", "Others")
"""Races of MORPH-II, codes W, B, A, H and O (Ricanek and Tesafaye, FG 2006)."""

RACE_VOCABULARIES: dict[str, tuple[str, ...]] = {
    "utkface": UTKFACE_RACES,
    "fairface": FAIRFACE_RACES,
    "morph": MORPH_RACES,
}
"""Target vocabularies of race mappings, by name."""

# Meaning of each class name, in the finest groups that any of these data sets distinguishes.
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
    "Others": frozenset({"others"}),  # plus everything without a class in the same vocabulary
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
"""CelebA's forty attributes (Liu, Luo, Wang and Tang, ICCV 2015), in the order of ``list_attr_celeba.txt``."""


def map_race(name: str, from_: Sequence[str], to: Sequence[str]) -> str | None:
    """Return the class of another vocabulary that contains a race class; None if no single class contains it.

    ``East Asian`` maps to UTKFace's ``Asian``. UTKFace's ``Asian`` maps to none of FairFace's classes, because FairFace
    distinguishes several. ``Others`` means everything without a class in its own vocabulary.

    Args:
        name: A class of ``from_``.
        from_: Vocabulary of the label's data set.
        to: Target vocabulary.

    Raises:
        DataError: If ``name`` is not in ``from_``, or the meaning of a class is not defined.
    """
    if name not in from_:
        raise DataError(f"race {name!r} is not in its vocabulary: {', '.join(from_) or 'empty'}.")
    if tuple(from_) == tuple(to):
        return name
    meant = _meaning(name, from_)
    return next((wanted for wanted in to if meant <= _meaning(wanted, to)), None)


@dataclass(frozen=True)
class RaceMap:
    """Mapping of the race classes of one vocabulary to another.

    ``classes`` maps each class of the first vocabulary to a class of the second, or to None, which removes the race
    label of its images.
    """

    classes: dict[str, str | None]

    @property
    def unlabelled(self) -> tuple[str, ...]:
        """Classes whose images lose their race label."""
        return tuple(name for name, wanted in self.classes.items() if wanted is None)

    @property
    def merged(self) -> dict[str, tuple[str, ...]]:
        """Target classes that merge several source classes, with those classes."""
        together: dict[str, list[str]] = {}
        for name, wanted in self.classes.items():
            if wanted is not None:
                together.setdefault(wanted, []).append(name)
        return {wanted: tuple(names) for wanted, names in together.items() if len(names) > 1}

    def lost(self) -> str:
        """Return one line about unlabelled and merged classes; empty if there are none."""
        said = [f"{' and '.join(names)} are both {wanted}" for wanted, names in self.merged.items()]
        if self.unlabelled:
            said.append(f"{', '.join(self.unlabelled)} fit no single class and have no race label")
        return "; ".join(said)


def race_map(from_: Sequence[str], to: Sequence[str]) -> RaceMap:
    """Return the result of ``map_race`` for every class of ``from_``.

    Raises:
        DataError: If the meaning of a class is not defined.
    """
    return RaceMap({name: map_race(name, from_, to) for name in from_})


def _meaning(name: str, vocabulary: Sequence[str]) -> frozenset[str]:
    """Return the finest groups that a class of a vocabulary covers."""
    if name not in _GROUPS:
        raise DataError(
            f"the meaning of race {name!r} in other data sets is unknown; known: {', '.join(_GROUPS)}. Add it to "
            "agr_core/labels/attributes.py, or use data sets with one vocabulary."
        )
    if name != "Others":
        return _GROUPS[name]
    # From UTKFace's page: "Others (like Hispanic, Latino, Middle Eastern)".
    everybody = frozenset[str]().union(*_GROUPS.values())
    return everybody.difference(*(_GROUPS.get(other, ()) for other in vocabulary if other != name))


@dataclass(frozen=True)
class Vocabulary:
    """Classes of a data set, in index order, whether or not an image has them; empty: no such label.

    An image has one gender and one race, but any number of ``attributes``, each present or absent.
    """

    genders: tuple[str, ...]
    races: tuple[str, ...]
    attributes: tuple[str, ...] = ()

    def names(self, label: str) -> tuple[str, ...]:
        """Return the class names of ``gender`` or ``race``."""
        return {"gender": self.genders, "race": self.races}[label]

    def index(self, label: str, values: Iterable[str | None]) -> NDArray[np.int64]:
        """Return the class index of each value (N,), -1 where the value is missing (None or NaN).

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
"""Every class of all supported data sets; used for a data set whose content is not known yet."""
