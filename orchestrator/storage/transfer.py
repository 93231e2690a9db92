"""Packed data sets on their way: up into a storage, and down from one, verified."""

from __future__ import annotations

import logging
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from agr_core.data.pack import read_manifest
from agr_core.data.shards import MANIFEST
from agr_core.errors import DataError, IntegrityError
from agr_core.identity import canonical_json, file_digest
from orchestrator.errors import NotFoundError
from orchestrator.storage.base import Storage
from orchestrator.storage.keys import is_key

_LOG = logging.getLogger(__name__)
_SHARDS_AT_ONCE = 4


def manifest_of(source: Storage) -> dict[str, Any]:
    """The manifest of the packed data set at the root of ``source``.

    Raises:
        NotFoundError: If there is no packed data set.
        DataError: If its manifest is not one this version reads.
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
    for shard in manifest["shards"]:
        if "/" in shard["file"] or not is_key(shard["file"]):  # it becomes a path of this machine
            raise DataError(f"{source.uri}/{MANIFEST} names a shard {shard['file']!r}, which is no plain file name.")
    return manifest


def publish(folder: Path, target: Storage) -> None:
    """Store a packed data set at the root of ``target``, the manifest last: half a data set is none.

    A data set that is there already is left alone.

    Raises:
        DataError: If ``folder`` is not a packed data set, or ``target`` holds another one.
    """
    manifest = read_manifest(folder)
    if target.exists(MANIFEST):
        present = manifest_of(target)["digest"]
        if present != manifest["digest"]:
            raise DataError(
                f"{target.uri} holds another data set (digest {present[:12]}, not {manifest['digest'][:12]}); "
                "choose another place or remove it yourself."
            )
        return
    for shard in manifest["shards"]:
        target.upload(folder / shard["file"], shard["file"])
    target.upload(folder / MANIFEST, MANIFEST)


def download(source: Storage, folder: Path, manifest: dict[str, Any]) -> None:
    """Fetch a packed data set into ``folder``, which appears complete and verified or not at all.

    Shards an interrupted fetch left beside it, below a hidden name, are not fetched again.

    Raises:
        IntegrityError: If a shard has the wrong SHA-256 twice.
    """
    part = part_of(folder)
    part.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(_SHARDS_AT_ONCE) as pool:
        fetches = [pool.submit(_fetch_shard, source, shard, part) for shard in manifest["shards"]]
        try:
            for fetch in as_completed(fetches):
                fetch.result()
        finally:
            pool.shutdown(cancel_futures=True)  # what cannot be fetched once is not tried for every shard
    (part / MANIFEST).write_text(canonical_json(manifest), encoding="utf-8")
    expected = {MANIFEST, *(shard["file"] for shard in manifest["shards"])}
    for path in part.iterdir():
        if path.name not in expected:  # what was being written when an earlier fetch was killed
            path.unlink()
    part.rename(folder)


def part_of(folder: Path) -> Path:
    """Where the shards of a data set wait until all are there."""
    return folder.with_name(f".{folder.name}.part")


def _fetch_shard(source: Storage, shard: dict[str, Any], part: Path) -> None:
    """Fetch one shard into ``part`` unless it is there; a damaged one is fetched once more."""
    target = part / shard["file"]
    if target.exists():
        return
    arriving = part / f"{shard['file']}.arriving"
    for last in (False, True):
        source.download(shard["file"], arriving)
        found = file_digest(arriving)
        if found == shard["sha256"]:
            arriving.rename(target)
            return
        if last:
            raise IntegrityError(
                f"{source.uri}/{shard['file']}, fetched twice, has SHA-256 {found}; its manifest says "
                f"{shard['sha256']}. Store the data set again with `agr data push` or `agr data pack`."
            )
        _LOG.warning("%s/%s arrived damaged; fetching it again", source.uri, shard["file"])
