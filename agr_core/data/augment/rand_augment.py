"""RandAugment (Cubuk et al. 2020, "Practical automated data augmentation with a reduced search space").

It applies a few of 14 transforms, drawn with equal probability, all at one magnitude. Colour transforms use Pillow, as
in the authors' code; geometric ones use OpenCV, which is faster. The strength of a transform is ``magnitude / 10`` of
its maximum, as in torchvision's ``RandAugment``.

H, W: height and width; C: 3 channels, or 1 of luminance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import albumentations
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from agr_core.config import RandAugmentConfig

_LARGEST_MAGNITUDE = 10.0
_SHEAR = 0.3  # tangent of the angle
_SHIFT = 150 / 331  # share of the side; the paper has 150 pixels of 331
_DEGREES = 30.0
_ENHANCE = 0.9  # largest change of the factor, from 1
_POSTERIZE_BITS = 4  # of 8; kept at the largest magnitude
_FILL = 128  # grey for uncovered areas, as in the authors' code

Change = Callable[[NDArray[np.uint8], float], NDArray[np.uint8]]
"""Function of an image (H, W, C) and a strength: -1..1 for transforms with two directions, else 0..1."""


class RandAugment(albumentations.ImageOnlyTransform):  # type: ignore[misc]
    """Apply ``config.ops`` transforms in sequence, in any order and with repetitions."""

    def __init__(self, config: RandAugmentConfig) -> None:
        super().__init__(p=1.0)
        self._ops = config.ops
        self._strength = config.magnitude / _LARGEST_MAGNITUDE

    def get_params(self) -> dict[str, Any]:
        """Return the transforms and their directions; albumentations calls this once per image."""
        drawn = self.py_random.choices(tuple(CHANGES), k=self._ops)
        signs = self.py_random.choices((-1.0, 1.0), k=self._ops)
        return {"changes": tuple(zip(drawn, signs, strict=True))}

    def apply(self, img: NDArray[np.uint8], changes: tuple[tuple[str, float], ...], **_: Any) -> NDArray[np.uint8]:
        """Return the changed image (H, W, C)."""
        for name, sign in changes:
            img = CHANGES[name](img, sign * self._strength if name in SIGNED else self._strength)
        return img


def _moved(image: NDArray[np.uint8], *affine: float) -> NDArray[np.uint8]:
    """Return the image under an affine map (6 numbers) from coordinates (x, y) of the result to those of ``image``."""
    height, width = image.shape[:2]
    moved = cv2.warpAffine(
        image,
        np.array(affine).reshape(2, 3),
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(_FILL, _FILL, _FILL),
    )
    return np.asarray(moved, dtype=np.uint8).reshape(image.shape)


def _rotated(image: NDArray[np.uint8], strength: float) -> NDArray[np.uint8]:
    """Return the image rotated counter-clockwise about its centre."""
    x, y = (image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2
    cos, sin = math.cos(math.radians(_DEGREES * strength)), math.sin(math.radians(_DEGREES * strength))
    return _moved(image, cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y)


def _by_pillow(change: Callable[[Image.Image, float], Image.Image]) -> Change:
    def apply(image: NDArray[np.uint8], strength: float) -> NDArray[np.uint8]:
        picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
        return np.asarray(change(picture, strength), dtype=np.uint8).reshape(image.shape)

    return apply


def _enhanced(enhancer: Callable[[Image.Image], Any]) -> Change:
    def enhance(image: Image.Image, strength: float) -> Image.Image:
        enhanced: Image.Image = enhancer(image).enhance(1 + _ENHANCE * strength)
        return enhanced

    return _by_pillow(enhance)


CHANGES: dict[str, Change] = {
    "Identity": lambda image, _: image,
    "ShearX": lambda image, strength: _moved(image, 1, _SHEAR * strength, 0, 0, 1, 0),
    "ShearY": lambda image, strength: _moved(image, 1, 0, 0, _SHEAR * strength, 1, 0),
    "TranslateX": lambda image, strength: _moved(image, 1, 0, -_SHIFT * strength * image.shape[1], 0, 1, 0),
    "TranslateY": lambda image, strength: _moved(image, 1, 0, 0, 0, 1, -_SHIFT * strength * image.shape[0]),
    "Rotate": _rotated,
    "Brightness": _enhanced(ImageEnhance.Brightness),
    "Color": _enhanced(ImageEnhance.Color),
    "Contrast": _enhanced(ImageEnhance.Contrast),
    "Sharpness": _enhanced(ImageEnhance.Sharpness),
    "Posterize": _by_pillow(lambda image, strength: ImageOps.posterize(image, 8 - round(_POSTERIZE_BITS * strength))),
    "Solarize": _by_pillow(lambda image, strength: ImageOps.solarize(image, round(255 * (1 - strength)))),
    "AutoContrast": _by_pillow(lambda image, _: ImageOps.autocontrast(image)),
    "Equalize": _by_pillow(lambda image, _: ImageOps.equalize(image)),
}
"""The paper's 14 transforms by the paper's names."""

SIGNED = frozenset(
    ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast", "Sharpness")
)
"""Transforms with two directions."""
