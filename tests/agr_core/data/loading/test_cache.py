from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest

from agr_core.data.loading.cache import DecodedPixels, JpegPixels, decoded_images, open_pixels
from agr_core.data.loading.node_copy import CopyFigures
from agr_core.data.packed.pack import Packed
from agr_core.errors import DiskError, DiskFullError


class Usage(NamedTuple):
    free: int


def set_free_disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    def usage(path: Any) -> Usage:
        return Usage(free)

    monkeypatch.setattr(shutil, "disk_usage", usage)


def test_the_map_holds_every_image_as_opencv_decodes_it(faces: Packed, tmp_path: Path) -> None:
    images = decoded_images(faces, size=32, folder=tmp_path)
    assert images.shape == (203, 32, 32, 3)
    assert images.dtype == np.uint8
    for image, data in zip(images, faces.image_bytes(range(203)), strict=True):
        np.testing.assert_array_equal(image, cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])


def test_the_map_is_read_only(faces: Packed, tmp_path: Path) -> None:
    images = decoded_images(faces, size=16, folder=tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        images[0, 0, 0, 0] = 1


@pytest.mark.parametrize("size", [16, 32, 45])
def test_decoding_at_each_use_gives_the_same_pixels_as_the_map(size: int, faces: Packed, tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, len(faces), 64)
    decoded = open_pixels(faces, size=size, mode="decoded", folder=tmp_path)
    jpeg = open_pixels(faces, size=size, mode="jpeg", folder=tmp_path / "unused")
    np.testing.assert_array_equal(decoded.gather(rows), jpeg.gather(rows))
    assert not (tmp_path / "unused").exists()


def test_what_is_gathered_belongs_to_the_caller(faces: Packed, tmp_path: Path) -> None:
    pixels = open_pixels(faces, size=16, mode="decoded", folder=tmp_path)
    rows = np.arange(4)
    first = pixels.gather(rows)
    first[:] = 0
    assert pixels.gather(rows).any()


def test_a_second_opening_finds_the_map_of_the_first(faces: Packed, tmp_path: Path) -> None:
    decoded_images(faces, size=16, folder=tmp_path)
    (path,) = tmp_path.glob("*.npy")
    before = path.stat()
    decoded_images(faces, size=16, folder=tmp_path)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_the_map_is_named_by_data_size_and_decoder(faces: Packed, tmp_path: Path) -> None:
    for size in (16, 17):
        decoded_images(faces, size=size, folder=tmp_path)
    names = sorted(path.name for path in tmp_path.glob("*.npy"))
    assert names == [f"decoded-{faces.digest[:32]}-{size}-cv2-{cv2.__version__}.npy" for size in (16, 17)]


def test_trials_that_open_at_once_decode_once_and_see_whole_images(
    faces: Packed, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def open_one(_: int) -> tuple[int, int]:
        images = decoded_images(Packed.open(faces.folder), size=24, folder=tmp_path)
        (path,) = tmp_path.glob("*.npy")
        return path.stat().st_ino, int(images.sum(dtype=np.int64))

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(open_one, range(4)))) == 1


def test_what_a_killed_attempt_left_is_overwritten(faces: Packed, tmp_path: Path) -> None:
    expected = decoded_images(faces, size=16, folder=tmp_path / "clean").copy()
    (name,) = [path.name for path in (tmp_path / "clean").glob("*.npy")]
    folder = tmp_path / "dirty"
    folder.mkdir()
    (folder / name).with_suffix(".partial").write_bytes(b"half an image")
    np.testing.assert_array_equal(decoded_images(faces, size=16, folder=folder), expected)
    assert not list(folder.glob("*.partial"))


def test_a_map_that_does_not_fit_the_disk_is_refused_with_the_way_out(
    faces: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_free_disk(monkeypatch, 203 * 64 * 64 * 3 - 1)
    with pytest.raises(DiskFullError, match=r"203 images at 64 px take 0.0 GB decoded.*image.cache: jpeg"):
        open_pixels(faces, size=64, mode="decoded", folder=tmp_path)
    assert not list(tmp_path.glob("*.npy"))


@pytest.mark.parametrize(("more", "kind"), [(1, DecodedPixels), (0, JpegPixels)], ids=["just fits", "just not"])
def test_auto_decodes_if_the_map_is_below_half_of_the_free_disk_and_says_so(
    more: int, kind: type, faces: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    set_free_disk(monkeypatch, 2 * 203 * 16 * 16 * 3 + more)
    with caplog.at_level(logging.INFO):
        pixels = open_pixels(faces, size=16, mode="auto", folder=tmp_path / "not" / "made" / "yet")
    assert isinstance(pixels, kind)
    assert f"image.cache auto chose {'decoded' if kind is DecodedPixels else 'jpeg'}" in caplog.text


def test_auto_uses_a_map_that_is_there_however_full_the_disk_is(
    faces: Packed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded_images(faces, size=16, folder=tmp_path)
    set_free_disk(monkeypatch, 0)
    assert isinstance(open_pixels(faces, size=16, mode="auto", folder=tmp_path), DecodedPixels)


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_map_that_is_not_as_it_was_made_is_made_again(faces: Packed, tmp_path: Path, damage: str) -> None:
    before = decoded_images(faces, size=16, folder=tmp_path).copy()
    (path,) = tmp_path.glob("decoded-*.npy")
    content = path.read_bytes()
    path.write_bytes(content[:-1000] if damage == "cut" else content[:200] + bytes(len(content) - 200))

    np.testing.assert_array_equal(decoded_images(faces, size=16, folder=tmp_path), before)


def test_a_disk_that_fills_up_while_the_map_is_written_is_reported(
    faces: Packed, small_disk: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_disk.fill(leave=2**16)  # for the first and the last page of the map
    set_free_disk(monkeypatch, 10**12)  # as another process has it that takes the room in between
    with pytest.raises(DiskFullError, match=r"No space left on device.*image.cache: jpeg.*free some disk"):
        decoded_images(faces, size=32, folder=small_disk.folder)
    small_disk.make_room()
    assert not list(small_disk.folder.glob("decoded-*.npy"))
    assert not list(small_disk.folder.glob("decoded-*.partial"))


def test_a_folder_that_cannot_be_written_is_not_told_to_free_disk(faces: Packed, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DiskError, match=r"Not a directory\. Check the permissions") as raised:
        decoded_images(faces, size=32, folder=tmp_path / "file" / "cache")
    assert "free" not in str(raised.value)
    assert not isinstance(raised.value, DiskFullError)


def test_a_file_size_limit_below_the_map_size_is_reported_and_the_process_lives(faces: Packed, tmp_path: Path) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
from agr_core.data.loading.cache import decoded_images
from agr_core.data.packed.pack import Packed
from agr_core.errors import DiskError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    decoded_images(Packed.open(Path(sys.argv[1])), size=32, folder=Path(sys.argv[2]))
except DiskError as error:
    print(error)
"""
    command = [sys.executable, "-c", script, str(faces.folder), str(tmp_path)]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60).stdout
    assert "File too large" in said
    assert not list(tmp_path.glob("decoded-*.npy"))
    assert not list(tmp_path.glob("decoded-*.partial"))


def test_the_time_of_decoding_is_returned_to_the_maker_and_the_finder_of_the_map(faces: Packed, tmp_path: Path) -> None:
    first, second = CopyFigures(), CopyFigures()
    for figures in (first, second):
        decoded_images(faces, size=16, folder=tmp_path, figures=figures)
    assert first.spent_s > 0 == first.saved_s
    assert second.saved_s == pytest.approx(first.spent_s, abs=0.2)


class FullCache:
    """A cache that may not hold what is asked for, and makes room all the same."""

    def may_hold(self, data_digest: str, needed: int) -> bool:
        return False

    def make(self, data_digest: str, needed: int) -> None:
        pass


def test_auto_waits_for_a_map_that_another_process_has_begun(faces: Packed, tmp_path: Path) -> None:
    """It has taken its room, so that the others find less than it needs; they must not each decode for themselves."""
    room = FullCache()
    assert isinstance(open_pixels(faces, size=16, mode="auto", folder=tmp_path, room=room), JpegPixels)
    decoded_images(faces, size=16, folder=tmp_path)
    (begun,) = (path.rename(path.with_suffix(".partial")) for path in tmp_path.glob("*.npy"))
    assert isinstance(open_pixels(faces, size=16, mode="auto", folder=tmp_path, room=room), DecodedPixels)
    assert not begun.exists()
