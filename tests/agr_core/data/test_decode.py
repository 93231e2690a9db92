from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from agr_core.data.decode import decode, image_problem, square
from agr_core.errors import DataError


def encoded(image: Image.Image, format_: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("format_", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.95])
def test_a_truncated_image_is_not_accepted_however_little_is_missing(format_: str, share: float) -> None:
    data = encoded(Image.fromarray(noise(64, 64)), format_)
    assert image_problem(data) is None
    assert image_problem(data[: int(len(data) * share)]) is not None


def test_decoding_keeps_every_pixel_in_rgb_order() -> None:
    pixels = noise(9, 7)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels))), pixels)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "I;16"])
def test_images_of_every_kind_become_three_channels(mode: str) -> None:
    image = Image.fromarray(noise(8, 8)).convert("L").convert(mode) if mode != "I;16" else Image.new(mode, (8, 8), 999)
    data = encoded(image)
    assert image_problem(data) is None
    assert decode(data).shape == (8, 8, 3)


def test_the_exif_orientation_is_followed_as_pillow_follows_it() -> None:
    image = Image.fromarray(np.kron(noise(3, 2), np.ones((16, 16, 1), dtype=np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    data = encoded(image, "JPEG", exif=exif, quality=100, subsampling=0)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_allclose(decode(data).astype(int), upright, atol=4)


def test_bytes_that_are_no_image_are_refused() -> None:
    with pytest.raises(DataError, match="cannot decode these 8 bytes"):
        decode(b"no image")


def test_an_image_of_the_right_size_passes_untouched() -> None:
    pixels = noise(32, 32)
    np.testing.assert_array_equal(square(pixels, 32), pixels)


def test_shrinking_averages_areas() -> None:
    pixels = noise(24, 24)
    blocks = pixels.reshape(8, 3, 8, 3, 3).astype(np.float64).mean(axis=(1, 3))
    np.testing.assert_allclose(square(pixels, 8), blocks, atol=0.5001)


def test_enlarging_interpolates_between_neighbours() -> None:
    column = np.repeat(np.array([[0], [100]], dtype=np.uint8), 2, axis=1)
    enlarged = square(np.stack([column] * 3, axis=-1), 4)
    np.testing.assert_array_equal(enlarged[:, 0, 0], [0, 25, 75, 100])


@pytest.mark.parametrize(("height", "width"), [(10, 31), (31, 10), (10, 10)], ids=["wide", "high", "square"])
def test_the_middle_of_the_longer_side_is_kept(height: int, width: int) -> None:
    pixels = noise(height, width)
    top, left = (height - 10) // 2, (width - 10) // 2
    np.testing.assert_array_equal(square(pixels, 10), pixels[top : top + 10, left : left + 10])


@pytest.mark.parametrize("size", [16, 33, 100])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 400), (401, 7), (57, 56)])
def test_every_shape_becomes_the_square_asked_for(size: int, height: int, width: int) -> None:
    assert square(noise(height, width), size).shape == (size, size, 3)


def claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims a size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def test_a_small_file_that_claims_to_be_huge_is_refused_by_both_decoders_before_memory_is_taken() -> None:
    bomb = claiming(9_000, 9_000)
    problem = image_problem(bomb)
    assert problem is not None
    assert "more than 80,000,000 pixels" in problem
    with pytest.raises(DataError, match="more than 80,000,000 pixels"):  # what a trial reads was packed by somebody
        decode(bomb)
