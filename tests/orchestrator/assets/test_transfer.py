"""Packed data sets up and down, with shards that arrive damaged and transfers that break off."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agr_core.data.packed.pack import Packed, verify
from agr_core.data.packed.shards import MANIFEST
from agr_core.errors import DataError, IntegrityError
from orchestrator.assets.transfer import download, manifest_of, part_of, publish
from orchestrator.errors import NotFoundError, StorageError, StorageFullError
from orchestrator.storage import Storage, open_storage

if TYPE_CHECKING:
    from tests.parts.s3_proxy import S3Proxy


def shards(packed: Packed) -> list[str]:
    return [shard["file"] for shard in packed.manifest["shards"]]


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.services)])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "local":
        return open_storage(str(tmp_path / "storage"))
    return open_storage(f"{request.getfixturevalue('s3_uri')}/faces")


def test_what_is_published_comes_down_the_same(target: Storage, packed: Packed, tmp_path: Path) -> None:
    publish(packed.folder, target)
    manifest = manifest_of(target)
    download(target, tmp_path / "copy", manifest)

    verify(tmp_path / "copy")
    assert manifest == packed.manifest
    assert Packed.open(tmp_path / "copy").digest == packed.digest
    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == sorted([MANIFEST, *shards(packed)])
    for shard in shards(packed):
        assert (tmp_path / "copy" / shard).read_bytes() == (packed.folder / shard).read_bytes()


def test_a_disk_that_fills_up_is_reported_and_the_partial_file_is_removed(packed: Packed, small_disk: Any) -> None:
    source, copy = open_storage(str(packed.folder)), small_disk.folder / "copy"
    small_disk.fill()
    with pytest.raises(StorageFullError, match=r"No space left on device.* set AGR_HOME to a larger disk"):
        download(source, copy, packed.manifest)
    assert list(part_of(copy).iterdir()) == []
    small_disk.make_room()
    download(source, copy, packed.manifest)
    verify(copy)


def test_a_shard_larger_than_its_manifest_says_does_not_fill_the_disk(
    packed: Packed, small_disk: Any, tmp_path: Path
) -> None:
    """Whoever writes to the bucket could otherwise have every node that fetches it quarantined for its full disk."""
    source = Path(shutil.copytree(packed.folder, tmp_path / "source"))
    with (source / shards(packed)[0]).open("r+b") as file:
        file.truncate(10**9)  # zeros that take no room

    with pytest.raises(IntegrityError, match="fetched twice, has SHA-256"):
        download(open_storage(str(source)), small_disk.folder / "copy", packed.manifest)


def test_the_manifest_is_published_last(packed: Packed, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(packed.folder, broken)
    (broken / shards(packed)[-1]).unlink()
    target = open_storage(str(tmp_path / "storage"))

    with pytest.raises(NotFoundError, match=shards(packed)[-1]):
        publish(broken, target)
    assert [found.key for found in target.list("")] == shards(packed)[:-1]
    with pytest.raises(NotFoundError, match="is not a packed data set"):
        manifest_of(target)
    publish(packed.folder, target)  # the whole one finishes it
    assert manifest_of(target) == packed.manifest


def test_publishing_again_stores_nothing_and_another_data_set_is_refused(
    packed: Packed, make_packed: Any, tmp_path: Path
) -> None:
    target = open_storage(str(tmp_path / "storage"))
    publish(packed.folder, target)
    before = list(target.list(""))
    publish(packed.folder, target)

    assert list(target.list("")) == before
    with pytest.raises(DataError, match="holds another data set"):
        publish(make_packed(1).folder, target)
    assert list(target.list("")) == before


def test_a_place_without_a_data_set_is_named_with_the_way_out(target: Storage) -> None:
    with pytest.raises(NotFoundError, match="agr data pack SOURCE -o") as failure:
        manifest_of(target)
    assert f"{target.uri} is not a packed data set" in str(failure.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, "has schema_version 99"),
        ({"shards": [{"file": "../../outside", "bytes": 1, "sha256": "0" * 64}]}, "shards.0.file"),
        ({"shards": [{"file": "/etc/outside", "bytes": 1, "sha256": "0" * 64}]}, "shards.0.file"),
        ({"shards": [{"file": "a/b.parquet", "bytes": 1, "sha256": "0" * 64}]}, "shards.0.file"),
        ({"digest": "../../../outside"}, "digest"),
    ],
    ids=["other schema", "parent", "absolute", "folder", "digest as a path"],
)
def test_a_manifest_that_cannot_be_used_is_refused_with_its_address(
    packed: Packed, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    source = open_storage(str(tmp_path / "storage"))
    source.write(MANIFEST, json.dumps(packed.manifest | change).encode())

    with pytest.raises(DataError, match=message) as refusal:
        manifest_of(source)
    assert f"{source.uri}/{MANIFEST}" in str(refusal.value)


def test_a_manifest_that_is_not_json_is_refused_with_its_address(tmp_path: Path) -> None:
    source = open_storage(str(tmp_path / "storage"))
    source.write(MANIFEST, b"<html>")

    with pytest.raises(DataError, match="is not JSON") as refusal:
        manifest_of(source)
    assert f"{source.uri}/{MANIFEST}" in str(refusal.value)


@pytest.mark.services
def test_a_shard_damaged_on_its_way_is_fetched_again(
    s3_proxy: S3Proxy, s3_uri: str, packed: Packed, tmp_path: Path
) -> None:
    source = open_storage(s3_uri)
    publish(packed.folder, source)
    s3_proxy.requests.clear()
    s3_proxy.damage = 1

    download(source, tmp_path / "copy", packed.manifest)

    verify(tmp_path / "copy")
    assert sum(s3_proxy.reads_of(shard) for shard in shards(packed)) == len(shards(packed)) + 1


@pytest.mark.services
def test_a_shard_damaged_in_the_store_is_refused_after_a_second_try_and_the_others_are_kept(
    s3_proxy: S3Proxy, s3_uri: str, packed: Packed, tmp_path: Path
) -> None:
    source = open_storage(s3_uri)
    publish(packed.folder, source)
    bad = shards(packed)[0]
    source.write(bad, b"x" * (packed.folder / bad).stat().st_size)
    s3_proxy.requests.clear()

    with pytest.raises(IntegrityError, match=f"{bad}, fetched twice, has SHA-256") as refusal:
        download(source, tmp_path / "copy", packed.manifest)
    assert packed.manifest["shards"][0]["sha256"] in str(refusal.value)
    assert s3_proxy.reads_of(bad) == 2
    assert not (tmp_path / "copy").exists()

    kept = {path.name for path in part_of(tmp_path / "copy").glob("*.parquet")}
    assert kept
    source.upload(packed.folder / bad, bad)
    s3_proxy.requests.clear()
    download(source, tmp_path / "copy", packed.manifest)

    verify(tmp_path / "copy")
    assert not part_of(tmp_path / "copy").exists()
    for shard in shards(packed):
        assert s3_proxy.reads_of(shard) == (shard not in kept)


def test_what_a_killed_fetch_left_behind_does_not_stay(packed: Packed, tmp_path: Path) -> None:
    source = open_storage(str(packed.folder))
    part = part_of(tmp_path / "copy")
    part.mkdir()
    (part / "shard-00000.parquet.arriving").write_bytes(b"half")
    (part / "shard-00001.parquet.arriving.Ab12Cd34").write_bytes(b"half")

    download(source, tmp_path / "copy", packed.manifest)

    assert sorted(path.name for path in (tmp_path / "copy").iterdir()) == sorted([MANIFEST, *shards(packed)])


@pytest.mark.services
def test_a_store_that_goes_away_is_not_asked_for_every_shard(
    s3_proxy: S3Proxy, s3_uri: str, packed: Packed, tmp_path: Path
) -> None:
    source = open_storage(s3_uri)
    publish(packed.folder, source)
    manifest = packed.manifest | {"shards": packed.manifest["shards"][:1] * 50}
    s3_proxy.requests.clear()
    s3_proxy.down = True

    with pytest.raises(StorageError, match="503"):
        download(source, tmp_path / "copy", manifest)
    assert len(s3_proxy.requests) < 50
