"""The size of a node's cache: what nobody uses makes room, the longest unused first.

An entry is a data set with its decoded images, or a file of initial weights. Beside it lies a mark, ``.<name>.use``,
held, shared, by each process that uses it, until that ends, however it ends; the mark's time is the entry's last use.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agr_core.data.cache import decoded_files
from orchestrator.errors import StorageError, StorageFullError
from orchestrator.storage.transfer import part_of

_LOG = logging.getLogger(__name__)
_GB = 10**9
_DEFAULT_LIMIT_BYTES = 100 * _GB

HOMES = ("datasets", "weights")
"""Folders of the cache that hold entries."""

_in_use: dict[Path, int] = {}
"""Open marks of this process; the system closes them when the process ends."""


@dataclass(frozen=True, order=True)
class _Entry:
    """A data set or a file of weights in the cache, or part of one."""

    last_use: float
    place: Path
    size: int


def mark_in_use(place: Path) -> bool:
    """Hold an entry of the cache for this process; returns whether it was not held before."""
    mark = _mark(place)
    held = _in_use.get(mark)
    if held is not None and not _is_at(held, mark):  # somebody emptied the cache by hand: no process sees that mark
        os.close(_in_use.pop(mark))
        held = None
    if held is None:
        descriptor = os.open(mark, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        _in_use[mark] = descriptor
    os.utime(mark)
    return held is None


@dataclass(frozen=True)
class CacheRoom:
    """Room in a node's cache for decoded images (``agr_core.data.cache.Room``): they count as a part of their data set.

    ``limit_bytes`` is that of ``make_room``.
    """

    cache: Path
    limit_bytes: int | None

    def may_hold(self, data_digest: str, needed: int) -> bool:
        """Whether the limit allows so many more bytes of a data set, all others gone."""
        place = self.cache / "datasets" / data_digest
        held, _ = _held(place)
        others = sum(entry.size for entry in _entries(self.cache) if entry.place != place)
        free = shutil.disk_usage(self.cache).free + held
        return held + needed <= _limit(self.limit_bytes, others, free)

    def make(self, data_digest: str, needed: int) -> None:
        """Make room for so many more bytes of a data set; raises as ``make_room`` does."""
        place = self.cache / "datasets" / data_digest
        held, part = _held(place)
        make_room(place, held + needed, self.limit_bytes, written=held - part, first="Set image.cache: jpeg, or: ")


def make_room(place: Path, needed: int, limit_bytes: int | None, *, written: int = 0, first: str = "") -> None:
    """Remove entries nobody uses, the longest unused first, until ``needed`` more bytes fit.

    Args:
        place: The entry that is to have them, in one of the ``HOMES``.
        needed: Bytes that it will have.
        limit_bytes: Most bytes the cache may hold; default: 100 GB, or half of what is free and held if that is less.
        written: Bytes of it that are on the disk already.
        first: A way out that comes before the general ones.

    Raises:
        StorageError: If they are more than the cache may hold.
        StorageFullError: If they are more than the disk has.
    """
    cache = place.parent.parent
    entries = sorted(entry for entry in _entries(cache) if entry.place != place)
    held = sum(entry.size for entry in entries)
    free = shutil.disk_usage(cache).free + _size(part_of(place)) + written
    limit = _limit(limit_bytes, held, free)
    if needed > limit:
        raise StorageError(
            f"{place.parent.name}/{place.name[:12]} has {needed / _GB:.2f} GB, and the cache {cache} may hold "
            f"{limit / _GB:.2f} GB. {first}Set AGR_CACHE_GB higher, or AGR_HOME to a larger disk."
        )
    for entry in entries:
        if held + needed <= limit and needed <= free:
            return
        if _evict(entry.place):
            held -= entry.size
            free += entry.size
    if needed > free:
        raise StorageFullError(
            f"{place.parent.name}/{place.name[:12]} has {needed / _GB:.2f} GB, and the disk of {cache} has "
            f"{free / _GB:.2f} GB free. {first}Free some, or set AGR_HOME to a larger disk."
        )
    if held + needed > limit:
        _LOG.warning(
            "the cache %s grows to %.2f GB, beyond its limit of %.2f GB (AGR_CACHE_GB): all it holds is in use",
            cache,
            (held + needed) / _GB,
            limit / _GB,
        )


def _limit(limit_bytes: int | None, held: int, free: int) -> int:
    return min(_DEFAULT_LIMIT_BYTES, (held + free) // 2) if limit_bytes is None else limit_bytes


def _held(place: Path) -> tuple[int, int]:
    """Bytes that the cache holds of an entry, and how many of them are of its part that is being fetched."""
    return sum(_size(each) for each in _parts(place)), _size(part_of(place))


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _entries(cache: Path) -> Iterator[_Entry]:
    for home in HOMES:
        for mark in (cache / home).glob(".*.use"):
            place = mark.with_name(mark.name.removeprefix(".").removesuffix(".use"))
            size = sum(_size(part) for part in _parts(place))
            if size:
                yield _Entry(mark.stat().st_mtime, place, size)


def _mark(place: Path) -> Path:
    return place.with_name(f".{place.name}.use")


def _parts(place: Path) -> list[Path]:
    """Everything the cache holds of an entry."""
    return [place, part_of(place), *decoded_files(place.name, place.parent.parent)]


def _size(path: Path) -> int:
    try:
        files = list(path.iterdir()) if path.is_dir() else [path]
        return sum(file.stat().st_size for file in files if file.is_file())
    except FileNotFoundError:  # another process removes it, or finishes it
        return 0


def _evict(place: Path) -> bool:
    """Remove an entry from the cache, unless a process uses it."""
    with _mark(place).open("rb") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if place.is_dir():
            if part_of(place).is_dir():
                shutil.rmtree(part_of(place))
            place.rename(part_of(place))  # at once, so that half a folder is never taken for a whole one
        for part in _parts(place):
            if part.is_dir():
                shutil.rmtree(part)
            else:
                part.unlink(missing_ok=True)
        return True
