"""Fingerprint of an image for the audit: SHA-256, size, and a perceptual hash of its luminance.

The hash is that of Zauner (2010, "Implementation and Benchmarking of Perceptual Image Hash Functions"): signs of
low-frequency coefficients of a discrete cosine transform. The coefficients themselves are kept: their magnitudes show
which signs are uncertain, and mirroring an image negates those of odd horizontal frequency.

S: ``THUMBNAIL_SIDE``; K: ``COEFFICIENTS``.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from agr_core import MAX_PIXELS
from agr_core.data.decode import openable
from agr_core.data.parser_errors import PARSER_ERRORS

THUMBNAIL_SIDE = 64
COEFFICIENTS = 48

MIN_CONTRAST = 4.0
"""Minimum standard deviation of the grey levels; images below it are too flat to compare."""

_GRID = 32
_ORIENTATION = 0x0112  # the EXIF tag

# (vertical, horizontal) frequencies in ascending order of their sum, without the constant (0, 0).
_FREQUENCIES = sorted(((v, h) for v in range(8) for h in range(8) if v + h > 0), key=lambda f: (f[0] + f[1], f))
_VERTICAL, _HORIZONTAL = np.array(_FREQUENCIES[:COEFFICIENTS]).T

MIRROR_SIGNS: NDArray[np.float32] = np.where(_HORIZONTAL % 2 == 1, -1, 1).astype(np.float32)
"""Factors of the coefficients (K,) when an image is mirrored."""


@dataclass(frozen=True)
class Fingerprint:
    """Fingerprint of one image.

    ``width`` and ``height`` are in pixels, after EXIF orientation; ``contrast`` is the standard deviation of the grey
    levels; ``coefficients`` (K,) have unit length; ``problem`` is the reason if the image cannot be decoded, else None.
    """

    sha256: str
    width: int = 0
    height: int = 0
    contrast: float = 0.0
    coefficients: NDArray[np.float32] | None = None
    problem: str | None = None


def fingerprint(data: bytes) -> Fingerprint:
    """Return the fingerprint of an image file; the whole file is decoded, JPEG at reduced size."""
    sha256 = hashlib.sha256(data).hexdigest()
    if not data:
        return Fingerprint(sha256, problem="the file is empty")
    try:
        pixels, (width, height) = _decoded(data)
    except _UndecodableError as error:
        return Fingerprint(sha256, problem=str(error))
    small = cv2.resize(pixels, (_GRID, _GRID), interpolation=cv2.INTER_AREA).astype(np.float32)
    small -= small.mean()
    contrast = float(small.std())
    chosen = cv2.dct(small)[_VERTICAL, _HORIZONTAL]
    length = float(np.linalg.norm(chosen))
    return Fingerprint(
        sha256,
        width,
        height,
        contrast,
        np.asarray(chosen / length if length > 0 else chosen, dtype=np.float32),
    )


def thumbnail(data: bytes) -> NDArray[np.uint8]:
    """Return the grey image (S, S), stretched to a square.

    Raises:
        ValueError: If the bytes cannot be decoded, which ``fingerprint`` reports first.
    """
    try:
        return _decoded(data)[0]
    except _UndecodableError as error:
        raise ValueError(str(error)) from error


class _UndecodableError(Exception):
    """The bytes are not a supported image; the message is the reason."""


def _decoded(data: bytes) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Return the grey image (S, S) and the (width, height) of the stored image."""
    try:
        with Image.open(io.BytesIO(data), formats=openable()) as image:
            size = image.size
            if size[0] * size[1] > MAX_PIXELS:
                raise _UndecodableError(f"an image of more than {MAX_PIXELS:,} pixels")
            orientation = image.getexif().get(_ORIENTATION, 1)
            image.draft("L", (THUMBNAIL_SIDE, THUMBNAIL_SIDE))
            grey: Image.Image = image.convert("L")
            if orientation != 1:
                grey = ImageOps.exif_transpose(image).convert("L")
                size = size[::-1] if orientation >= 5 else size  # 5 to 8 rotate by 90 degrees
            pixels = np.asarray(grey, dtype=np.uint8)
    except _UndecodableError:
        raise
    except Image.DecompressionBombError as error:  # Pillow's own limit, which is higher
        raise _UndecodableError(f"an image of more than {MAX_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        raise _UndecodableError("not an image of a known format") from error
    except PARSER_ERRORS as error:
        raise _UndecodableError(f"damaged image ({' '.join(str(error).split()) or type(error).__name__})") from error
    shrink = min(pixels.shape) >= THUMBNAIL_SIDE
    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    small = cv2.resize(pixels, side, interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
    return np.asarray(small, dtype=np.uint8), size
