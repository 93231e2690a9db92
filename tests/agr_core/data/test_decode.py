from __future__ import annotations

import ast
import io
import re
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

import agr_core
import orchestrator
from agr_core.data.audit.fingerprint import fingerprint
from agr_core.data.decode import decode, has_image_header, image_problem, openable, square
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


# --------------------------------------------------------------------------------------------------------------------
# Images of strangers


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF"])
def test_the_formats_of_the_list_are_read_by_both_decoders(format_: str) -> None:
    data = encoded(Image.new("RGB", (16, 12), (200, 10, 90)), format_)
    assert has_image_header(data[:64])
    assert image_problem(data) is None
    assert decode(data).shape == (12, 16, 3)


@pytest.mark.parametrize("format_", ["JPEG2000", "PPM", "ICO", "TGA", "PCX", "SGI", "DDS", "PSD"])
def test_other_formats_are_refused_though_the_libraries_know_them(format_: str) -> None:
    data = b"8BPS\0\1" + bytes(60) if format_ == "PSD" else encoded(Image.new("RGB", (16, 16)), format_)
    assert image_problem(data) == "not an image of a known format"
    with pytest.raises(DataError, match="they are not JPEG"):
        decode(data)


def test_postscript_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ghostscript = tmp_path / "gs"
    ghostscript.write_text(f"#!/bin/sh\ntouch {tmp_path / 'started'}\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    data = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n"
    assert image_problem(data) == "not an image of a known format"
    assert not (tmp_path / "started").exists()


def test_a_heic_image_is_called_one() -> None:
    problem = image_problem(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    assert problem is not None
    assert problem.startswith("a HEIC image")


def test_a_strip_is_refused_by_its_header() -> None:
    assert image_problem(encoded(Image.new("L", (1, 50)))) is None
    assert image_problem(encoded(Image.new("L", (1, 51)))) is not None
    problem = image_problem(encoded(Image.new("L", (1, 1_000_000))))
    assert problem == "an image of 1 x 1,000,000 pixels; sides may differ by a factor of 50"


def test_a_strip_takes_no_more_memory_enlarged_than_its_middle() -> None:
    strip = np.zeros((1_000_000, 1, 3), dtype=np.uint8)
    strip[499_900:500_100] = 77
    tracemalloc.start()
    enlarged = square(strip, 64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert enlarged.shape == (64, 64, 3)
    assert (enlarged == 77).all()
    assert peak < 2**20


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    data = encoded(Image.fromarray(noise(64, 64)), "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")
    many = data[:scan] + data[scan:-2] * 100 + data[-2:]
    problem = image_problem(many)
    assert problem is not None
    assert "scans" in problem
    assert image_problem(data) is None


def test_an_image_that_this_machine_has_no_memory_for_is_not_called_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be left out of the data set on this machine alone."""
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, "PNG")

    def load(self: ImageFile.ImageFile) -> None:
        raise MemoryError

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    for read in (image_problem, fingerprint):
        with pytest.raises(MemoryError):
            read(data.getvalue())


def test_nothing_else_opens_images_with_pillow_but_the_audit_which_shows_strips_too() -> None:
    root = Path(agr_core.__file__).parents[1]
    files = [file for package in ("agr_core", "orchestrator") for file in (root / package).rglob("*.py")]
    calls = [file.relative_to(root).as_posix() for file in files if re.search(r"\bImage\.open\(", file.read_text())]
    assert [file for file in calls if not file.startswith("agr_core/data/audit/")] == ["agr_core/data/decode.py"]


def test_pillow_is_given_a_closed_list_of_formats_wherever_it_opens_an_image() -> None:
    """Else it hands EPS files to Ghostscript, whatever their names say."""
    calls = [
        (path.name, call)
        for package in (agr_core, orchestrator)
        for path in Path(str(package.__file__)).parent.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "Image.open"
    ]
    assert {name for name, _ in calls} >= {"decode.py", "fingerprint.py", "page.py"}
    for name, call in calls:
        assert [f"{each.arg}={ast.unparse(each.value)}" for each in call.keywords] == ["formats=openable()"], name
    assert "EPS" not in openable()
