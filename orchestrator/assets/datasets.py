"""Training data: packed and split once on the driver, staged once on each node.

The driver caches digests of sources and splits below ``prepared/``, keyed by everything that determines them, the
packing code included. So a second sweep neither packs, nor splits, nor fetches to split.
"""

from __future__ import annotations

import logging
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock

import agr_core
from agr_core.code_digest import code_digest
from agr_core.config import DataConfig, SyntheticConfig, drawn_by
from agr_core.data.face_crop import FaceCropper
from agr_core.data.loading.node_copy import CopyFigures
from agr_core.data.packed.joined import Join, Joined, Member, open_data
from agr_core.data.packed.pack import Packed, is_packed, pack, read_manifest, verify
from agr_core.data.packed.shards import MANIFEST
from agr_core.data.readers import Reader
from agr_core.data.readers.tabular import LabelOptions, Plan
from agr_core.data.splits.splits import PUBLISHED, make_split, read_split, write_split
from agr_core.errors import DataError, IntegrityError
from agr_core.identity import canonical_json, digest, is_digest
from agr_core.labels.attributes import RACE_VOCABULARIES
from orchestrator.assets.eviction import CacheRoom
from orchestrator.assets.node_cache import adopt, cached, verified
from orchestrator.assets.transfer import download, manifest_of, publish
from orchestrator.errors import DamagedError, NotFoundError
from orchestrator.journal.events import DataRef
from orchestrator.settings import Settings
from orchestrator.storage import is_remote, layout, open_storage
from orchestrator.storage.base import Storage
from orchestrator.storage.documents import read_object
from orchestrator.storage.local import LocalStorage

MAX_LOST = 0.1
"""Largest share of a raw data set's images and labels that may be lost in packing it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StagedData:
    """A trial's verified data on this node: folder of the packed data set or file of the join, and split file."""

    packed: Path
    split: Path


def prepare_data(data: DataConfig, *, storage: Storage, cache: Path) -> DataRef:
    """Pack and split a trial's data and store it where every node can fetch it; repeated calls reuse the result.

    A packed data set in S3, or in a folder when ``storage`` is a folder too, is used in place. Anything else is copied
    to ``storage`` under its digest.

    Raises:
        DataError: If the source cannot be read, holds no usable image, or cannot be split as asked.
        NotFoundError: If there is nothing at that address.
        StorageError: If a store refuses or does not answer.
    """
    if data.sources:
        data_uri, data_digest = _prepare_join(data, storage, cache)
    else:
        data_uri, data_digest = _prepare_packed(data.source, data.synthetic, storage, cache)
    split_digest = _prepare_split(data, data_uri, data_digest, storage, cache)
    return DataRef(data_uri=data_uri, data_digest=data_digest, split_digest=split_digest)


def stage(ref: DataRef, *, storage: Storage, cache: Path, figures: CopyFigures | None = None) -> StagedData:
    """Fetch a trial's data to this node if missing; of several processes one fetches and the others wait.

    ``figures`` accumulates the bytes and seconds fetched or saved.

    Raises:
        NotFoundError: If the data set or the split is not where ``ref`` says.
        IntegrityError: If either is not what its digest says.
        StorageError: If a store refuses or does not answer, or the data set does not fit the cache.
    """
    packed = _data_here(ref.data_uri, ref.data_digest, storage, cache, figures)
    return StagedData(packed, _split_here(ref.split_digest, storage, cache))


def room_of(cache: Path) -> CacheRoom:
    """Return the room for decoded images in this node's cache."""
    return CacheRoom(cache, Settings.from_environment().cache_bytes)


@contextmanager
def packed_to(
    source: str,
    output: str,
    *,
    synthetic: SyntheticConfig | None = None,
    reader: str | Reader | None = None,
    labels: LabelOptions | None = None,
    keep_copies: bool = False,
    on_plan: Callable[[Plan], None] | None = None,
    cropper: FaceCropper | None = None,
    crop_workers: int = 0,
    require: Sequence[str] = (),
    leave_out: Mapping[str, str] | None = None,
    max_lost: float | None = MAX_LOST,
) -> Iterator[Packed]:
    """Pack a raw data set into a folder or ``s3://bucket/prefix``; the result is readable inside the block.

    Raises:
        DataError: If the source cannot be read or holds no usable image, more than ``max_lost`` of it is lost, or
            ``output`` holds something else.
        StorageError: If the store refuses or does not answer; asked before anything is packed.
    """
    target = open_storage(output)
    remote = is_remote(output)
    if remote:
        target.exists(MANIFEST)
    with tempfile.TemporaryDirectory(prefix="agr-pack-") if remote else nullcontext() as folder:
        packed = Path(target.uri) if folder is None else Path(folder, "packed")
        pack(
            source,
            packed,
            synthetic=synthetic,
            reader=reader,
            labels=labels,
            keep_copies=keep_copies,
            on_plan=on_plan,
            cropper=cropper,
            crop_workers=crop_workers,
            require=require,
            leave_out=leave_out,
            max_lost=max_lost,
        )
        if remote:
            publish(packed, target)
        yield Packed.open(packed)


def push(folder: Path, uri: str) -> dict[str, Any]:
    """Copy a packed data set, verified, to ``uri``; returns its manifest.

    Raises:
        DataError: If ``folder`` is no packed data set, or ``uri`` holds another one.
        IntegrityError: If it is damaged.
        StorageError: If the store refuses or does not answer.
    """
    target = open_storage(uri)
    verify(folder)
    publish(folder, target)
    return read_manifest(folder)


def pull(uri: str, folder: Path) -> dict[str, Any]:
    """Copy the packed data set at ``uri`` into ``folder``, verified; returns its manifest. An interrupted copy goes on.

    Raises:
        NotFoundError: If there is no packed data set at ``uri``.
        DataError: If ``folder`` holds something else.
        IntegrityError: If a shard arrives damaged twice, or the data set is not what its manifest claims.
        StorageError: If the store refuses or does not answer.
    """
    source = open_storage(uri)
    manifest = manifest_of(source)
    if is_packed(folder) and read_manifest(folder)["digest"] == manifest["digest"]:
        verify(folder)
        return manifest
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists with other content than {uri}; choose another folder, or remove it.")
    download(source, folder, manifest)
    verify(folder)  # the shards match the manifest; this checks the manifest's own digest
    return manifest


@contextmanager
def opened(source: str, *, cache: Path) -> Iterator[Packed]:
    """Open any source as a packed data set: packed ones in place or fetched, raw ones packed temporarily.

    Raises:
        DataError: If the source cannot be read or holds no usable image.
        NotFoundError: If there is nothing at that address.
    """
    if is_remote(source):
        data_digest = manifest_of(open_storage(source))["digest"]
        yield Packed.open(_here(source, data_digest, cache))
    elif is_packed(Path(source).expanduser()):
        yield Packed.open(Path(source).expanduser())
    else:
        with tempfile.TemporaryDirectory(prefix="agr-pack-") as folder:
            pack(source, Path(folder, "packed"))
            yield Packed.open(Path(folder, "packed"))


# --------------------------------------------------------------------------------------------------------------------
# On the driver


def _prepare_join(data: DataConfig, storage: Storage, cache: Path) -> tuple[str, str]:
    """Return address and digest of the join of the data sets in use; each is prepared separately."""
    prepared = {name: _prepare_packed(data.sources[name], data.synthetic, storage, cache) for name in data.joined}
    join = Join(
        members=tuple(Member(name, uri, data_digest) for name, (uri, data_digest) in prepared.items()),
        races=None if data.races is None else RACE_VOCABULARIES[data.races],
    )
    key = layout.join(join.digest)
    if not storage.exists(key) or storage.read(key) != join.to_bytes():  # the data may have moved meanwhile
        storage.write(key, join.to_bytes())
    return f"{storage.uri}/{key}", join.digest


def _prepare_packed(source: str, synthetic: SyntheticConfig, storage: Storage, cache: Path) -> tuple[str, str]:
    """Return address and digest of the packed data set of a source."""
    if is_remote(source):
        remote = open_storage(source)
        return remote.uri, str(manifest_of(remote)["digest"])
    drawn = drawn_by(source, synthetic)
    path = Path(source).expanduser().absolute()
    if drawn is None and not path.exists():
        raise NotFoundError(
            f"data.source {str(path)!r} does not exist; give `synthetic`, a folder, an archive, or s3://bucket/prefix "
            "of a packed data set."
        )
    if drawn is None and is_packed(path):
        data_digest = str(read_manifest(path)["digest"])
        if not is_remote(storage.uri):
            return str(path), data_digest
        if not _stores_data(storage, data_digest):
            push(path, _data_uri(storage, data_digest))
        return _data_uri(storage, data_digest), data_digest

    def pack_and_publish() -> str:
        with tempfile.TemporaryDirectory(prefix=".pack-", dir=_made(cache)) as folder:
            packed = Path(folder, "packed")
            data_digest = pack(source, packed, synthetic=synthetic, max_lost=MAX_LOST).digest
            publish(packed, open_storage(_data_uri(storage, data_digest)))
            if is_remote(storage.uri):
                adopt(packed, data_digest, cache=cache)
        return data_digest

    what = {"synthetic": drawn.model_dump()} if drawn is not None else _identity(path)
    data_digest = _remembered(what, pack_and_publish, partial(_stores_data, storage), cache)
    return _data_uri(storage, data_digest), data_digest


def _prepare_split(data: DataConfig, data_uri: str, data_digest: str, storage: Storage, cache: Path) -> str:
    """Return the digest of the split, which is stored."""

    def split_and_store() -> str:
        table = open_data(_data_here(data_uri, data_digest, storage, cache)).table
        split = make_split(table, data.split, ages=data.ages, foreign=data.test)
        with tempfile.TemporaryDirectory(prefix=".split-", dir=_made(cache)) as folder:
            write_split(split, Path(folder, "split.parquet"))
            storage.upload(Path(folder, "split.parquet"), layout.split(split.digest))
        return split.digest

    what = {
        "data_digest": data_digest,
        "ages": data.ages,
        "foreign": data.test,
        "split": data.split.model_dump(mode="json"),
    }
    if data.split.path is not None:
        published = Path(data.split.path).expanduser().absolute()
        if not published.exists():
            raise NotFoundError(f"data.split.path {str(published)!r} does not exist; give CSV or Parquet.")
        what["published"] = _identity(published)
    split_digest = _remembered(
        what, split_and_store, lambda stored_digest: storage.exists(layout.split(stored_digest)), cache
    )
    if data.sources or data.ages is not None or data.split.strategy in PUBLISHED:
        notes = read_split(_split_here(split_digest, storage, cache)).notes
        opened_data = open_data(_data_here(data_uri, data_digest, storage, cache)) if data.sources else None
        for note in (*(opened_data.notes if isinstance(opened_data, Joined) else ()), *notes):
            _log.warning("data %s, split %s: %s", data_digest[:12], split_digest[:12], note)
    return split_digest


def _remembered(what: dict[str, Any], make: Callable[[], str], is_there: Callable[[str], bool], cache: Path) -> str:
    """Return the cached digest of ``make`` for ``what`` if its product still exists; else call ``make``."""
    notes = LocalStorage(cache)
    name = digest(what | {"code": _code_digest(cache)})
    key = f"prepared/{name}.json"
    with FileLock(_made(cache / "prepared") / f".{name}.lock"):
        cached = _noted(notes, key)
        if cached is not None and is_there(cached):
            return cached
        made = make()
        notes.write(key, canonical_json(what | {"digest": made}).encode("utf-8"))
        return made


def _noted(notes: LocalStorage, key: str) -> str | None:
    """Return the digest in a note of this machine's cache; None if the note is missing or invalid."""
    try:
        cached = read_object(notes, key).get("digest")
    except NotFoundError:
        return None
    except DamagedError as error:
        _log.warning("%s Computing it again.", error)
        return None
    return cached if isinstance(cached, str) and is_digest(cached) else None


def _code_digest(cache: Path) -> str:
    """Return the digest of the code that reads, draws, packs and splits: results of other code are not reused."""
    return code_digest(Path(agr_core.__file__).parent, part="data", cache=cache)


def _identity(path: Path) -> dict[str, Any]:
    """Return a fingerprint of the files at a path that changes when they do, without reading them."""
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    states = ((file, file.stat()) for file in files)
    listing = [[str(file), status.st_size, status.st_mtime_ns] for file, status in states]
    return {"path": str(path), "files": len(listing), "listing": digest(listing)}


def _stores_data(storage: Storage, data_digest: str) -> bool:
    return storage.exists(f"{layout.dataset(data_digest)}/{MANIFEST}")


def _data_uri(storage: Storage, data_digest: str) -> str:
    return f"{storage.uri}/{layout.dataset(data_digest)}"


# --------------------------------------------------------------------------------------------------------------------
# On a node


def _here(data_uri: str, data_digest: str, cache: Path, figures: CopyFigures | None = None) -> Path:
    """Return the folder of a packed data set on this machine, verified."""
    limit_bytes = Settings.from_environment().cache_bytes
    if is_remote(data_uri):
        source = open_storage(data_uri)
        return cached(source, data_digest, cache=cache, limit_bytes=limit_bytes, figures=figures)
    if not is_packed(Path(data_uri)):
        raise NotFoundError(
            f"{socket.gethostname()} has no packed data set at {data_uri}. Only one machine can read a folder: with "
            "several nodes, set AGR_STORAGE to s3://bucket/prefix and submit again."
        )
    return verified(Path(data_uri), data_digest, cache=cache, limit_bytes=limit_bytes, figures=figures)


def _data_here(
    data_uri: str, data_digest: str, storage: Storage, cache: Path, figures: CopyFigures | None = None
) -> Path:
    """Return the folder of a packed data set on this machine, or the file of a join of several, all verified."""
    key = layout.join(data_digest)
    if not data_uri.endswith(f"/{key}"):
        return _here(_nearest(data_uri, data_digest, storage), data_digest, cache, figures)
    join = Join.from_bytes(storage.read(key), f"{storage.uri}/{key}")
    if join.digest != data_digest:
        raise IntegrityError(f"{storage.uri}/{key} joins other data sets; delete it and submit the sweep again.")
    members = [
        replace(member, uri=str(_here(_nearest(member.uri, member.digest, storage), member.digest, cache, figures)))
        for member in join.members
    ]
    LocalStorage(cache).write(key, replace(join, members=tuple(members)).to_bytes())
    return cache / key


def _nearest(data_uri: str, data_digest: str, storage: Storage) -> str:
    """Return the storage to fetch a data set from: the sweep's own if it holds the data set.

    The journal of a sweep that was copied from another storage names the original address.
    """
    own = _data_uri(storage, data_digest)
    return own if data_uri != own and _stores_data(storage, data_digest) else data_uri


def _split_here(split_digest: str, storage: Storage, cache: Path) -> Path:
    """Return the verified split file on this machine."""
    split = cache / layout.split(split_digest)
    if not _is_split(split, split_digest):
        with tempfile.TemporaryDirectory(prefix=".split-", dir=_made(cache)) as folder:
            arriving = Path(folder, "split.parquet")
            storage.download(layout.split(split_digest), arriving)
            actual = read_split(arriving).digest
            if actual != split_digest:
                address = f"{storage.uri}/{layout.split(split_digest)}"
                raise IntegrityError(f"{address} holds another split ({actual}); delete it and submit the sweep again.")
            arriving.replace(_made(split.parent) / split.name)
    return split


def _is_split(path: Path, split_digest: str) -> bool:
    """Return whether a cached file exists and is the split with that digest."""
    if not path.exists():
        return False
    try:
        return read_split(path).digest == split_digest
    except (DataError, IntegrityError) as error:
        _log.warning("%s It is fetched again.", error)
        return False


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
