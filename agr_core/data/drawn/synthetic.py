"""Synthetic faces with known age, gender and race: a data set of any size from a seed, without download.

Labels are drawn first; ages and races have the skew of UTKFace. A face shows each label through several traits, which
are noisy and partly shared between classes. A model can therefore learn all three labels, but none perfectly: apparent
age differs from age, hair and make-up only suggest a gender, and light changes every skin tone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from agr_core.config import SyntheticConfig
from agr_core.data.drawn.drawing import Color, Shot, Traits, draw
from agr_core.data.drawn.likeness import LIKENESSES, SMILING_SHARE, SUBJECT_IMAGES, Person, labels_of
from agr_core.data.readers.base import RawImage
from agr_core.labels.attributes import Vocabulary

_JPEG_QUALITY = 92


@dataclass(frozen=True)
class _Looks:
    """Appearance of a race.

    Mean and spread of skin tone (0 light, 1 dark), probability of curly hair, opening and slant of eyes, width of the
    nose, fullness of the lips, mean and spread of hair tone (0 black, 1 blond), probability of light eyes.
    """

    skin: tuple[float, float]
    curly: float
    eye_opening: float
    eye_slant: float
    nose_width: float
    lips: float
    hair: tuple[float, float]
    light_eyes: float = 0.0


_LOOKS = {
    "White": _Looks((0.15, 0.09), 0.12, 0.72, -0.05, 0.25, 0.40, (0.45, 0.28), light_eyes=0.45),
    "Black": _Looks((0.84, 0.10), 0.80, 0.75, 0.00, 0.80, 0.85, (0.03, 0.05)),
    "Asian": _Looks((0.30, 0.08), 0.03, 0.28, 0.55, 0.50, 0.45, (0.05, 0.06)),
    "Indian": _Looks((0.56, 0.10), 0.10, 0.80, 0.00, 0.45, 0.52, (0.05, 0.06)),
    "Others": _Looks((0.42, 0.13), 0.25, 0.68, 0.10, 0.45, 0.58, (0.14, 0.12)),
    "Latino_Hispanic": _Looks((0.42, 0.10), 0.25, 0.68, 0.10, 0.45, 0.60, (0.14, 0.10)),
    "East Asian": _Looks((0.26, 0.07), 0.03, 0.25, 0.60, 0.48, 0.42, (0.04, 0.05)),
    "Southeast Asian": _Looks((0.46, 0.08), 0.05, 0.36, 0.45, 0.66, 0.58, (0.04, 0.05)),
    "Middle Eastern": _Looks((0.32, 0.09), 0.30, 0.78, -0.05, 0.38, 0.42, (0.10, 0.10), light_eyes=0.10),
}
_SKIN_TONES = np.array(
    [(250, 222, 204), (232, 190, 160), (200, 150, 114), (152, 104, 74), (96, 62, 46)], dtype=np.float64
)
_HAIR_TONES = np.array([(24, 20, 20), (66, 44, 30), (120, 80, 48), (178, 134, 80), (216, 182, 120)], dtype=np.float64)
_BROWN_EYES = np.array([74.0, 46.0, 30.0])
_LIGHT_EYES = np.array([(88.0, 128.0, 160.0), (96.0, 124.0, 88.0), (122.0, 134.0, 140.0)])


def vocabulary_of(like: str) -> Vocabulary:
    """Return the vocabulary of faces drawn ``like`` a data set."""
    return LIKENESSES[like].vocabulary


def draw_faces(config: SyntheticConfig) -> Iterator[RawImage]:
    """Yield the configured faces in order, as JPEG; face k depends on the seed and k alone.

    Shapes: each image is (size, size, 3).
    """
    for number in range(config.images):
        yield _draw_face(config, number)


def _draw_face(config: SyntheticConfig, number: int) -> RawImage:
    rng = np.random.default_rng((config.seed, number))
    # All images of a subject show the same face.
    looks = np.random.default_rng((config.seed, number // SUBJECT_IMAGES, 1)) if config.like == "adience" else rng
    person = LIKENESSES[config.like].person(looks)
    traits = _draw_traits(person, looks)
    told = np.random.default_rng((config.seed, number, 2))
    if config.like == "celeba" and told.random() < SMILING_SHARE:
        traits = replace(traits, smile=float(told.uniform(0.5, 1.0)))
    shot = _draw_shot(rng)
    image = draw(traits, shot, config.size, rng)
    encoded, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY)
    )
    assert encoded
    labels = labels_of(config.like, number, person, traits, shot, told)
    return RawImage(path=f"face-{number:06d}.jpg", data=data.tobytes(), **vars(labels))


def _tone(tones: np.ndarray[tuple[int, int], np.dtype[np.float64]], share: float) -> Color:
    """Return the colour at ``place`` (0 to 1) on a scale of colours."""
    at = min(max(share, 0.0), 1.0) * (len(tones) - 1)
    lower = min(int(at), len(tones) - 2)
    color: Color = tones[lower] + (tones[lower + 1] - tones[lower]) * (at - lower)
    return color


def _share(value: float) -> float:
    """Return ``value`` clipped to 0..1, the range of a trait."""
    return min(max(float(value), 0.0), 1.0)


def _draw_traits(person: Person, rng: np.random.Generator) -> Traits:
    race = _LOOKS[person.race]
    looks = max(0.0, person.age * (1 + rng.normal(0, 0.07)) + rng.normal(0, 1.5))  # apparent age, years
    child = _share(1 - looks / 17)
    adult = _share((looks - 10) / 8)
    manly = (1.0 if person.male else -1.0) + rng.normal(0, 0.55)

    def gendered(center: float, reach: float, spread: float) -> float:
        """Return a trait that gender moves by ``reach`` either way, fully in adults and a little in children."""
        return _share(center + reach * manly * (0.35 + 0.65 * adult) + rng.normal(0, spread))

    skin = _tone(_SKIN_TONES, rng.normal(*race.skin)) + rng.normal(0, 5, size=3)
    light_eyes = race.light_eyes > 0 and rng.random() < race.light_eyes
    receding = _share((looks - 24) / 52 * rng.uniform(0.2, 1.7)) if manly > 0 else 0.12 * _share((looks - 55) / 30)
    beard = rng.uniform(0.25, 0.95) if person.male and looks > 19 and rng.random() < 0.42 else 0.0
    return Traits(
        skin=skin,
        hair=_tone(_HAIR_TONES, rng.normal(*race.hair)) + rng.normal(0, 5, size=3),
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
        curly=float(rng.random() < race.curly),
        jaw=gendered(0.42, 0.30, 0.10) * (1 - 0.6 * child),
        brows=gendered(0.45, 0.26, 0.12) * (1 - 0.5 * child),
        lips=_share(race.lips - 0.10 * manly + rng.normal(0, 0.12)),
        lipstick=_share(0.25 - 0.35 * manly + rng.normal(0, 0.2)) * adult,
        beard=beard,
        eye_opening=_share(race.eye_opening + rng.normal(0, 0.12)),
        eye_slant=race.eye_slant + rng.normal(0, 0.15),
        nose_width=_share(race.nose_width + 0.05 * manly + rng.normal(0, 0.13)),
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
