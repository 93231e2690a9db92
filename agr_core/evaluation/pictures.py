"""From pixels to PNG bytes, cut to what is drawn."""

from __future__ import annotations

import io

from PIL import Image, ImageOps

DPI = 120
_PADDING = 12  # pixels of white around what is drawn


def cut_png(picture: Image.Image) -> bytes:
    """A picture on white as PNG bytes, with a narrow white edge around what is drawn."""
    box = ImageOps.invert(picture.convert("L")).getbbox()  # of what is not white
    if box is not None:
        picture = ImageOps.expand(picture.crop(box), border=_PADDING, fill="white")
    buffer = io.BytesIO()
    picture.save(buffer, format="png")
    return buffer.getvalue()
