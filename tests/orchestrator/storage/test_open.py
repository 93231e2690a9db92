"""Which texts are storages, and which."""

from __future__ import annotations

from pathlib import Path

import pytest

from agr_core.errors import InputError
from orchestrator.storage import is_remote, open_storage


@pytest.mark.parametrize(
    ("uri", "opened"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://my.bucket-1/a/b", "s3://my.bucket-1/a/b"),
        ("s3://my_bucket/a", "s3://my_bucket/a"),
        ("s3://MyBucket/a", "s3://MyBucket/a"),
        ("s3://bucket/a/b//", "s3://bucket/a/b"),
        ("s3://bucket/by@somebody:1/a", "s3://bucket/by@somebody:1/a"),
        ("/data/agr", "/data/agr"),
        ("/data/with space/ü", "/data/with space/ü"),
    ],
)
def test_addresses_and_absolute_folders_are_storages(uri: str, opened: str) -> None:
    assert open_storage(uri).uri == opened
    assert is_remote(uri) == opened.startswith("s3://")


def test_a_relative_folder_and_the_home_folder_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    assert open_storage("some/folder").uri == str(tmp_path / "some/folder")
    assert open_storage("~/agr").uri == str(tmp_path / "home/agr")


def test_opening_makes_nothing(tmp_path: Path) -> None:
    open_storage(str(tmp_path / "storage"))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "uri", ["file:///data/agr", "gs://bucket/a", "http://host/bucket", "S3:bucket", "", "   "], ids=repr
)
def test_other_addresses_are_refused_with_the_way_out(uri: str) -> None:
    with pytest.raises(InputError, match=r"give s3://bucket/prefix, or the plain path of a folder"):
        open_storage(uri)


@pytest.mark.parametrize(
    "uri", ["s3://", "s3:///prefix", "s3://buck et", "s3://bücket", "s3://bucket?x=1", f"s3://{256 * 'b'}"], ids=repr
)
def test_an_address_without_a_valid_bucket_is_refused(uri: str) -> None:
    with pytest.raises(InputError, match="no valid bucket name"):
        open_storage(uri)


def test_a_prefix_out_of_the_bucket_is_refused() -> None:
    with pytest.raises(InputError, match="a part starts with a dot"):
        open_storage("s3://bucket/a/../b")


@pytest.mark.parametrize(
    "uri",
    [
        "s3://KEY:hunter2@bucket/a",
        "s3://KEY:hunter2/x@bucket/a",
        "s3://KEY:x/hunter2@bucket/a",
        "s3://KEY:x@hunter2/y@bucket/a",
        "https://KEY:hunter2@host/bucket",
        "https://KEY:x/hunter2@host/bucket",
    ],
)
def test_credentials_in_an_address_are_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(InputError) as refusal:
        open_storage(uri)
    assert "hunter2" not in str(refusal.value)
    assert "KEY:" not in str(refusal.value)
