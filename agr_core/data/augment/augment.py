"""Augmentation of training images by albumentations pipelines on uint8.

D: side of the decoded image; S: side of the model's input; C: 3 channels, or 1 of luminance.
"""

from __future__ import annotations

import os
import random
from hashlib import blake2b
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from agr_core.config import (
    AgecnnAugment,
    AugmentConfig,
    CropFlipAugment,
    FlipContrastAugment,
    ImageConfig,
    LightAugment,
    NoAugment,
    RandAugmentConfig,
    ShearZoomAugment,
)

_REPORT_SIZE = 224
"""Image side for which report S4 states its blur, in pixels."""

_REPORT_BLUR_KERNEL = 7
"""Largest blur kernel in S4: default of the library version used (albumentations 1.x, ``blur_limit=(3, 7)``)."""


class Augment:
    """One augmentation pipeline. Not thread-safe: it holds the random state of the current image."""

    def __init__(self, transforms: list[Any]) -> None:
        self._pipeline = _albumentations().Compose(transforms)

    def __call__(self, image: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        """Return a changed copy (S, S, C) of ``image`` (D, D, C), determined by ``image`` and ``seed``."""
        # Compose.set_random_seed gives every transform the same seed, so that transforms of equal probability would
        # always be applied together. One shared pair of generators draws independently.
        self._pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))  # noqa: S311 - no secret
        changed: NDArray[np.uint8] = self._pipeline(image=image)["image"]
        return changed


def build_augment(config: AugmentConfig, image: ImageConfig) -> Augment | None:
    """Return the configured pipeline; None if it changes nothing.

    If images are decoded larger than the model's input (``image.crop_from``), every pipeline starts with a crop at a
    random position. ``agecnn`` has no crop of its own: S4's crop takes a window of the input size from an image whose
    smaller side has that size; for square images (UTKFace, and everything in the cache), this is the whole image.
    """
    crop = [] if image.crop_from is None else [_albumentations().RandomCrop(image.size, image.size)]
    transforms = crop + _transforms(config, image.size)
    return Augment(transforms) if transforms else None


def _transforms(config: AugmentConfig, size: int) -> list[Any]:
    """Return the configured albumentations transforms, in order."""
    match config:
        case NoAugment():
            return []
        case LightAugment():
            return [_flip(config.flip), _affine(config, config.affine_p), _light(config, config.light_p)]
        case AgecnnAugment():
            return [_affine(config, config.p), _blur(config, size), _light(config, config.p)]
        case CropFlipAugment():
            return [_flip(config.flip)]
        case FlipContrastAugment():
            return [_flip(config.flip), _contrast(config)]
        case ShearZoomAugment():
            return [_shear_and_zoom(config)]
        case RandAugmentConfig():
            from agr_core.data.augment.rand_augment import RandAugment  # imports albumentations

            return [RandAugment(config)]


def centre_crop(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return the centre (B, S, S, C) of images (B, D, D, C), with S = ``size``; if D is S, the images unchanged."""
    if images.shape[1] == size:
        return images
    start = (images.shape[1] - size) // 2
    return np.ascontiguousarray(images[:, start : start + size, start : start + size])


def sample_seed(seed: int, epoch: int, sample: int) -> int:
    """Return the 64-bit seed of the ``sample``-th image of an epoch, determined by these three numbers."""
    text = f"augment/{seed}/{epoch}/{sample}".encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little")


def to_grey(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the luminance (B, S, S, 1) of RGB images (B, S, S, 3), by ITU-R BT.601 as in OpenCV."""
    batch, size = images.shape[:2]
    if not batch:
        return images[..., :1]
    # Stacked into one tall image, so that one call converts the whole batch.
    grey = cv2.cvtColor(images.reshape(batch * size, size, 3), cv2.COLOR_RGB2GRAY)
    return np.asarray(grey, dtype=np.uint8).reshape(batch, size, size, 1)


def _albumentations() -> Any:
    """Import and return albumentations at the first use, because it takes seconds; disable its update check."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    return albumentations


def _flip(p: float) -> Any:
    return _albumentations().HorizontalFlip(p=p)


def _affine(config: LightAugment | AgecnnAugment, p: float) -> Any:
    shift = (-config.shift, config.shift)
    return _albumentations().Affine(
        scale=(1 - config.scale, 1 + config.scale),
        translate_percent={"x": shift, "y": shift},
        rotate=(-config.rotate, config.rotate),
        keep_ratio=True,  # otherwise width and height are scaled independently
        border_mode=cv2.BORDER_REFLECT_101,
        p=p,
    )


def _light(config: LightAugment | AgecnnAugment, p: float) -> Any:
    return _albumentations().RandomBrightnessContrast(
        brightness_limit=config.brightness, contrast_limit=config.contrast, p=p
    )


def _blur(config: AgecnnAugment, size: int) -> Any:
    share = size / _REPORT_SIZE
    kernel = max(3, round(_REPORT_BLUR_KERNEL * share) // 2 * 2 + 1)  # odd
    return _albumentations().GaussianBlur(
        blur_limit=(3, kernel), sigma_limit=(0, config.blur_sigma * share), p=config.p
    )


def _contrast(config: FlipContrastAugment) -> Any:
    # RandomBrightnessContrast scales around black, so more contrast would also mean more brightness.
    factor = (1 - config.contrast, 1 + config.contrast)
    still = (1.0, 1.0)
    return _albumentations().ColorJitter(
        brightness=still, contrast=factor, saturation=still, hue=(0.0, 0.0), p=config.contrast_p
    )


def _shear_and_zoom(config: ShearZoomAugment) -> Any:
    zoom = (1 - config.zoom, 1 + config.zoom)
    return _albumentations().Affine(
        shear={"x": (-config.shear, config.shear), "y": (0.0, 0.0)},
        scale={"x": zoom, "y": zoom},
        border_mode=cv2.BORDER_REFLECT_101,
        p=1.0,
    )
