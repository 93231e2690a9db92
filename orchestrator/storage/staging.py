"""One copy of each data set on a node, verified, for all its trials.

The cache of a node, ``D`` being a data digest:

datasets/D/         a complete data set; it appears by a rename once every shard has its SHA-256
datasets/.D.part/   a data set being fetched; a shard in it that has its own name is verified, so the next fetch goes on
datasets/.D.lock    held by the one process that fetches
datasets/.D.use     the mark of its users (``cache_size``)
decoded-D-...       its decoded images (``agr_core.data.cache``); they count as a part of D, and go with it
weights/            files of initial weights by SHA-256, with marks of their own
verified/           of each data set, in the cache or used where it is, and of each file of weights: the state its files
                    had when they were verified, and the seconds that took
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from agr_core.data.node_copy import CopyFigures
from agr_core.data.pack import read_manifest, verify
from agr_core.errors import DataError, IntegrityError
from agr_core.identity import canonical_json, digest, file_digest, is_digest
from orchestrator.errors import StorageError
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.storage.cache_size import make_room, mark_in_use
from orchestrator.storage.local import LocalStorage
from orchestrator.storage.transfer import download, fetch_shards, manifest_of, part_of, receive

_LOG = logging.getLogger(__name__)


def cached(
    source: Storage,
    data_digest: str,
    *,
    cache: Path,
    limit_bytes: int | None = None,
    figures: CopyFigures | None = None,
) -> Path:
    """The folder of a data set in this node's cache; the first process of the node fetches it, the others wait.

    This process counts as using it until it ends: the cache keeps it, whatever its size. Files that changed since they
    were verified are verified again, and shards that are damaged or gone are fetched again.

    Args:
        source: Storage with the packed data set at its root; not contacted when the node has the data set.
        data_digest: Digest the data set must have.
        cache: The node's cache, ``Settings.cache``.
        limit_bytes: Most bytes the cache may hold; default: see ``cache_size.make_room``.
        figures: Takes up what was fetched, or was spared.

    Raises:
        NotFoundError: If ``source`` has no packed data set.
        IntegrityError: If it has another one, or a shard that arrives damaged twice, or ``data_digest`` is none.
        StorageError: If the data set is larger than the cache may be or the disk is, or the store does not answer.
    """
    _refuse_unless_digest(data_digest)
    figures = figures or CopyFigures()
    folder = cache / "datasets" / data_digest
    record = f"verified/{data_digest}.json"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f".{data_digest}.lock")) as waited_s:
        mark_in_use(folder)  # before looking, so that it cannot be evicted after
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
        spent_s = time.perf_counter() - begin
        figures.spent_s += waited_s + spent_s
        _note_cost(cache, record, folder, spent_s)
    return folder


def held(cache: Path) -> frozenset[str]:
    """Digests of the data sets, and joins of several, that are in this node's cache."""
    folders = (path.name for path in (cache / "datasets").glob("*") if path.is_dir())
    joins = (path.stem for path in (cache / layout.JOINS).glob("*.json"))
    return frozenset(name for name in (*folders, *joins) if not name.startswith("."))


def adopt(packed: Path, data_digest: str, *, cache: Path) -> None:
    """Move a data set that was made on this node into its cache, unless it is there already."""
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
    """A packed data set used where it is: its shards are hashed once, and again only if a file has changed.

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
    """A file of initial weights in this node's cache; the first process of the node fetches it, the others wait.

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
    """Fetch a file of weights, which appears whole and verified or not at all; gives its bytes."""
    arriving = file.with_name(f".{sha256}.arriving")
    found = receive(storage, layout.weights(sha256), arriving)
    if found != sha256:
        arriving.unlink()
        place = f"{storage.uri}/{layout.weights(sha256)}"
        raise IntegrityError(f"{place} has SHA-256 {found}; delete it and submit the sweep again.")
    size = arriving.stat().st_size
    try:
        make_room(file, size, limit_bytes, written=size)
    except StorageError:
        arriving.unlink()
        raise
    arriving.replace(file)
    return size


def _mend(source: Storage, folder: Path) -> int:
    """Fetch again what is damaged or gone of a data set in the cache; gives the bytes fetched.

    Processes that have the old files open keep them; nobody sees a folder with a file missing that was there.
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
    """Hold a lock; gives the seconds that were waited for it."""
    begin = time.perf_counter()
    with FileLock(lock):
        yield time.perf_counter() - begin


def _known_cost(cache: Path, record: str, place: Path) -> float | None:
    """Seconds it took to have a folder or file here and verified; None if that has changed since."""
    records = LocalStorage(cache)
    if not records.exists(record):
        return None
    known = json.loads(records.read(record))
    if not isinstance(known, dict) or known.get("files") != _file_states(place):
        return None
    return float(known["seconds"])


def _note_cost(cache: Path, record: str, place: Path, seconds: float) -> None:
    content = {"files": _file_states(place), "seconds": round(seconds, 3)}
    LocalStorage(cache).write(record, canonical_json(content).encode("utf-8"))


def _file_states(place: Path) -> list[list[Any]]:
    """Name, size and time of the last change of each file of a folder, or of a single file; nothing of what is gone."""
    paths = place.iterdir() if place.is_dir() else filter(Path.exists, [place])
    states = ((path.name, path.stat()) for path in paths)
    return sorted([name, status.st_size, status.st_mtime_ns] for name, status in states)


def _refuse_unless_digest(name: str) -> None:
    """Joins and stages in the storage name what is to be fetched, and others write there too."""
    if not is_digest(name):
        raise IntegrityError(f"{name!r} is no SHA-256, so nothing is fetched by that name; submit the sweep again.")


def _other_data(place: str, present: str, wanted: str) -> IntegrityError:
    return IntegrityError(
        f"{place} holds a data set of digest {present[:12]}, not {wanted[:12]}: it was replaced since it was chosen. "
        "Put the old one back, or submit the sweep again."
    )
