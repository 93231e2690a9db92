"""Decoding of images: one decoder and one geometry, independent of the cache.

Image bytes are untrusted. Pillow and OpenCV open only formats of a closed list, and excessively expensive images are
refused by their header. Every call of ``Image.open`` is given ``openable()``.

H, W: height and width of the stored image; S: side of the model's square input.
"""

from __future__ import annotations

import io
import warnings
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from agr_core import MAX_PIXELS
from agr_core.data.parser_errors import PARSER_ERRORS
from agr_core.errors import DataError

FORMATS: tuple[str, ...] = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")
"""Supported formats, by Pillow's names; only the first frame of animations; AVIF only if this Pillow supports it."""

MAX_SIDES_RATIO = 50
"""Maximum ratio of an image's longer to its shorter side; narrower strips cannot contain a face."""

MAX_JPEG_SCANS = 64
"""Maximum number of scans in a JPEG. Encoders write about ten; each scan costs a pass over all pixels."""

_TOO_LARGE = f"an image of more than {MAX_PIXELS:,} pixels"
_MAX_SCANNED_PIXELS = 12 * MAX_PIXELS  # summed over all scans of a JPEG
_READ = "JPEG, PNG, WebP, BMP, TIFF, GIF and AVIF"
_JPEG_SCAN = b"\xff\xda"
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"GIF87a", b"GIF89a")
_AVIF_BRANDS = (b"avif", b"avis")
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")

# Images with a larger ratio are cropped before they are enlarged. Others are still enlarged first: cropping first would
# shift their pixels by a fraction of a pixel and change existing results.
_LONG = 4

DECODER = f"cv2-{cv2.__version__}"
"""Decoder and its version, on which the pixels depend."""


@lru_cache(maxsize=1)
def openable() -> tuple[str, ...]:
    """Return the formats of ``FORMATS`` that this Pillow supports; never EPS, for which Pillow runs Ghostscript."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def has_image_header(data: bytes) -> bool:
    """Return whether bytes begin like a file of one of ``FORMATS``; 64 bytes are enough."""
    if data[4:8] == b"ftyp":
        return data[8:12] in _AVIF_BRANDS or (data[8:12] == b"mif1" and b"avif" in data[16:64])
    return data.startswith(_MAGIC) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP")


def open_image(data: bytes) -> Image.Image:
    """Open an image; reads its header but not its pixels.

    Raises:
        DataError: If the format is not in ``FORMATS``, or the image has more than ``MAX_PIXELS`` pixels, a side ratio
            above ``MAX_SIDES_RATIO``, or too many JPEG scans.
    """
    if not data:
        raise DataError("the file is empty")
    if not has_image_header(data):
        if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
            raise DataError("a HEIC image, which OpenCV does not decode; convert it to JPEG or PNG")
        raise DataError("not an image of a known format")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about malformed EXIF data, which is unused
            image = Image.open(io.BytesIO(data), formats=openable())
    except Image.DecompressionBombError as error:  # Pillow's own limit, which is higher
        raise DataError(_TOO_LARGE) from error
    except UnidentifiedImageError as error:
        raise DataError("not an image of a known format") from error
    except PARSER_ERRORS as error:
        raise DataError(_damaged(error)) from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DataError(_TOO_LARGE)
    if min(width, height) < 1 or max(width, height) > MAX_SIDES_RATIO * min(width, height):
        raise DataError(f"an image of {width:,} x {height:,} pixels; sides may differ by a factor of {MAX_SIDES_RATIO}")
    if image.format in ("JPEG", "MPO"):
        scans = data.count(_JPEG_SCAN)
        if scans > MAX_JPEG_SCANS or scans * width * height > _MAX_SCANNED_PIXELS:
            raise DataError(
                f"a JPEG of {width:,} x {height:,} pixels in {scans:,} scans, which takes too long to decode"
            )
    return image


def image_problem(data: bytes) -> str | None:
    """Return why an image cannot be used for training; None if it decodes completely.

    Both decoders must accept it: Pillow, which reports the size before decoding and gives reasons, and OpenCV, which
    training uses.
    """
    try:
        with open_image(data) as image, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image.load()
    except DataError as error:
        return str(error)
    except PARSER_ERRORS as error:
        return _damaged(error)
    try:
        decode(data)
    except DataError as error:
        return str(error)
    return None


def decode(data: bytes) -> NDArray[np.uint8]:
    """Decode an image to (H, W, 3) RGB, rotated upright by its EXIF orientation.

    Raises:
        DataError: If the format is not in ``FORMATS``, or OpenCV cannot decode the image.
    """
    if not has_image_header(data):
        raise DataError(f"OpenCV cannot decode these {len(data):,} bytes: they are not {_READ}; store JPEG or PNG.")
    try:
        image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR_RGB)
    except cv2.error as error:
        if "MAX_IMAGE_PIXELS" in error.err:
            raise DataError(f"{_TOO_LARGE}; store a smaller one.") from error
        raise DataError(f"OpenCV cannot decode these {len(data):,} bytes ({error.err}); store JPEG or PNG.") from error
    if image is None:
        raise DataError(f"OpenCV cannot decode these {len(data):,} bytes as an image; store JPEG or PNG.")
    return np.asarray(image, dtype=np.uint8)


def square(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return the centre square of ``image`` (H, W, 3) after resizing its smaller side to ``size``, (S, S, 3).

    Shrinking averages areas, enlarging interpolates linearly. A narrow strip is cropped before it is enlarged, to limit
    memory.
    """
    height, width = image.shape[:2]
    short = min(height, width)
    if short < size and max(height, width) > _LONG * short:
        top, left = (height - short) // 2, (width - short) // 2
        image, height, width = image[top : top + short, left : left + short], short, short
    if short != size:
        wide, high = max(size, round(width * size / short)), max(size, round(height * size / short))
        shrink = short > size
        resized = cv2.resize(image, (wide, high), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
        image, height, width = np.asarray(resized, dtype=np.uint8), high, wide
    top, left = (height - size) // 2, (width - size) // 2
    return image[top : top + size, left : left + size]


def _damaged(error: Exception) -> str:
    return f"damaged image ({' '.join(str(error).split()) or type(error).__name__})"
