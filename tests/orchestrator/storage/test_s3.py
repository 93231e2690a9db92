"""What only the S3 storage has: a network, credentials, buckets, and servers that are ill."""

from __future__ import annotations

import pickle
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agr_core.errors import AgrError
from orchestrator.errors import AlreadyExistsError, StorageError
from orchestrator.storage import Storage, open_storage

if TYPE_CHECKING:
    from tests.parts.s3 import S3Server
    from tests.parts.s3_proxy import S3Proxy

pytestmark = pytest.mark.services


def failures(storage: Storage, tmp_path: Path) -> dict[str, str]:
    """What each method says when it raises a StorageError, as every one must."""
    file = tmp_path / "file"
    file.write_bytes(b"x")
    calls = {
        "read": lambda: storage.read("k"),
        "write": lambda: storage.write("k", b"x"),
        "create": lambda: storage.create("k", b"x"),
        "exists": lambda: storage.exists("k"),
        "list": lambda: list(storage.list("k")),
        "folders": lambda: storage.folders("k"),
        "delete": lambda: storage.delete("k"),
        "upload": lambda: storage.upload(file, "k"),
        "stream": lambda: list(storage.stream("k")),
        "download": lambda: storage.download("k", tmp_path / "copy"),
    }
    said = {}
    for name, call in calls.items():
        with pytest.raises(StorageError) as failure:
            call()
        said[name] = str(failure.value)
        assert "'k'" in said[name]
        assert storage.uri in said[name]
        assert "\n" not in said[name]
    assert not (tmp_path / "copy").exists()
    return said


def test_a_bucket_that_is_not_there_is_named_by_every_method(s3_environment: S3Server, tmp_path: Path) -> None:
    for said in failures(open_storage("s3://no-such-bucket/a"), tmp_path).values():
        assert f"there is no bucket 'no-such-bucket' at {s3_environment.endpoint}" in said
        assert "Create it" in said
    assert "no-such-bucket" not in [bucket["Name"] for bucket in s3_environment.client().list_buckets()["Buckets"]]


@pytest.mark.parametrize("wrong", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_refused_without_repeating_them(
    s3_environment: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wrong: str
) -> None:
    monkeypatch.setenv(wrong, "wrong-hunter2")

    for said in failures(open_storage(s3_uri), tmp_path).values():
        assert "refuses the credentials" in said
        assert "Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in said
        for secret in ("hunter2", s3_environment.access_key, s3_environment.secret_key):
            assert secret not in said


@pytest.mark.parametrize("missing", [["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], ["AWS_SECRET_ACCESS_KEY"]])
def test_missing_credentials_are_named(
    s3_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: list[str]
) -> None:
    for name in missing:
        monkeypatch.delenv(name)

    for said in failures(open_storage(s3_uri), tmp_path).values():
        assert "there are no credentials. Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in said


def test_credentials_in_the_endpoint_are_not_repeated(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for endpoint in ("http://user:hunter2@127.0.0.1:9", "user:hunter2@here"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(StorageError, match="AWS_ENDPOINT_URL") as failure:
            open_storage(s3_uri).exists("k")
        assert "hunter2" not in str(failure.value)


def test_an_endpoint_that_does_not_answer_is_named_after_a_few_tries(
    s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    started = time.monotonic()

    with pytest.raises(StorageError, match=r"http://127\.0\.0\.1:9 does not answer .*Check AWS_ENDPOINT_URL"):
        open_storage(s3_uri).write("k", b"x")
    assert time.monotonic() - started < 30


def test_a_server_that_answers_503_is_asked_again_and_then_named(
    s3_proxy: S3Proxy, s3_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_proxy.down = True

    with pytest.raises(StorageError, match=r"answered 503 .*Try again later"):
        open_storage(s3_uri).write("k", b"x")
    assert len(s3_proxy.requests) == 5


def test_create_whose_answer_was_lost_still_succeeds(s3_proxy: S3Proxy, s3_uri: str) -> None:
    s3_proxy.lose = 1
    storage = open_storage(s3_uri)

    storage.create("k", b"mine")

    puts = [method for method, _ in s3_proxy.requests if method == "PUT"]
    assert puts == ["PUT", "PUT"]  # the second found the object of the first
    assert storage.read("k") == b"mine"


def test_create_whose_answer_was_lost_does_not_take_an_equal_object_of_another_for_its_own(
    s3_proxy: S3Proxy, s3_uri: str
) -> None:
    storage = open_storage(s3_uri)
    storage.create("k", b"the same")
    s3_proxy.lose = 1

    with pytest.raises(AlreadyExistsError):
        storage.create("k", b"the same")


def test_a_large_object_comes_in_parallel_ranges_and_survives_a_broken_connection(
    s3_proxy: S3Proxy, s3_uri: str, tmp_path: Path
) -> None:
    data = bytes(range(256)) * (20 << 12)  # 20 MiB
    storage = open_storage(s3_uri)
    (tmp_path / "up").write_bytes(data)
    storage.upload(tmp_path / "up", "large.bin")
    s3_proxy.requests.clear()
    s3_proxy.cut = 1

    storage.download("large.bin", tmp_path / "down")

    assert (tmp_path / "down").read_bytes() == data
    assert s3_proxy.reads_of("large.bin") == 4  # three ranges of 8 MiB, one of them twice


def test_a_failed_download_leaves_no_file_and_no_part_of_one(s3_proxy: S3Proxy, s3_uri: str, tmp_path: Path) -> None:
    storage = open_storage(s3_uri)
    storage.write("k", b"x" * 1000)
    s3_proxy.cut = 1000

    with pytest.raises(StorageError, match="does not answer"):
        storage.download("k", tmp_path / "folder/copy")
    assert list((tmp_path / "folder").iterdir()) == []


def test_no_credential_is_in_the_pickle_or_the_text_of_a_storage(s3_environment: S3Server, s3_uri: str) -> None:
    storage = open_storage(s3_uri)
    storage.write("k", b"x")

    seen = pickle.dumps(storage) + repr(storage).encode() + str(vars(storage)).encode()
    assert s3_environment.secret_key.encode() not in seen
    assert s3_environment.access_key.encode() not in seen


def test_objects_of_others_with_names_that_are_no_keys_are_not_listed(s3_environment: S3Server, s3_uri: str) -> None:
    prefix = s3_uri.removeprefix(f"s3://{s3_environment.bucket}/")
    for name in ("a", ".hidden", "folder/", "b/.c"):
        s3_environment.client().put_object(Bucket=s3_environment.bucket, Key=f"{prefix}/{name}", Body=b"")

    storage = open_storage(s3_uri)
    assert [found.key for found in storage.list("")] == ["a"]
    assert all(not name.startswith(".") for name in storage.folders(""))


def test_the_aws_files_give_credentials_too(
    s3_environment: S3Server, s3_uri: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "credentials").write_text(
        f"[default]\naws_access_key_id = {s3_environment.access_key}\n"
        f"aws_secret_access_key = {s3_environment.secret_key}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)

    storage = open_storage(s3_uri)
    storage.write("k", b"x")
    assert storage.read("k") == b"x"


def test_its_errors_are_of_our_tree(s3_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "no-such-profile")
    with pytest.raises(AgrError, match="no-such-profile"):
        open_storage(s3_uri).read("k")


def test_a_stream_that_breaks_off_is_taken_up_where_it_broke(s3_proxy: S3Proxy, s3_uri: str) -> None:
    storage = open_storage(s3_uri)
    content = random.Random(0).randbytes(1_000_000)
    storage.write("faces", content)
    s3_proxy.requests.clear()
    s3_proxy.cut = 2

    assert b"".join(storage.stream("faces")) == content
    assert s3_proxy.reads_of("faces") == 3


def test_a_stream_does_not_resume_on_a_replaced_object(s3_proxy: S3Proxy, s3_uri: str) -> None:
    storage = open_storage(s3_uri)
    storage.write("faces", b"a" * 1_000_000)
    s3_proxy.cut = 1
    pieces = storage.stream("faces")
    next(pieces)
    storage.write("faces", b"b" * 1_000_000)

    with pytest.raises(StorageError, match="412"):
        list(pieces)
