"""Pixels ready for training, shared by every trial on a node.

Decoded once into a read-only memory map per image size, or, where that does not fit the disk, decoded at each use. Both
ways go through ``agr_core.data.decode``, so a trial sees the same pixels either way.

N: images of the data set; S: side of the decoded images, ``image.size`` or, where set, ``image.crop_from``.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from agr_core.data.decode import DECODER, decode, square
from agr_core.data.joined import Joined
from agr_core.data.node_copy import CopyFigures
from agr_core.data.pack import Packed
from agr_core.disk import writing
from agr_core.errors import DiskError, DiskFullError
from agr_core.identity import canonical_json

_log = logging.getLogger(__name__)

_DECODE_ROWS = 512
_MAX_DECODE_THREADS = 8
_WHEN_FULL = "set image.cache: jpeg, lower image.size or image.crop_from, or free some disk"

CacheMode = Literal["auto", "decoded", "jpeg"]


class Pixels(Protocol):
    """Gives the images of any rows."""

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images of these rows (B, S, S, 3), RGB, in an array of the caller's own."""
        ...


class Room(Protocol):
    """The room of a node's cache for decoded images."""

    def may_hold(self, data_digest: str, needed: int) -> bool:
        """Whether the cache may hold so many more bytes of a data set."""
        ...

    def make(self, data_digest: str, needed: int) -> None:
        """Make room for so many more bytes of a data set, which this process uses, by removing what nobody uses."""
        ...


class DecodedPixels:
    """Images from the decoded memory map."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._images = images

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """As ``Pixels.gather``."""
        return np.take(self._images, rows, axis=0)


class JpegPixels:
    """Images decoded at each use."""

    def __init__(self, packed: Packed, size: int) -> None:
        self._packed = packed
        self._size = size

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """As ``Pixels.gather``."""
        return np.stack([square(decode(data), self._size) for data in self._packed.image_bytes(rows)])


class JoinedPixels:
    """Images of several data sets, each from its own map or file."""

    def __init__(self, joined: Joined, members: Sequence[Pixels]) -> None:
        self._joined = joined
        self._members = members

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """As ``Pixels.gather``."""
        places = self._joined.places(rows)
        gathered: list[NDArray[np.uint8]] = []
        order: list[NDArray[np.int64]] = []
        for place in np.unique(places):
            positions = np.flatnonzero(places == place)
            gathered.append(self._members[place].gather(rows[positions] - self._joined.starts[place]))
            order.append(positions)
        images = np.empty((len(rows), *gathered[0].shape[1:]), dtype=np.uint8)
        images[np.concatenate(order)] = np.concatenate(gathered)
        return images


def open_pixels(
    packed: Packed | Joined,
    *,
    size: int,
    mode: CacheMode,
    folder: Path,
    figures: CopyFigures | None = None,
    room: Room | None = None,
) -> Pixels:
    """The images of a data set at one size.

    ``auto`` decodes if the map is below half of the free disk and the cache may hold it, and says what it chose.

    Args:
        packed: The data set.
        size: Side of the images, pixels.
        mode: ``image.cache`` of the trial.
        folder: The node's cache.
        figures: Takes up what was decoded, or was spared.
        room: Makes room for what is decoded; None: there is what there is.

    Raises:
        DiskFullError: If ``decoded`` is asked for and does not fit the disk.
        DiskError: If the folder cannot be written.
    """
    if isinstance(packed, Joined):
        return JoinedPixels(
            packed,
            [
                open_pixels(member, size=size, mode=mode, folder=folder, figures=figures, room=room)
                for member in packed.members
            ],
        )
    if mode == "auto":
        need, free = _map_bytes(packed, size), _free_bytes(folder)
        path = _map_path(packed, size, folder)
        begun = path.exists() or _partial(path).exists()  # which has taken its room, so it is not asked for again
        fits = begun or (need < free / 2 and (room is None or room.may_hold(packed.digest, need)))
        mode = "decoded" if fits else "jpeg"
        _log.info(
            "image.cache auto chose %s: %s images at %s px are %.2f GB decoded, %.1f GB of disk are free in %s.",
            mode,
            f"{len(packed):,}",
            size,
            need / 1e9,
            free / 1e9,
            folder,
        )
    if mode == "jpeg":
        return JpegPixels(packed, size)
    return DecodedPixels(decoded_images(packed, size=size, folder=folder, figures=figures, room=room))


def decoded_images(
    packed: Packed, *, size: int, folder: Path, figures: CopyFigures | None = None, room: Room | None = None
) -> NDArray[np.uint8]:
    """All images as one read-only memory map (N, S, S, 3), RGB.

    The first caller on a node decodes, the others wait for it. The map is found again by the data digest, the size and
    the decoder's version; one that is not as it was when it was made is made again.

    Raises:
        DiskFullError: If the map does not fit the free disk.
        DiskError: If the folder cannot be written.
    """
    figures = figures or CopyFigures()
    path = _map_path(packed, size, folder)
    begin = time.perf_counter()
    cost_s = _known_cost(path)
    if cost_s is None:
        with _locked(path):
            cost_s = _known_cost(path)
            if cost_s is None:
                started = time.perf_counter()
                partial = _partial(path)
                partial.unlink(missing_ok=True)  # a killed attempt's, which had taken all its room already
                if room is not None:
                    room.make(packed.digest, _map_bytes(packed, size))
                _decode_all(packed, size, partial)
                partial.replace(path)
                _note_cost(path, time.perf_counter() - started)
                figures.spent_s += time.perf_counter() - begin
    if cost_s is not None:
        figures.found(cost_s, waited_s=time.perf_counter() - begin)
    images: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return images


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Be the only process of the node that makes this map."""
    lock = FileLock(path.with_suffix(".lock"))
    with writing(path.parent, when_full=_WHEN_FULL):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _known_cost(path: Path) -> float | None:
    """Seconds it took to make a map; None if it is not there, or not as it was made."""
    try:
        note = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if (status.st_size, status.st_mtime_ns) != (note["bytes"], note["changed_ns"]):
        _log.warning("%s has changed since it was made; decoding again", path)
        return None
    return float(note["seconds"])


def _note_cost(path: Path, seconds: float) -> None:
    status = path.stat()
    note = {"bytes": status.st_size, "changed_ns": status.st_mtime_ns, "seconds": round(seconds, 3)}
    arriving = path.with_suffix(".note")
    with writing(arriving, when_full=_WHEN_FULL):
        arriving.write_text(canonical_json(note), encoding="utf-8")
        arriving.replace(path.with_suffix(".json"))


def decoded_files(data_digest: str, folder: Path) -> list[Path]:
    """The files that ``decoded_images`` made of a data set, at any size; without users they may be removed."""
    return sorted(folder.glob(f"{_map_stem(data_digest)}-*"))


def _decode_all(packed: Packed, size: int, path: Path) -> None:
    """Write the map, which is ``path``, from its first image to its last."""
    need, free = _map_bytes(packed, size), _free_bytes(path.parent)
    if need > free:
        raise DiskFullError(
            f"{len(packed):,} images at {size} px take {need / 1e9:.1f} GB decoded, but {path.parent} has "
            f"{free / 1e9:.1f} GB free: {_WHEN_FULL}."
        )
    images = _new_map(path, (len(packed), size, size, 3))

    def decode_chunk(start: int) -> None:
        rows = np.arange(start, min(start + _DECODE_ROWS, len(packed)))
        for row, data in zip(rows, packed.image_bytes(rows), strict=True):
            images[row] = square(decode(data), size)

    threads = min(_MAX_DECODE_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        for _ in pool.map(decode_chunk, range(0, len(packed), _DECODE_ROWS)):
            pass  # each result is fetched so that a failure is raised here
    images.flush()


def _new_map(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.uint8]]:
    """An empty map, all its room on the disk taken: a page that finds none later kills the process without a word."""
    try:
        with writing(path, when_full=_WHEN_FULL):
            images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except DiskError:
        path.unlink(missing_ok=True)
        raise
    return images


def _map_path(packed: Packed, size: int, folder: Path) -> Path:
    return folder / f"{_map_stem(packed.digest)}-{size}-{DECODER}.npy"


def _partial(path: Path) -> Path:
    """A map while it is made; one name, under the lock: a killed attempt is not added to."""
    return path.with_suffix(".partial")


def _map_stem(data_digest: str) -> str:
    return f"decoded-{data_digest[:32]}"


def _map_bytes(packed: Packed, size: int) -> int:
    return len(packed) * size * size * 3


def _free_bytes(folder: Path) -> int:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return shutil.disk_usage(existing).free
