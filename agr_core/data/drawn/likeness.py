"""Distribution of people and labels of synthetic faces, modelled on UTKFace or another data set.

Shares approximate those of the data set. A label agrees with the drawing wherever the drawing shows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agr_core.bins import MAX_AGE
from agr_core.data.drawn.drawing import Shot, Traits
from agr_core.data.readers.base import ImageLabels, age_between, exact_age
from agr_core.labels.attributes import CELEBA_ATTRIBUTES, FAIRFACE_RACES, GENDERS, UTKFACE_RACES, Vocabulary

SUBJECT_IMAGES = 4
"""Number of images per subject in a data set drawn like Adience."""

SMILING_SHARE = 0.48
"""Share of smiling faces in data sets with attributes (CelebA)."""

_FOLDS = 5
_OLDEST = 100
_MALE_SHARE = 0.52
_YOUNG = 40  # highest age labelled as young, in years


@dataclass(frozen=True, kw_only=True)
class Person:
    """Person to draw: ``age`` in years, the data set's age range of it, and the race that is drawn."""

    age: int
    age_low: int
    age_high: int
    male: bool
    race: str


@dataclass(frozen=True)
class Likeness:
    """Model data set of synthetic faces.

    ``vocabulary`` gives its possible labels. ``spans`` gives lowest and highest age, both included, and number of faces
    of each age span. ``races`` gives the number of faces of each race that is drawn, whether or not it is a label.
    """

    vocabulary: Vocabulary
    spans: tuple[tuple[int, int, int], ...]
    races: dict[str, int]

    def person(self, rng: np.random.Generator) -> Person:
        """Draw a random person of the data set, at most 100 years old."""
        span = _pick([count for _, _, count in self.spans], rng)
        low, high, _ = self.spans[span]
        # Ages are uniform within a span, except that the last span thins out towards its end.
        position = rng.random() ** (2.2 if span == len(self.spans) - 1 else 1.0)
        return Person(
            age=int(low + position * (min(high, _OLDEST) + 1 - low)),
            age_low=low,
            age_high=high,
            male=bool(rng.random() < _MALE_SHARE),
            race=tuple(self.races)[_pick(list(self.races.values()), rng)],
        )


_UTKFACE_SHARES = dict(zip(UTKFACE_RACES, (10078, 4526, 3434, 3975, 1692), strict=True))

LIKENESSES: dict[str, Likeness] = {
    # Faces of UTKFace in each span of ages (S4-Z6) and of each race.
    "plain": Likeness(
        Vocabulary(GENDERS, UTKFACE_RACES),
        ((0, 2, 1605), (3, 6, 889), (7, 14, 1157), (15, 30, 9010), (31, 40, 4338), (41, 65, 5007), (66, 100, 1699)),
        _UTKFACE_SHARES,
    ),
    # Rows of the five fold files by age label.
    "adience": Likeness(
        Vocabulary(GENDERS, ()),
        (
            (0, 2, 2488),
            (4, 6, 2140),
            (8, 12, 2124),
            (15, 20, 1642),
            (25, 32, 4932),
            (38, 43, 2293),
            (48, 53, 830),
            (60, 100, 872),
        ),
        _UTKFACE_SHARES,
    ),
    # Adults, three quarters of them young.
    "celeba": Likeness(
        Vocabulary(GENDERS, (), CELEBA_ATTRIBUTES),
        ((16, 24, 25), (25, 39, 50), (40, 64, 20), (65, 90, 5)),
        _UTKFACE_SHARES,
    ),
    # Training faces of the official files.
    "fairface": Likeness(
        Vocabulary(GENDERS, FAIRFACE_RACES),
        (
            (0, 2, 1792),
            (3, 9, 10408),
            (10, 19, 9103),
            (20, 29, 25598),
            (30, 39, 19250),
            (40, 49, 10744),
            (50, 59, 6228),
            (60, 69, 2779),
            (70, MAX_AGE, 842),
        ),
        dict(zip(FAIRFACE_RACES, (16527, 12233, 13367, 12287, 10795, 12319, 9216), strict=True)),
    ),
}


def labels_of(
    like: str, number: int, person: Person, traits: Traits, shot: Shot, rng: np.random.Generator
) -> ImageLabels:
    """Return the labels of face ``number``; ``rng`` draws labels that the image does not show."""
    gender = GENDERS[0 if person.male else 1]
    match like:
        case "adience":
            subject = number // SUBJECT_IMAGES
            return ImageLabels(
                **age_between(person.age_low, person.age_high),
                gender=gender,
                subject=str(subject),
                partition=str(subject % _FOLDS),
            )
        case "fairface":
            partition = "val" if number % 9 == 8 else "train"  # 10,954 of 97,698
            ages = age_between(person.age_low, person.age_high)
            return ImageLabels(**ages, gender=gender, race=person.race, partition=partition)
        case "celeba":
            partition = {8: "val", 9: "test"}.get(number % 10, "train")  # 19,867 and 19,962 of 202,599
            attributes = _attributes(person, traits, shot, rng)
            return ImageLabels(gender=gender, partition=partition, attributes=attributes)
    return ImageLabels(**exact_age(float(person.age)), gender=gender, race=person.race)


def _attributes(person: Person, traits: Traits, shot: Shot, rng: np.random.Generator) -> tuple[bool, ...]:
    """Return the CelebA attributes of a face, in order."""
    bald = traits.receding >= 0.92
    grey = traits.grey >= 0.5
    tone = float(np.mean(traits.hair))
    seen = {
        "5_o_Clock_Shadow": 0 < traits.beard < 0.45,
        "Bags_Under_Eyes": traits.aging > 0.35,
        "Bald": bald,
        "Big_Lips": traits.lips > 0.6,
        "Big_Nose": traits.nose_width > 0.6,
        "Black_Hair": not bald and not grey and tone < 40,
        "Blond_Hair": not bald and not grey and tone > 120,
        "Blurry": shot.blur > 0,
        "Brown_Hair": not bald and not grey and 40 <= tone <= 120,
        "Bushy_Eyebrows": traits.brows > 0.6,
        "Eyeglasses": traits.glasses,
        "Goatee": traits.beard > 0.6,
        "Gray_Hair": not bald and grey,
        "Heavy_Makeup": traits.lipstick > 0.6,
        "Male": person.male,
        "Mustache": traits.beard > 0.5,
        "Narrow_Eyes": traits.eye_opening < 0.4,
        "No_Beard": traits.beard == 0,
        "Pale_Skin": float(np.mean(traits.skin)) > 220,
        "Receding_Hairline": not bald and traits.receding > 0.4,
        "Sideburns": traits.beard > 0.8,
        "Smiling": traits.smile > 0,
        "Straight_Hair": not bald and traits.curly == 0,
        "Wavy_Hair": not bald and traits.curly > 0,
        "Wearing_Lipstick": traits.lipstick > 0.35,
        "Young": person.age < _YOUNG,
    }
    # A random value is drawn for every attribute, so that a newly shown one does not change the others.
    hidden = {name: bool(rng.random() < share) for name, share in _HIDDEN.items()}
    return tuple(bool((seen | hidden)[name]) for name in CELEBA_ATTRIBUTES)


# Attributes that the drawing does not show, with their approximate share in CelebA.
_HIDDEN = {
    "Arched_Eyebrows": 0.27,
    "Attractive": 0.51,
    "Bangs": 0.15,
    "Chubby": 0.06,
    "Double_Chin": 0.05,
    "High_Cheekbones": 0.45,
    "Mouth_Slightly_Open": 0.48,
    "Oval_Face": 0.28,
    "Pointy_Nose": 0.28,
    "Rosy_Cheeks": 0.07,
    "Wearing_Earrings": 0.19,
    "Wearing_Hat": 0.05,
    "Wearing_Necklace": 0.12,
    "Wearing_Necktie": 0.07,
}


def _pick(counts: Sequence[int], rng: np.random.Generator) -> int:
    return int(np.searchsorted(np.cumsum(counts), rng.random() * sum(counts), side="right"))
