"""Decoded pixels, shared by all trials on a node.

Images are decoded once into a read-only memory map per image size or, if the disk is too small, at each use. Both use
``agr_core.data.decode``, so the pixels are identical.

N: images of the data set; S: side of the decoded images, ``image.crop_from`` if set, else ``image.size``.
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
from agr_core.data.loading.node_copy import CopyFigures
from agr_core.data.packed.joined import Joined
from agr_core.data.packed.pack import Packed
from agr_core.disk import writing
from agr_core.errors import DiskError, DiskFullError
from agr_core.identity import canonical_json

_log = logging.getLogger(__name__)

_DECODE_ROWS = 512
_MAX_DECODE_THREADS = 8
_WHEN_FULL = "set image.cache: jpeg, lower image.size or image.crop_from, or free some disk"

CacheMode = Literal["auto", "decoded", "jpeg"]


class Pixels(Protocol):
    """Interface of pixel sources."""

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images of these rows (B, S, S, 3), RGB, in a new array."""
        ...


class Room(Protocol):
    """Disk space of a node's cache for decoded images."""

    def may_hold(self, data_digest: str, needed: int) -> bool:
        """Return whether the cache may hold ``needed`` more bytes of a data set."""
        ...

    def make(self, data_digest: str, needed: int) -> None:
        """Make room for ``needed`` more bytes of a data set in use by this process, by removing unused entries."""
        ...


class DecodedPixels:
    """Images from the memory map."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._images = images

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return images as ``Pixels.gather``."""
        return np.take(self._images, rows, axis=0)


class JpegPixels:
    """Images decoded at each use."""

    def __init__(self, packed: Packed, size: int) -> None:
        self._packed = packed
        self._size = size

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return images as ``Pixels.gather``."""
        return np.stack([square(decode(data), self._size) for data in self._packed.image_bytes(rows)])


class JoinedPixels:
    """Images of several data sets, each from its own map or file."""

    def __init__(self, joined: Joined, members: Sequence[Pixels]) -> None:
        self._joined = joined
        self._members = members

    def gather(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return images as ``Pixels.gather``."""
        members_of_rows = self._joined.places(rows)
        gathered: list[NDArray[np.uint8]] = []
        order: list[NDArray[np.int64]] = []
        for member in np.unique(members_of_rows):
            positions = np.flatnonzero(members_of_rows == member)
            gathered.append(self._members[member].gather(rows[positions] - self._joined.starts[member]))
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
    """Return the images of a data set at one size.

    ``auto`` uses the map if it takes less than half of the free disk and the cache may hold it; the choice is logged.

    Args:
        packed: The data set.
        size: Side of the images, in pixels.
        mode: ``image.cache`` of the trial.
        folder: The node's cache.
        figures: Record of the decoding time spent or saved.
        room: Disk space of the cache; None: do not free space.

    Raises:
        DiskFullError: If ``mode`` is ``decoded`` and the map does not fit the disk.
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
        begun = path.exists() or _partial(path).exists()  # it already occupies its space
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
    """Return all images as one read-only memory map (N, S, S, 3), RGB.

    The first caller on a node decodes; the others wait. A map is identified by data digest, size and decoder version. A
    map that was changed after its creation is made again.

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
                partial.unlink(missing_ok=True)  # left by a killed attempt, at full size
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
    """Hold the node-wide lock for making this map."""
    lock = FileLock(path.with_suffix(".lock"))
    with writing(path.parent, when_full=_WHEN_FULL):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _known_cost(path: Path) -> float | None:
    """Return the seconds that making a map took; None if it is missing or changed."""
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
    """Return the files made by ``decoded_images`` for a data set, at any size; unused ones may be removed."""
    return sorted(folder.glob(f"{_map_stem(data_digest)}-*"))


def _decode_all(packed: Packed, size: int, path: Path) -> None:
    """Decode all images into the map at ``path``."""
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
            pass  # fetching each result raises its exception here
    images.flush()


def _new_map(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.uint8]]:
    """Return an empty map with all its disk space allocated: a missing page later would kill the process silently."""
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
    """Return the path of an unfinished map; one fixed name, under the lock, so killed attempts do not accumulate."""
    return path.with_suffix(".partial")


def _map_stem(data_digest: str) -> str:
    return f"decoded-{data_digest[:32]}"


def _map_bytes(packed: Packed, size: int) -> int:
    return len(packed) * size * size * 3


def _free_bytes(folder: Path) -> int:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return shutil.disk_usage(existing).free
