"""Size limit of a node's cache: unused entries are evicted, least recently used first.

An entry is a data set with its decoded images, or a file of initial weights. Beside it lies a mark, ``.<name>.use``,
locked (shared) by each process that uses the entry until the process ends, however it ends; the mark's time is the
entry's last use.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agr_core.data.loading.cache import decoded_files
from orchestrator.assets.transfer import part_of
from orchestrator.errors import StorageError, StorageFullError

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
    path: Path
    size: int


def mark_in_use(entry_path: Path) -> bool:
    """Mark an entry of the cache as used by this process; return whether it was not marked before."""
    mark = _mark(entry_path)
    held = _in_use.get(mark)
    if held is not None and not _is_at(held, mark):  # the cache was emptied by hand: no process sees that mark
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
    """Room in a node's cache for decoded images, which belong to the entry of their data set.

    Implements ``agr_core.data.loading.cache.Room``.

    ``limit_bytes`` is that of ``make_room``.
    """

    cache: Path
    limit_bytes: int | None

    def may_hold(self, data_digest: str, needed: int) -> bool:
        """Return whether the limit allows ``needed`` more bytes of a data set if everything else is evicted."""
        entry_path = self.cache / "datasets" / data_digest
        held, _ = _held(entry_path)
        others = sum(entry.size for entry in _entries(self.cache) if entry.path != entry_path)
        free = shutil.disk_usage(self.cache).free + held
        return held + needed <= _limit(self.limit_bytes, others, free)

    def make(self, data_digest: str, needed: int) -> None:
        """Make room for ``needed`` more bytes of a data set; raises like ``make_room``."""
        entry_path = self.cache / "datasets" / data_digest
        held, part = _held(entry_path)
        make_room(entry_path, held + needed, self.limit_bytes, written=held - part, first="Set image.cache: jpeg, or: ")


def make_room(entry_path: Path, needed: int, limit_bytes: int | None, *, written: int = 0, first: str = "") -> None:
    """Evict unused entries, least recently used first, until ``needed`` more bytes fit.

    Args:
        entry_path: The entry that needs the room, in one of the ``HOMES``.
        needed: Total bytes that it needs.
        limit_bytes: Maximum size of the cache in bytes; default: 100 GB, or half of the free and cached bytes if less.
        written: Bytes of it that are on the disk already.
        first: A way out, named before the general ones in an error.

    Raises:
        StorageError: If it needs more than the cache may hold.
        StorageFullError: If it needs more than the disk has.
    """
    cache = entry_path.parent.parent
    entries = sorted(entry for entry in _entries(cache) if entry.path != entry_path)
    held = sum(entry.size for entry in entries)
    free = shutil.disk_usage(cache).free + _size(part_of(entry_path)) + written
    limit = _limit(limit_bytes, held, free)
    if needed > limit:
        raise StorageError(
            f"{entry_path.parent.name}/{entry_path.name[:12]} has {needed / _GB:.2f} GB, and the cache {cache} may "
            f"hold {limit / _GB:.2f} GB. {first}Set AGR_CACHE_GB higher, or AGR_HOME to a larger disk."
        )
    for entry in entries:
        if held + needed <= limit and needed <= free:
            return
        if _evict(entry.path):
            held -= entry.size
            free += entry.size
    if needed > free:
        raise StorageFullError(
            f"{entry_path.parent.name}/{entry_path.name[:12]} has {needed / _GB:.2f} GB, and the disk of {cache} has "
            f"{free / _GB:.2f} GB free. {first}Free some, or set AGR_HOME to a larger disk."
        )
    if held + needed > limit:
        _LOG.warning(
            "the cache %s grows to %.2f GB, beyond its limit of %.2f GB (AGR_CACHE_GB): everything in it is in use",
            cache,
            (held + needed) / _GB,
            limit / _GB,
        )


def _limit(limit_bytes: int | None, held: int, free: int) -> int:
    return min(_DEFAULT_LIMIT_BYTES, (held + free) // 2) if limit_bytes is None else limit_bytes


def _held(entry_path: Path) -> tuple[int, int]:
    """Return the cached bytes of an entry, and the bytes of its partial download among them."""
    return sum(_size(part) for part in _parts(entry_path)), _size(part_of(entry_path))


def _is_at(descriptor: int, path: Path) -> bool:
    """Return whether an open file is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _entries(cache: Path) -> Iterator[_Entry]:
    for home in HOMES:
        for mark in (cache / home).glob(".*.use"):
            entry_path = mark.with_name(mark.name.removeprefix(".").removesuffix(".use"))
            size = sum(_size(part) for part in _parts(entry_path))
            if size:
                yield _Entry(mark.stat().st_mtime, entry_path, size)


def _mark(entry_path: Path) -> Path:
    return entry_path.with_name(f".{entry_path.name}.use")


def _parts(entry_path: Path) -> list[Path]:
    """Return all paths of an entry in the cache."""
    return [entry_path, part_of(entry_path), *decoded_files(entry_path.name, entry_path.parent.parent)]


def _size(path: Path) -> int:
    try:
        files = list(path.iterdir()) if path.is_dir() else [path]
        return sum(file.stat().st_size for file in files if file.is_file())
    except FileNotFoundError:  # another process has removed or completed it
        return 0


def _evict(entry_path: Path) -> bool:
    """Remove an entry from the cache unless a process uses it."""
    with _mark(entry_path).open("rb") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if entry_path.is_dir():
            if part_of(entry_path).is_dir():
                shutil.rmtree(part_of(entry_path))
            entry_path.rename(part_of(entry_path))  # renamed first, so that a partly removed folder is never used
        for part in _parts(entry_path):
            if part.is_dir():
                shutil.rmtree(part)
            else:
                part.unlink(missing_ok=True)
        return True
