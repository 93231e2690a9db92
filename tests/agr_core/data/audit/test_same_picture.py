from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from agr_core.config import SyntheticConfig
from agr_core.data.audit.fingerprint import fingerprint, thumbnail
from agr_core.data.audit.same_picture import compare
from agr_core.data.drawn.synthetic import draw_faces

from .conftest import jpeg, pixels_of

Pixels = NDArray[np.uint8]


def _smaller(pixels: Pixels) -> bytes:
    return jpeg(cv2.resize(pixels, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA), 80)


def _larger(pixels: Pixels) -> bytes:
    return jpeg(cv2.resize(pixels, None, fx=1.5, fy=1.5, interpolation=cv2.INTER_CUBIC), 80)


def _darker(pixels: Pixels) -> bytes:
    return jpeg(np.clip(pixels * 0.75 + 5, 0, 255).astype(np.uint8), 80)


def _png(pixels: Pixels) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1])


@pytest.mark.parametrize("copy", [lambda p: jpeg(p, 30), _smaller, _larger, _darker, _png])
def test_a_copy_is_the_same_picture(drawn: list[bytes], copy: Callable[[Pixels], bytes]) -> None:
    for data in drawn:
        found = compare(thumbnail(data), thumbnail(copy(pixels_of(data))))
        assert found is not None
        assert found.same, found


def test_one_face_with_another_mouth_is_another_picture(drawn: list[bytes]) -> None:
    for data, other in pairwise(drawn):
        pixels = pixels_of(data)
        pixels[80:104, 40:88] = pixels_of(other)[80:104, 40:88]
        if np.abs(pixels.astype(int) - pixels_of(data))[80:104, 40:88].mean() < 20:
            continue  # two mouths that are alike
        found = compare(thumbnail(data), thumbnail(jpeg(pixels)))
        assert found is None or not found.same, found


@pytest.mark.parametrize("size", [32, 64])
def test_no_two_drawn_faces_are_one_picture(size: int) -> None:
    seen = [face.data for face in draw_faces(SyntheticConfig(images=150, size=size, seed=11))]
    small = [thumbnail(data) for data in seen]
    for number, one in enumerate(small):
        for other in small[:number]:
            for version in (other, np.ascontiguousarray(other[:, ::-1])):
                found = compare(one, version)
                assert found is None or not found.same


def test_an_upright_copy_of_a_turned_image_has_its_fingerprint(drawn: list[bytes]) -> None:
    from io import BytesIO

    from PIL import Image

    image = Image.open(BytesIO(drawn[0]))
    turned, exif = image.transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[0x0112] = 6
    out = BytesIO()
    turned.save(out, "JPEG", quality=95, exif=exif)
    one, other = fingerprint(drawn[0]), fingerprint(out.getvalue())
    assert one.coefficients is not None
    assert other.coefficients is not None
    assert float(one.coefficients @ other.coefficients) > 0.99
