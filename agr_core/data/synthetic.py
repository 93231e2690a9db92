"""Drawn faces with a known age, gender and race: a data set of any size, from a seed, with nothing to download.

The labels are drawn first: ages and races with the skew of UTKFace. A face then shows each label through several
traits, every one of them noisy and some shared between classes, so that a model can learn all three and none perfectly:
how old people look differs from their age, hair and make-up only suggest a gender, light changes every skin's tone.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

from agr_core.config import SyntheticConfig
from agr_core.data.drawing import Color, Shot, Traits, draw
from agr_core.data.readers.base import RawImage
from agr_core.labels.attributes import GENDERS, UTKFACE_RACES, Vocabulary

VOCABULARY = Vocabulary(genders=GENDERS, races=UTKFACE_RACES)

_JPEG_QUALITY = 92
_OLDEST = 100
_MALE_SHARE = 0.52

# Faces of UTKFace in each span of ages (S4-Z6) and of each race.
_AGE_EDGES = (0, 3, 7, 15, 31, 41, 66, _OLDEST + 1)
_AGE_COUNTS = np.array([1605, 889, 1157, 9010, 4338, 5007, 1699])
_RACE_COUNTS = np.array([10078, 4526, 3434, 3975, 1692])

# By race, in the vocabulary's order: middle and spread of the skin tone (0 light, 1 dark), chance of curly hair, how
# far eyes open and slant, width of the nose, fullness of the lips, middle and spread of the hair's tone (0 black, 1
# blond).
_SKIN = np.array([(0.15, 0.09), (0.84, 0.10), (0.30, 0.08), (0.56, 0.10), (0.42, 0.13)])
_CURLY = (0.12, 0.80, 0.03, 0.10, 0.25)
_EYE_OPENING = (0.72, 0.75, 0.28, 0.80, 0.68)
_EYE_SLANT = (-0.05, 0.00, 0.55, 0.00, 0.10)
_NOSE_WIDTH = (0.25, 0.80, 0.50, 0.45, 0.45)
_LIPS = (0.40, 0.85, 0.45, 0.52, 0.58)
_HAIR_TONE = np.array([(0.45, 0.28), (0.03, 0.05), (0.05, 0.06), (0.05, 0.06), (0.14, 0.12)])

_SKIN_TONES = np.array(
    [(250, 222, 204), (232, 190, 160), (200, 150, 114), (152, 104, 74), (96, 62, 46)], dtype=np.float64
)
_HAIR_TONES = np.array([(24, 20, 20), (66, 44, 30), (120, 80, 48), (178, 134, 80), (216, 182, 120)], dtype=np.float64)
_BROWN_EYES = np.array([74.0, 46.0, 30.0])
_LIGHT_EYES = np.array([(88.0, 128.0, 160.0), (96.0, 124.0, 88.0), (122.0, 134.0, 140.0)])


def draw_faces(config: SyntheticConfig) -> Iterator[RawImage]:
    """The faces of a configuration in order, as JPEG; face k depends on the seed and k alone.

    Shapes: each image is (size, size, 3).
    """
    for number in range(config.images):
        yield _draw_face(config, number)


def _draw_face(config: SyntheticConfig, number: int) -> RawImage:
    rng = np.random.default_rng((config.seed, number))
    age, male, race = _draw_labels(rng)
    image = draw(_draw_traits(age, male, race, rng), _draw_shot(rng), config.size, rng)
    encoded, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY)
    )
    assert encoded
    return RawImage(
        path=f"face-{number:06d}.jpg",
        data=data.tobytes(),
        age=float(age),
        age_low=float(age),
        age_high=float(age),
        gender=GENDERS[0 if male else 1],
        race=UTKFACE_RACES[race],
    )


def _draw_labels(rng: np.random.Generator) -> tuple[int, bool, int]:
    """Age in years, whether male, index of the race."""
    span = _pick(_AGE_COUNTS, rng)
    low, high = _AGE_EDGES[span], _AGE_EDGES[span + 1]
    # Within its span an age is even, but the last thins out towards the oldest.
    place = rng.random() ** (2.2 if high > _OLDEST else 1.0)
    return int(low + place * (high - low)), bool(rng.random() < _MALE_SHARE), _pick(_RACE_COUNTS, rng)


def _pick(counts: np.ndarray[tuple[int], np.dtype[np.int64]], rng: np.random.Generator) -> int:
    return int(np.searchsorted(np.cumsum(counts), rng.random() * counts.sum(), side="right"))


def _tone(tones: np.ndarray[tuple[int, int], np.dtype[np.float64]], place: float) -> Color:
    """The colour at ``place`` (0 to 1) along a scale of colours."""
    at = min(max(place, 0.0), 1.0) * (len(tones) - 1)
    lower = min(int(at), len(tones) - 2)
    color: Color = tones[lower] + (tones[lower + 1] - tones[lower]) * (at - lower)
    return color


def _share(value: float) -> float:
    """``value`` held within 0 to 1: a trait cannot be less than absent or more than full."""
    return min(max(float(value), 0.0), 1.0)


def _draw_traits(age: int, male: bool, race: int, rng: np.random.Generator) -> Traits:
    looks = max(0.0, age * (1 + rng.normal(0, 0.07)) + rng.normal(0, 1.5))  # the age the face looks, years
    child = _share(1 - looks / 17)
    adult = _share((looks - 10) / 8)
    manly = (1.0 if male else -1.0) + rng.normal(0, 0.55)

    def gendered(center: float, reach: float, spread: float) -> float:
        """A trait that gender moves by ``reach`` either way, fully in adults and a little in children."""
        return _share(center + reach * manly * (0.35 + 0.65 * adult) + rng.normal(0, spread))

    skin = _tone(_SKIN_TONES, rng.normal(*_SKIN[race])) + rng.normal(0, 5, size=3)
    light_eyes = race == 0 and rng.random() < 0.45
    receding = _share((looks - 24) / 52 * rng.uniform(0.2, 1.7)) if manly > 0 else 0.12 * _share((looks - 55) / 30)
    beard = rng.uniform(0.25, 0.95) if male and looks > 19 and rng.random() < 0.42 else 0.0
    return Traits(
        skin=skin,
        hair=_tone(_HAIR_TONES, rng.normal(*_HAIR_TONE[race])) + rng.normal(0, 5, size=3),
        iris=_LIGHT_EYES[rng.integers(len(_LIGHT_EYES))] if light_eyes else _BROWN_EYES * rng.uniform(0.7, 1.3),
        clothes=rng.uniform(20, 235, size=3),
        backdrop=(_dull_color(rng), _dull_color(rng)),
        child=child,
        aging=min(1.2, max(0.0, (looks - 24) / 62 + rng.normal(0, 0.04))),
        grey=0.95 / (1 + float(np.exp(-(looks - 52 + rng.normal(0, 7)) / 5))),
        receding=receding,
        parting=float(rng.uniform(-1, 1)),
        hair_length=gendered(0.38, -0.40, 0.16) * _share(0.2 + looks / 5),
        hair_volume=_share(rng.normal(0.45, 0.2)) * _share(0.3 + looks / 6),
        sparse_hair=bool(looks < 2.2),
        curly=float(rng.random() < _CURLY[race]),
        jaw=gendered(0.42, 0.30, 0.10) * (1 - 0.6 * child),
        brows=gendered(0.45, 0.26, 0.12) * (1 - 0.5 * child),
        lips=_share(_LIPS[race] - 0.10 * manly + rng.normal(0, 0.12)),
        lipstick=_share(0.25 - 0.35 * manly + rng.normal(0, 0.2)) * adult,
        beard=beard,
        eye_opening=_share(_EYE_OPENING[race] + rng.normal(0, 0.12)),
        eye_slant=_EYE_SLANT[race] + rng.normal(0, 0.15),
        nose_width=_share(_NOSE_WIDTH[race] + 0.05 * manly + rng.normal(0, 0.13)),
        glasses=bool(rng.random() < 0.01 + 0.25 * _share((looks - 4) / 60)),
    )


def _dull_color(rng: np.random.Generator) -> Color:
    return float(rng.uniform(40, 215)) + rng.uniform(-45, 45, size=3)


def _draw_shot(rng: np.random.Generator) -> Shot:
    return Shot(
        turn=float(rng.normal(0, 5)),
        zoom=float(rng.uniform(0.98, 1.18)),
        shift=(float(rng.normal(0, 0.02)), float(rng.normal(0, 0.02))),
        light=rng.normal(1.0, 0.10) * rng.normal(1.0, 0.03, size=3),
        slope=(float(rng.normal(0, 0.12)), float(rng.normal(0, 0.08))),
        blur=float(rng.uniform(0.3, 0.7)) if rng.random() < 0.25 else 0.0,
        noise=float(rng.uniform(2.0, 9.0)),
    )
