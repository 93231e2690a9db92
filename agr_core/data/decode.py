"""From image bytes to pixels: one decoder and one geometry, whatever the cache.

H, W: height and width of the stored image; S: side of the square given to the model.
"""

from __future__ import annotations

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from agr_core import MAX_PIXELS
from agr_core.errors import DataError

_TOO_LARGE = f"an image of more than {MAX_PIXELS:,} pixels"

DECODER = f"cv2-{cv2.__version__}"
"""Names the decoder and its version, on which the pixels depend."""


def image_problem(data: bytes) -> str | None:
    """Why these bytes cannot be trained on, or None if they decode completely.

    Two decoders must be content: Pillow, which tells the size before it decodes and says what is wrong, and OpenCV,
    which the training uses.
    """
    if not data:
        return "the file is empty"
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                return _TOO_LARGE
            image.load()
    except Image.DecompressionBombError:  # Pillow's own, higher, limit
        return _TOO_LARGE
    except UnidentifiedImageError:
        return "not an image of a known format"
    except Exception as error:  # noqa: BLE001 - Pillow's decoders raise whatever broken bytes make them trip over
        return f"damaged image ({' '.join(str(error).split()) or type(error).__name__})"
    try:
        decode(data)
    except DataError as error:
        return str(error)
    return None


def decode(data: bytes) -> NDArray[np.uint8]:
    """The image of these bytes, (H, W, 3) RGB, turned upright by its EXIF orientation.

    Raises:
        DataError: If OpenCV cannot decode them.
    """
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
    """The centre square of ``image`` (H, W, 3) after its smaller side was brought to ``size``, (S, S, 3).

    Shrinking averages areas, enlarging interpolates linearly.
    """
    height, width = image.shape[:2]
    short = min(height, width)
    if short != size:
        wide, high = max(size, round(width * size / short)), max(size, round(height * size / short))
        shrink = short > size
        resized = cv2.resize(image, (wide, high), interpolation=cv2.INTER_AREA if shrink else cv2.INTER_LINEAR)
        image, height, width = np.asarray(resized, dtype=np.uint8), high, wide
    top, left = (height - size) // 2, (width - size) // 2
    return image[top : top + size, left : left + size]
