"""Manifests come from buckets that others write to: what one says is checked before anything in it is believed."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from agr_core.config import SyntheticConfig
from agr_core.data.packed.pack import Packed, pack, read_manifest
from agr_core.data.packed.shards import MANIFEST
from agr_core.errors import DataError


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "packed"
    pack("synthetic", folder, synthetic=SyntheticConfig(images=12, size=16))
    return folder


def shard(**changes: Any) -> dict[str, Any]:
    return {"shards": [{"file": "shard-00000.parquet", "rows": 1, "bytes": 1, "sha256": "0" * 64, **changes}]}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"digest": "../../../../root/.ssh"}, "digest"),  # a digest names a folder of the cache
        ({"digest": 7}, "digest"),
        (shard(file="../../../../etc/passwd"), "shards.0.file"),
        (shard(file="/etc/passwd"), "shards.0.file"),
        (shard(file="a/b.parquet"), "shards.0.file"),
        (shard(file=MANIFEST), "shards.0.file"),
        (shard(file="-x\x1b[2J.parquet"), "shards.0.file"),
        (shard(bytes=-1), "shards.0.bytes"),
        (shard(bytes="9"), "shards.0.bytes"),
        (shard(sha256=""), "shards.0.sha256"),
        ({"shards": shard()["shards"] * 2}, "shards"),
        ({"shards": []}, "shards"),
        ({"shards": ["x"]}, "shards.0"),
        ({"shards": None}, "shards"),
        ({"genders": 5}, "genders"),
        ({"skipped": [{"file": 1}]}, "skipped.0.file"),
    ],
    ids=str,
)
def test_a_manifest_that_says_what_ours_never_say_is_refused_with_the_field(
    packed: Path, tmp_path: Path, change: dict[str, Any], field: str
) -> None:
    manifest = copy.deepcopy(read_manifest(packed)) | change
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))

    with pytest.raises(DataError, match=rf"\({field}: "):
        Packed.open(tmp_path)


def test_a_manifest_of_a_later_version_may_say_more(packed: Path, tmp_path: Path) -> None:
    manifest = read_manifest(packed) | {"taken_on": "a Tuesday"}
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))

    assert read_manifest(tmp_path)["taken_on"] == "a Tuesday"
