"""Transfer packed data sets to and from a storage, verified."""

from __future__ import annotations

import hashlib
import io
import logging
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from agr_core.data.packed.pack import read_manifest
from agr_core.data.packed.shards import MANIFEST
from agr_core.disk import is_full
from agr_core.errors import DataError, IntegrityError
from agr_core.identity import canonical_json
from orchestrator.errors import NotFoundError, StorageError, StorageFullError
from orchestrator.storage.base import Storage

_LOG = logging.getLogger(__name__)
_SHARDS_AT_ONCE = 8
"""Number of concurrent downloads, each over its own connection and hashed as it arrives."""


def manifest_of(source: Storage) -> dict[str, Any]:
    """Return the manifest of the packed data set at the root of ``source``.

    Raises:
        NotFoundError: If there is no packed data set.
        DataError: If this version cannot read its manifest.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            source.download(MANIFEST, Path(folder, MANIFEST))
        except NotFoundError as error:
            raise NotFoundError(
                f"{source.uri} is not a packed data set: it has no {MANIFEST}. Make one with "
                f"`agr data pack SOURCE -o {source.uri}`, or copy one there with `agr data push`."
            ) from error
        try:
            manifest = read_manifest(Path(folder))
        except DataError as error:
            raise DataError(str(error).replace(folder, source.uri)) from error
    return manifest


def publish(folder: Path, target: Storage) -> None:
    """Store a packed data set at the root of ``target``, the manifest last, because it completes the data set.

    An existing copy is left unchanged.

    Raises:
        DataError: If ``folder`` is not a packed data set, or ``target`` holds another one.
    """
    manifest = read_manifest(folder)
    if target.exists(MANIFEST):
        present = manifest_of(target)["digest"]
        if present != manifest["digest"]:
            raise DataError(
                f"{target.uri} holds another data set (digest {present[:12]}, not {manifest['digest'][:12]}); "
                "choose another target, or remove it."
            )
        return
    for shard in manifest["shards"]:
        target.upload(folder / shard["file"], shard["file"])
    target.upload(folder / MANIFEST, MANIFEST)


def download(source: Storage, folder: Path, manifest: dict[str, Any]) -> int:
    """Fetch a packed data set into ``folder``, which appears complete and verified or not at all.

    Shards of an interrupted fetch, in a hidden folder beside it, are reused.

    Returns:
        The bytes of the shards that were fetched.

    Raises:
        IntegrityError: If a shard has the wrong SHA-256 twice.
        StorageError: If the store does not answer, or the disk does not take it.
    """
    part = part_of(folder)
    part.mkdir(parents=True, exist_ok=True)
    fetched = fetch_shards(source, manifest["shards"], part)
    (part / MANIFEST).write_text(canonical_json(manifest), encoding="utf-8")
    expected = {MANIFEST, *(shard["file"] for shard in manifest["shards"])}
    for path in part.iterdir():
        if path.name not in expected:  # incomplete file of an earlier fetch that was killed
            path.unlink()
    part.rename(folder)
    return fetched


def fetch_shards(source: Storage, shards: Sequence[Mapping[str, Any]], part: Path) -> int:
    """Fetch the shards missing in the folder ``part``, each verified; return their bytes. See ``download``."""
    missing = [shard for shard in shards if not (part / shard["file"]).exists()]
    with ThreadPoolExecutor(_SHARDS_AT_ONCE) as pool:
        fetches = [pool.submit(_fetch_shard, source, shard, part) for shard in missing]
        try:
            for fetch in as_completed(fetches):
                fetch.result()
        finally:
            pool.shutdown(cancel_futures=True)  # after a failed fetch the other shards are not tried
    return sum(int(shard["bytes"]) for shard in missing)


def part_of(folder: Path) -> Path:
    """Return the folder of a partial download of a data set."""
    return folder.with_name(f".{folder.name}.part")


def _fetch_shard(source: Storage, shard: Mapping[str, Any], part: Path) -> None:
    """Fetch one shard into ``part``; a damaged one is fetched once more."""
    target = part / shard["file"]
    arriving = part / f"{shard['file']}.arriving"
    for last in (False, True):
        received = receive(source, shard["file"], arriving, at_most=shard["bytes"])
        if received == shard["sha256"]:
            arriving.rename(target)
            return
        arriving.unlink()
        if last:
            raise IntegrityError(
                f"{source.uri}/{shard['file']}, fetched twice, has SHA-256 {received}; its manifest says "
                f"{shard['sha256']}. Store the data set again with `agr data push` or `agr data pack`."
            )
        _LOG.warning("%s/%s arrived damaged; fetching it again", source.uri, shard["file"])


def receive(source: Storage, key: str, file: Path, *, at_most: int | None = None) -> str:
    """Write an object into a file as it arrives; return its SHA-256. A failure leaves no file.

    An object of more than ``at_most`` bytes is not read to its end, because its SHA-256 cannot match.

    Raises:
        NotFoundError: If there is no such object.
        StorageError: If the store does not answer, or the disk does not take it.
    """
    hasher = hashlib.sha256()
    arrived = 0
    try:
        with file.open("wb", buffering=0) as stream:
            for piece in source.stream(key):
                hasher.update(piece)
                _write_all(stream, piece)
                arrived += len(piece)
                if at_most is not None and arrived > at_most:
                    break
    except OSError as error:
        file.unlink(missing_ok=True)
        failed = f"writing {file} failed: {error.strerror or error}."
        if not is_full(error):
            raise StorageError(f"{failed} Check its permissions and file system, or set AGR_HOME elsewhere.") from error
        raise StorageFullError(
            f"{failed} Free some of this disk, lower AGR_CACHE_GB, or set AGR_HOME to a larger disk."
        ) from error
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return hasher.hexdigest()


def _write_all(stream: io.FileIO, piece: bytes) -> None:
    """Write the whole piece: an almost full disk accepts a part and refuses only the rest."""
    left = memoryview(piece)
    while left:
        left = left[stream.write(left) :]
