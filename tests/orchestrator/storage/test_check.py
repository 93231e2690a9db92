"""Which stores can hold sweeps: what each kind lacks is found, and named before data goes up."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from orchestrator.errors import StorageError, StorageFullError, StorageUnavailableError
from orchestrator.storage import open_storage
from orchestrator.storage.check import check_storage, prove_storage
from tests.parts.odd_s3 import REFUSALS, Refusal

if TYPE_CHECKING:
    from tests.parts.odd_s3 import OddS3

Start = Callable[[str], "OddS3"]

NEEDS = ["put", "get", "list", "clock", "conditional create", "multipart", "range", "latency", "delete"]


def test_a_folder_meets_every_need_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "storage"))

    findings = check_storage(storage)
    prove_storage(storage)

    assert [finding.need for finding in findings] == NEEDS
    assert all(finding.ok for finding in findings)
    assert list(storage.list("")) == []


def test_a_store_that_speaks_s3_meets_every_need_and_nothing_is_left_in_it(odd_s3: Start) -> None:
    store = odd_s3("")
    storage = open_storage("s3://my_bucket/a")

    findings = check_storage(storage)
    prove_storage(storage)

    assert all(finding.ok for finding in findings)
    assert store.objects == {}
    assert [finding.ms > 0 for finding in findings if finding.need == "multipart"] == [True]
    assert any("uploads" in query for _, _, query in store.requests), "12 MiB go up in parts"


@pytest.mark.parametrize(
    ("manner", "lacking", "observed"),
    [
        ("conditional-501", ["conditional create"], "has no exclusive create"),
        ("conditional-400", ["conditional create"], "has no exclusive create"),
        ("conditional-ignored", ["conditional create"], "ignores `If-None-Match: *`"),
        ("eventual", ["list"], "not listed right after"),
        ("html", ["put"], "is not S3"),
        ("no-list", ["list"], "AccessDenied"),
        ("denied", ["put"], "AccessDenied"),
    ],
)
def test_what_a_store_lacks_is_found_and_refused_by_name(
    odd_s3: Start, manner: str, lacking: list[str], observed: str
) -> None:
    odd_s3(manner)
    storage = open_storage("s3://bucket/a")

    findings = check_storage(storage)

    assert [finding.need for finding in findings if finding.tried and not finding.ok] == lacking
    assert observed in next(finding.observed for finding in findings if not finding.ok)
    with pytest.raises(StorageError) as refused:
        prove_storage(storage)
    assert observed in str(refused.value)
    assert "s3://bucket/a" in str(refused.value)


def test_what_builds_on_a_need_that_is_not_met_is_not_tried(odd_s3: Start) -> None:
    odd_s3("denied")

    findings = check_storage(open_storage("s3://bucket/a"))

    assert [finding.tried for finding in findings] == [True] + 8 * [False]
    assert not any(finding.ok for finding in findings)


def test_a_clock_that_is_far_from_the_stores_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    monkeypatch.setattr("orchestrator.storage.check.time.time", lambda: now + 3600)

    clock = next(finding for finding in check_storage(open_storage(str(tmp_path))) if finding.need == "clock")

    assert not clock.ok
    assert "3600 s behind" in clock.observed


@pytest.mark.parametrize(
    ("manner", "reason", "way_out"),
    [
        ("expired", "the credentials have expired (ExpiredToken)", "AWS_SESSION_TOKEN"),
        ("redirect", "in region 'eu-west-1'", "AWS_DEFAULT_REGION=eu-west-1"),
        ("region", "in region 'auto'", "AWS_DEFAULT_REGION=auto"),
        ("skew", "s ahead of the store's", "NTP"),
        ("virtual-host", "bucket.host", "addressing_style = virtual"),
        ("full", "full (XMinioStorageFull)", "Free some"),
    ],
)
def test_a_refused_head_request_says_why_all_the_same(odd_s3: Start, manner: str, reason: str, way_out: str) -> None:
    odd_s3(manner)
    storage = open_storage("s3://bucket/a")

    with pytest.raises(StorageError) as refused:
        storage.exists("key")

    assert reason in str(refused.value)
    assert way_out in str(refused.value)
    assert isinstance(refused.value, StorageFullError) == (manner == "full")


def test_a_page_that_is_not_s3_is_named(odd_s3: Start) -> None:
    odd_s3("html")

    with pytest.raises(StorageError, match="is not S3"):
        list(open_storage("s3://bucket/a").list("sweeps"))


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("AWS_SECRET_ACCESS_KEY", "b\n", "a line break"),
        ("AWS_ACCESS_KEY_ID", "a b", "a space"),
        ("AWS_SESSION_TOKEN", "t\r", "a carriage return"),
    ],
)
def test_a_key_that_was_copied_with_white_space_is_named_and_not_shown(
    odd_s3: Start, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, named: str
) -> None:
    odd_s3("")
    monkeypatch.setenv(variable, value)

    with pytest.raises(StorageError) as refused:
        open_storage("s3://bucket/a").exists("key")

    assert variable in str(refused.value)
    assert named in str(refused.value)
    assert value not in str(refused.value)


def test_an_endpoint_that_ends_in_the_buckets_name_is_named(odd_s3: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    store = odd_s3("")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1/bucket/")

    with pytest.raises(StorageError, match=r"ends in the bucket's name 'bucket'.*leave it out"):
        open_storage("s3://bucket/a").write("key", b"")

    assert store.requests == []


@pytest.mark.parametrize(
    ("configured", "host", "path"),
    [("", "store.test", "/bucket/folder/key"), ("addressing_style = virtual", "bucket.store.test", "/folder/key")],
)
def test_the_addressing_style_of_the_aws_files_is_obeyed_and_else_the_bucket_is_in_the_path(
    odd_s3: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, configured: str, host: str, path: str
) -> None:
    store = odd_s3("")
    config = tmp_path / "aws-config"
    config.write_text(f"[default]\ns3 =\n    use_accelerate_endpoint = false\n    {configured}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("HTTP_PROXY", os.environ["AWS_ENDPOINT_URL"])  # the store answers for every name
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store.test")

    open_storage("s3://bucket").write("folder/key", b"x")

    assert store.hosts == {host}
    assert [asked for _, asked, _ in store.requests] == [path]


@pytest.mark.parametrize(("attempts", "asked"), [("1", 1), ("2", 2)])
def test_the_number_of_attempts_of_the_aws_settings_is_obeyed(
    odd_s3: Start, monkeypatch: pytest.MonkeyPatch, attempts: str, asked: int
) -> None:
    store = odd_s3("denied")
    monkeypatch.setitem(REFUSALS, "denied", Refusal(503, "SlowDown", "x"))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", attempts)

    with pytest.raises(StorageError, match="503 SlowDown"):
        open_storage("s3://bucket/a").read("key")

    assert len(store.requests) == asked


def test_a_store_that_does_not_answer_at_first_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(str(tmp_path))
    failures, pauses = [StorageUnavailableError("no answer")] * 2, []
    read = storage.read

    def unreliable(key: str) -> bytes:
        if failures:
            raise failures.pop()
        return read(key)

    monkeypatch.setattr(storage, "read", unreliable)
    prove_storage(storage, sleep=pauses.append)
    assert len(pauses) == 2

    failures.append(StorageUnavailableError("no answer"))
    with pytest.raises(StorageUnavailableError):
        prove_storage(storage, patience_s=-1.0, sleep=pauses.append)
    assert len(pauses) == 2
