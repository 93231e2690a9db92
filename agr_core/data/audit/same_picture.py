"""Comparison of two images after alignment, independent of brightness and contrast: do they show one picture?

Perceptual hashes of aligned faces are similar for different people, so a hash alone is not sufficient. Copies of one
picture differ everywhere by compression noise; two people, or two photographs of one person, differ most around mouth,
eyes or hair. Therefore the criterion is the *largest* difference of any neighbourhood, not the mean.

S: side of a thumbnail, ``fingerprint.THUMBNAIL_SIDE``.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_Pixels = NDArray[np.float32]

# Measured on 13,000 real and 5,000 drawn faces. The sum of difference and lack of detail (1 - detail) is, for different
# pictures, at least 0.38 (drawn at 32 pixels), 0.43 (drawn at 64 pixels) and 0.49 (photographs); for copies at JPEG
# quality 30, mirrored, darker, larger or smaller, at most 0.31.
_MAX_DIFFERENCE = 0.33
_MIN_DETAIL_RELIT = 0.95
_MIN_WORST_DETAIL_RELIT = 0.93

_MIN_CORRELATION = 0.92  # of the unaligned thumbnails; below it, no alignment is tried
_MARGIN = 2  # pixels at the edges, excluded because alignment moves them in and out
_FINE, _COARSE = 0.8, 3.0  # pixels: sigma of the blur against noise, and of the blur subtracted for detail
_NEIGHBOURHOOD, _DETAIL_NEIGHBOURHOOD = (9, 9), (15, 15)
_NOISE = 2.0  # grey levels of detail that count as noise
_ALIGN = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 1e-4)


@dataclass(frozen=True)
class Comparison:
    """Difference of two aligned thumbnails.

    ``difference`` is the root mean square of first minus second in the neighbourhood where it is largest, as a share of
    the image's contrast. ``detail`` is the correlation of detail finer than ``_COARSE``. ``worst_detail`` is the 5th
    percentile of that correlation within neighbourhoods.
    """

    difference: float
    detail: float
    worst_detail: float

    @property
    def same(self) -> bool:
        """Whether both show one picture; true also for a darker print or a watermark if detail agrees everywhere."""
        copied = self.difference + 1 - self.detail < _MAX_DIFFERENCE
        relit = self.detail > _MIN_DETAIL_RELIT and self.worst_detail > _MIN_WORST_DETAIL_RELIT
        return copied or relit


def compare(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Comparison | None:
    """Compare two thumbnails (S, S); None if they are too different to be aligned."""
    first_pixels, second_pixels = first.astype(np.float32), second.astype(np.float32)
    if _correlation(first_pixels, second_pixels) < _MIN_CORRELATION:
        return None
    aligned = _aligned(first_pixels, second_pixels)
    inside = slice(_MARGIN, -_MARGIN)
    a, b = (_blurred(image, _FINE)[inside, inside] for image in (first_pixels, aligned))
    a, b = a - a.mean(), b - b.mean()
    rest = a - b * (float((a * b).sum()) / max(float((b * b).sum()), 1e-6))
    largest = float(np.sqrt(cv2.blur(rest * rest, _NEIGHBOURHOOD).max()))
    fine_a, fine_b = ((image - _blurred(image, _COARSE))[inside, inside] for image in (first_pixels, aligned))
    return Comparison(
        difference=largest / max(float(a.std()), 1e-6),
        detail=_correlation(fine_a, fine_b),
        worst_detail=float(np.percentile(_local_correlation(fine_a, fine_b), 5)),
    )


def _aligned(fixed: _Pixels, moving: _Pixels) -> _Pixels:
    """Return ``other`` aligned to ``one`` by an affine map (Evangelidis and Psarakis 2008); unchanged if none fits."""
    warp = np.eye(2, 3, dtype=np.float32)
    try:
        everywhere = np.ones(fixed.shape, dtype=np.uint8)
        a, b = _blurred(fixed, 1), _blurred(moving, 1)
        _, affine = cv2.findTransformECC(a, b, warp, cv2.MOTION_AFFINE, _ALIGN, everywhere, 1)
    except cv2.error:  # no convergence
        return moving
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(moving, np.asarray(affine), fixed.shape[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, dtype=np.float32)


def _blurred(image: _Pixels, sigma: float) -> _Pixels:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), dtype=np.float32)


def _correlation(a: _Pixels, b: _Pixels) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / np.sqrt(max(float((a * a).sum() * (b * b).sum()), 1e-9)))


def _local_correlation(a: _Pixels, b: _Pixels) -> _Pixels:
    """Return the correlation of detail around each pixel; 1 where neither image has detail."""
    products = (cv2.blur(product, _DETAIL_NEIGHBOURHOOD) for product in (a * b, a * a, b * b))
    both, of_a, of_b = (np.asarray(product, dtype=np.float32) + _NOISE**2 for product in products)
    return np.asarray(both / np.sqrt(of_a * of_b), dtype=np.float32)
