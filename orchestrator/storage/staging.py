"""One copy of each data set on a node, verified, for all its trials.

The cache of a node, ``D`` being a data digest:

datasets/D/         a complete data set; it appears by a rename once every shard has its SHA-256
datasets/.D.part/   a data set being fetched; a shard in it that has its own name is verified, so the next fetch goes on
datasets/.D.lock    held by the one process that fetches
datasets/.D.use     held, shared, by each process that uses D, until it ends; its time is D's last use
decoded-D-...       its decoded images (``agr_core.data.cache``); they count as a part of D, and go with it
weights/            files of initial weights by SHA-256; they do not count towards the size of the cache
verified/           data sets outside the cache that were verified where they are, with the state of their files
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from agr_core.data.cache import decoded_files
from agr_core.data.pack import read_manifest, verify
from agr_core.errors import IntegrityError
from agr_core.identity import canonical_json, digest, file_digest
from orchestrator.errors import StorageError
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.storage.local import LocalStorage
from orchestrator.storage.transfer import download, manifest_of, part_of

_LOG = logging.getLogger(__name__)
_GB = 10**9
_DEFAULT_LIMIT_BYTES = 100 * _GB

_in_use: dict[Path, int] = {}
"""Open ``.use`` files of this process; the system closes them when the process ends, however it ends."""


def cached(source: Storage, data_digest: str, *, cache: Path, limit_bytes: int | None = None) -> Path:
    """The folder of a data set in this node's cache; the first process of the node fetches it, the others wait.

    This process counts as using it until it ends: the cache keeps it, whatever its size.

    Args:
        source: Storage with the packed data set at its root; not contacted when the node has the data set.
        data_digest: Digest the data set must have.
        cache: The node's cache, ``Settings.cache``.
        limit_bytes: Most bytes the cache may hold; default: 100 GB, or half of the disk that is free if that is less.

    Raises:
        NotFoundError: If ``source`` has no packed data set.
        IntegrityError: If it has another one, or a shard that arrives damaged twice.
        StorageError: If the data set is larger than the cache may be or the disk is.
    """
    folder = cache / "datasets" / data_digest
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{data_digest}.lock")):
        _mark_in_use(folder)  # before looking, so that it cannot be evicted after
        if not folder.is_dir():
            manifest = manifest_of(source)
            if manifest["digest"] != data_digest:
                raise _other_data(source.uri, manifest["digest"], data_digest)
            _make_room(folder, sum(shard["bytes"] for shard in manifest["shards"]), limit_bytes)
            download(source, folder, manifest)
    return folder


def adopt(packed: Path, data_digest: str, *, cache: Path) -> None:
    """Move a data set that was made on this node into its cache, unless it is there already."""
    folder = cache / "datasets" / data_digest
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{data_digest}.lock")):
        _mark_in_use(folder)
        if not folder.is_dir():
            packed.rename(folder)


def verified(folder: Path, data_digest: str, *, cache: Path, limit_bytes: int | None = None) -> Path:
    """A packed data set used where it is: its shards are hashed once, and again only if a file has changed.

    Its decoded images are in the cache, so it counts as used there as by ``cached``.

    Raises:
        DataError: If the folder is no packed data set.
        IntegrityError: If it is another data set, or damaged.
    """
    present = read_manifest(folder)["digest"]
    if present != data_digest:
        raise _other_data(str(folder), present, data_digest)
    name = digest(str(folder.resolve()))
    records = LocalStorage(cache)
    for needed in ("datasets", "verified"):
        (cache / needed).mkdir(parents=True, exist_ok=True)
    with FileLock(cache / "verified" / f".{name}.lock"):
        if _mark_in_use(cache / "datasets" / data_digest):
            _make_room(cache / "datasets" / data_digest, 0, limit_bytes)
        state = canonical_json(sorted(_file_states(folder))).encode("utf-8")
        key = f"verified/{name}.json"
        if not (records.exists(key) and records.read(key) == state):
            verify(folder)
            records.write(key, state)
    return folder


def cached_weights(storage: Storage, sha256: str, *, cache: Path) -> Path:
    """A file of initial weights in this node's cache; the first process of the node fetches it, the others wait.

    Raises:
        NotFoundError: If ``storage`` has no such file.
        IntegrityError: If it holds other bytes than its name says.
    """
    file = cache / layout.weights(sha256)
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{sha256}.lock")):
        if not file.exists():
            arriving = file.with_name(f".{sha256}.part")
            storage.download(layout.weights(sha256), arriving)
            found = file_digest(arriving)
            if found != sha256:
                arriving.unlink()
                place = f"{storage.uri}/{layout.weights(sha256)}"
                raise IntegrityError(f"{place} has SHA-256 {found}; delete it and submit the sweep again.")
            arriving.replace(file)
    return file


def _file_states(folder: Path) -> Iterator[tuple[str, int, int]]:
    for path in folder.iterdir():
        status = path.stat()
        yield path.name, status.st_size, status.st_mtime_ns


def _other_data(place: str, present: str, wanted: str) -> IntegrityError:
    return IntegrityError(
        f"{place} holds a data set of digest {present[:12]}, not {wanted[:12]}: it was replaced since it was chosen. "
        "Put the old one back, or submit the sweep again."
    )


# --------------------------------------------------------------------------------------------------------------------
# The size of the cache


@dataclass(frozen=True, order=True)
class _Entry:
    """A data set in the cache, or part of one."""

    last_use: float
    folder: Path
    size: int


def _mark_in_use(folder: Path) -> bool:
    """Hold a data set for this process; returns whether it was not held before."""
    mark = folder.with_name(f".{folder.name}.use")
    first = mark not in _in_use
    if first:
        descriptor = os.open(mark, os.O_RDWR | os.O_CREAT, 0o666)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        _in_use[mark] = descriptor
    os.utime(mark)
    return first


def _make_room(folder: Path, needed: int, limit_bytes: int | None) -> None:
    """Remove data sets nobody uses, the longest unused first, until ``needed`` more bytes fit."""
    home = folder.parent
    entries = sorted(entry for entry in _entries(home) if entry.folder != folder)
    held = sum(entry.size for entry in entries)
    free = shutil.disk_usage(home).free + _size(part_of(folder))
    limit = min(_DEFAULT_LIMIT_BYTES, (held + free) // 2) if limit_bytes is None else limit_bytes
    if needed > limit:
        raise StorageError(
            f"the data set {folder.name[:12]} has {needed / _GB:.2f} GB, and the cache {home} may hold "
            f"{limit / _GB:.2f} GB. Set AGR_CACHE_GB higher, or AGR_HOME to a larger disk."
        )
    for entry in entries:
        if held + needed <= limit and needed <= free:
            return
        if _evict(entry.folder):
            held -= entry.size
            free += entry.size
    if needed > free:
        raise StorageError(
            f"the data set {folder.name[:12]} has {needed / _GB:.2f} GB, and the disk of {home} has {free / _GB:.2f} "
            "GB free. Free some, or set AGR_HOME to a larger disk."
        )
    if held + needed > limit:
        _LOG.warning(
            "the cache %s grows to %.2f GB, beyond its limit of %.2f GB (AGR_CACHE_GB): all it holds is in use",
            home,
            (held + needed) / _GB,
            limit / _GB,
        )


def _entries(home: Path) -> Iterator[_Entry]:
    for mark in home.glob(".*.use"):
        folder = home / mark.name.removeprefix(".").removesuffix(".use")
        size = sum(_size(part) for part in _parts(folder))
        if size:
            yield _Entry(mark.stat().st_mtime, folder, size)


def _parts(folder: Path) -> list[Path]:
    """Everything the cache holds of a data set."""
    return [folder, part_of(folder), *decoded_files(folder.name, folder.parent.parent)]


def _size(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _evict(folder: Path) -> bool:
    """Remove a data set from the cache, unless a process uses it."""
    with folder.with_name(f".{folder.name}.use").open("rb") as mark:
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if folder.is_dir():
            if part_of(folder).is_dir():
                shutil.rmtree(part_of(folder))
            folder.rename(part_of(folder))  # at once, so that half a folder is never taken for a whole one
        for part in _parts(folder):
            if part.is_dir():
                shutil.rmtree(part)
            else:
                part.unlink(missing_ok=True)
        return True
