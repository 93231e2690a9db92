"""The cache of a node: one verified copy of each data set for all its trials.

Layout, where ``D`` is a data digest:

datasets/D/         a complete data set; renamed into place once every shard is verified
datasets/.D.part/   a partial download; shards with their final name are verified, so the next fetch resumes
datasets/.D.lock    held by the one process that fetches
datasets/.D.use     locked (shared) by its users (``eviction``)
decoded-D-...       its decoded images (``agr_core.data.loading.cache``); evicted with D
weights/            files of initial weights by SHA-256, with marks of their own
verified/           of each data set, in the cache or used where it is, and of each file of weights: the state its files
                    had when they were verified, and the seconds that took
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from agr_core.data.loading.node_copy import CopyFigures
from agr_core.data.packed.pack import read_manifest, verify
from agr_core.errors import DataError, IntegrityError
from agr_core.identity import canonical_json, digest, file_digest, is_digest
from orchestrator.assets.eviction import make_room, mark_in_use
from orchestrator.assets.transfer import download, fetch_shards, manifest_of, part_of, receive
from orchestrator.errors import DamagedError, NotFoundError, StorageError
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.storage.documents import read_object
from orchestrator.storage.local import LocalStorage

_LOG = logging.getLogger(__name__)


def cached(
    source: Storage,
    data_digest: str,
    *,
    cache: Path,
    limit_bytes: int | None = None,
    figures: CopyFigures | None = None,
) -> Path:
    """Return a data set's folder in this node's cache; the first process of the node fetches it, the others wait.

    The entry is in use until this process ends, so it is not evicted. Files that changed since they were verified are
    verified again, and damaged or missing shards are fetched again.

    Args:
        source: Storage with the packed data set at its root; not contacted when the node has the data set.
        data_digest: Digest the data set must have.
        cache: The node's cache, ``Settings.cache``.
        limit_bytes: Maximum size of the cache in bytes; default: see ``eviction.make_room``.
        figures: Accumulates the bytes and seconds fetched or saved.

    Raises:
        NotFoundError: If ``source`` has no packed data set.
        IntegrityError: If it has another one, or only claims to have this one, or a shard that arrives damaged twice,
            or ``data_digest`` is none.
        StorageError: If the data set is larger than the cache may be or the disk is, or the store does not answer.
    """
    _refuse_unless_digest(data_digest)
    figures = figures or CopyFigures()
    folder = cache / "datasets" / data_digest
    record = f"verified/{data_digest}.json"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f".{data_digest}.lock")) as waited_s:
        mark_in_use(folder)  # marked first, so that it cannot be evicted after the check
        cost_s = _known_cost(cache, record, folder) if folder.is_dir() else None
        if cost_s is not None:
            figures.found(cost_s, waited_s=waited_s)
            return folder
        begin = time.perf_counter()
        if folder.is_dir():
            figures.fetched_bytes += _mend(source, folder)
        else:
            manifest = manifest_of(source)
            if manifest["digest"] != data_digest:
                raise _other_data(source.uri, manifest["digest"], data_digest)
            make_room(folder, sum(shard["bytes"] for shard in manifest["shards"]), limit_bytes)
            figures.fetched_bytes += download(source, folder, manifest)
        _refuse_unless_content(folder, source.uri)
        spent_s = time.perf_counter() - begin
        figures.spent_s += waited_s + spent_s
        _note_cost(cache, record, folder, spent_s)
    return folder


def _refuse_unless_content(folder: Path, source: str) -> None:
    """Recompute the digest of a fetched data set, and remove it if it does not match its manifest.

    A data set that claims the digest of another would otherwise replace it for all later trials of the node.
    """
    try:
        verify(folder)
    except (DataError, IntegrityError) as error:
        shutil.rmtree(folder)
        raise IntegrityError(f"{source} is not the data set that its manifest claims: {error}") from error


def held(cache: Path) -> frozenset[str]:
    """Return the digests of the data sets, and joins of several, in this node's cache."""
    folders = (path.name for path in (cache / "datasets").glob("*") if path.is_dir())
    joins = (path.stem for path in (cache / layout.JOINS).glob("*.json"))
    return frozenset(name for name in (*folders, *joins) if not name.startswith("."))


def adopt(packed: Path, data_digest: str, *, cache: Path) -> None:
    """Move a data set that was packed on this node into its cache, unless it is cached already."""
    folder = cache / "datasets" / data_digest
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{data_digest}.lock")):
        mark_in_use(folder)
        if not folder.is_dir():
            packed.rename(folder)
            _note_cost(cache, f"verified/{data_digest}.json", folder, 0.0)


def verified(
    folder: Path,
    data_digest: str,
    *,
    cache: Path,
    limit_bytes: int | None = None,
    figures: CopyFigures | None = None,
) -> Path:
    """Verify a packed data set in place: its shards are hashed once, and again only if a file has changed.

    Its decoded images are in the cache, so it counts as used there as by ``cached``.

    Raises:
        DataError: If the folder is no packed data set.
        IntegrityError: If it is another data set, or damaged.
    """
    figures = figures or CopyFigures()
    present = read_manifest(folder)["digest"]
    if present != data_digest:
        raise _other_data(str(folder), present, data_digest)
    name = digest(str(folder.resolve()))
    for needed in ("datasets", "verified"):
        (cache / needed).mkdir(parents=True, exist_ok=True)
    with _locked(cache / "verified" / f".{name}.lock") as waited_s:
        if mark_in_use(cache / "datasets" / data_digest):
            make_room(cache / "datasets" / data_digest, 0, limit_bytes)
        record = f"verified/{name}.json"
        cost_s = _known_cost(cache, record, folder)
        if cost_s is not None:
            figures.found(cost_s, waited_s=waited_s)
            return folder
        begin = time.perf_counter()
        verify(folder)
        spent_s = time.perf_counter() - begin
        figures.spent_s += waited_s + spent_s
        _note_cost(cache, record, folder, spent_s)
    return folder


def cached_weights(
    storage: Storage,
    sha256: str,
    *,
    cache: Path,
    limit_bytes: int | None = None,
    figures: CopyFigures | None = None,
) -> Path:
    """Return a file of initial weights in this node's cache; the first process of the node fetches it, the others wait.

    It counts as used by this process until that ends, and is verified again when it has changed, as a data set is.

    Raises:
        NotFoundError: If ``storage`` has no such file.
        IntegrityError: If it holds other bytes than its name says, or ``sha256`` is none.
        StorageError: If the store does not answer, or the disk does not take it.
    """
    _refuse_unless_digest(sha256)
    figures = figures or CopyFigures()
    file = cache / layout.weights(sha256)
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_name(f".{sha256}.lock")):
        mark_in_use(file)
        record = f"verified/{sha256}.json"
        if _known_cost(cache, record, file) is None:
            begin = time.perf_counter()
            with figures.timed():
                if not _is_whole(file, sha256):
                    if file.exists():
                        _LOG.warning("%s was damaged since it was verified; fetching it again", file)
                    figures.fetched_bytes += _fetch_weights(storage, sha256, file, limit_bytes)
            _note_cost(cache, record, file, time.perf_counter() - begin)
    return file


def _fetch_weights(storage: Storage, sha256: str, file: Path, limit_bytes: int | None) -> int:
    """Fetch a file of weights, which appears whole and verified or not at all; return its size in bytes."""
    arriving = file.with_name(f".{sha256}.arriving")
    received = receive(storage, layout.weights(sha256), arriving)
    if received != sha256:
        arriving.unlink()
        address = f"{storage.uri}/{layout.weights(sha256)}"
        raise IntegrityError(f"{address} has SHA-256 {received}; delete it and submit the sweep again.")
    size = arriving.stat().st_size
    try:
        make_room(file, size, limit_bytes, written=size)
    except StorageError:
        arriving.unlink()
        raise
    arriving.replace(file)
    return size


def _mend(source: Storage, folder: Path) -> int:
    """Fetch damaged or missing files of a cached data set again; return the bytes fetched.

    Processes that have the old files open keep them; no process sees an existing file missing.
    """
    try:
        manifest = read_manifest(folder)
    except DataError:
        manifest = manifest_of(source)
    if manifest["digest"] != folder.name:
        raise _other_data(source.uri, manifest["digest"], folder.name)
    bad = [shard for shard in manifest["shards"] if not _is_whole(folder / shard["file"], shard["sha256"])]
    if bad:
        names = ", ".join(shard["file"] for shard in bad)
        _LOG.warning("%s was damaged since it was verified (%s); fetching that again", folder, names)
    part = part_of(folder)
    part.mkdir(exist_ok=True)
    fetched = fetch_shards(source, bad, part)
    (part / "manifest.json").write_text(canonical_json(manifest), encoding="utf-8")
    for path in list(part.iterdir()):
        path.replace(folder / path.name)
    part.rmdir()
    return fetched


def _is_whole(file: Path, sha256: str) -> bool:
    return file.is_file() and file_digest(file) == sha256


@contextmanager
def _locked(lock: Path) -> Iterator[float]:
    """Hold a lock; yield the seconds of waiting for it."""
    begin = time.perf_counter()
    with FileLock(lock):
        yield time.perf_counter() - begin


def _known_cost(cache: Path, record: str, path: Path) -> float | None:
    """Return the seconds of an earlier fetch and verification; None if the folder or file has changed since."""
    try:
        record_content = read_object(LocalStorage(cache), record)
    except NotFoundError:
        return None
    except DamagedError as error:
        _LOG.warning("%s It is verified again.", error)
        return None
    seconds = record_content.get("seconds")
    if record_content.get("files") != _file_states(path) or not isinstance(seconds, int | float):
        return None
    return float(seconds)


def _note_cost(cache: Path, record: str, path: Path, seconds: float) -> None:
    content = {"files": _file_states(path), "seconds": round(seconds, 3)}
    LocalStorage(cache).write(record, canonical_json(content).encode("utf-8"))


def _file_states(path: Path) -> list[list[Any]]:
    """Return name, size and modification time of each file of a folder, or of a single file; skip missing files."""
    paths = path.iterdir() if path.is_dir() else filter(Path.exists, [path])
    states = ((path.name, path.stat()) for path in paths)
    return sorted([name, status.st_size, status.st_mtime_ns] for name, status in states)


def _refuse_unless_digest(name: str) -> None:
    """Refuse a name that is no digest: names come from joins and stages in the storage, which others can write."""
    if not is_digest(name):
        raise IntegrityError(f"{name!r} is not a SHA-256, so it is not fetched; submit the sweep again.")


def _other_data(address: str, present: str, wanted: str) -> IntegrityError:
    return IntegrityError(
        f"{address} holds a data set of digest {present[:12]}, not {wanted[:12]}: it was replaced after the sweep "
        "chose it. Restore the old one, or submit the sweep again."
    )
