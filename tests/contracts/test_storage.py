"""What every storage must do, run against each of them."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from orchestrator.errors import AlreadyExistsError, NotFoundError
from orchestrator.storage import Storage, open_storage

HOSTILE_KEYS = {
    "empty": "",
    "absolute": "/etc/passwd",
    "parent": "../outside",
    "parent within": "a/../../outside",
    "here": "a/./b",
    "empty part": "a//b",
    "folder": "a/",
    "hidden": "a/.b",
    "NUL": "a\0b",
    "line end": "a\nb",
    "backslash": "a\\..\\b",
    "long part": "a" * 201,
    "long": "/".join(["a" * 100] * 11),
}


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.services)])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "local":
        return str(tmp_path / "storage")
    address: str = request.getfixturevalue("s3_uri")
    return address


@pytest.fixture
def storage(uri: str) -> Storage:
    return open_storage(uri)


def keys(storage: Storage, prefix: str = "") -> list[str]:
    return [found.key for found in storage.list(prefix)]


@pytest.mark.parametrize("data", [b"", b"text", bytes(range(256)) * 4096], ids=["empty", "short", "1 MB"])
def test_what_was_written_is_read_back(storage: Storage, data: bytes) -> None:
    storage.write("a/b.bin", data)

    assert storage.read("a/b.bin") == data
    assert storage.exists("a/b.bin")


def test_a_second_write_replaces_the_first(storage: Storage) -> None:
    storage.write("a", b"a long first text")
    storage.write("a", b"second")

    assert storage.read("a") == b"second"


def test_a_reader_during_overwrites_sees_whole_objects_only(storage: Storage) -> None:
    texts = {bytes([letter]) * 100_000 for letter in b"abcd"}
    storage.write("a", min(texts))
    done = threading.Event()

    def overwrite() -> None:
        for text in sorted(texts) * 8:
            storage.write("a", text)
        done.set()

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(overwrite)
        seen = {storage.read("a")}
        while not done.is_set():
            seen.add(storage.read("a"))
        writer.result()

    assert seen <= texts
    assert len(seen) > 1


def test_create_stores_an_object_that_is_not_there_and_refuses_one_that_is(storage: Storage) -> None:
    storage.create("journal/000001.jsonl", b"first")

    with pytest.raises(AlreadyExistsError, match=r"journal/000001\.jsonl"):
        storage.create("journal/000001.jsonl", b"second")
    assert storage.read("journal/000001.jsonl") == b"first"


@pytest.mark.parametrize("same", [False, True], ids=["different texts", "the same text"])
def test_of_sixteen_racing_creates_exactly_one_succeeds(storage: Storage, same: bool) -> None:
    start = threading.Barrier(16)

    def create(number: int) -> bytes | None:
        text = b"all" if same else str(number).encode()
        start.wait()
        try:
            storage.create("race", text)
        except AlreadyExistsError:
            return None
        return text

    with ThreadPoolExecutor(16) as pool:
        winners = [text for text in pool.map(create, range(16)) if text is not None]

    assert len(winners) == 1
    assert storage.read("race") == winners[0]


def test_create_succeeds_again_after_a_delete(storage: Storage) -> None:
    storage.create("a", b"1")
    storage.delete("a")
    storage.create("a", b"2")

    assert storage.read("a") == b"2"


def test_a_missing_object_is_named_with_its_place(storage: Storage, tmp_path: Path) -> None:
    storage.write("folder/object", b"x")

    for key in ("nothing", "folder", "folder/nothing", "folder/object/below"):
        assert not storage.exists(key)
        with pytest.raises(NotFoundError) as reading:
            storage.read(key)
        assert key in str(reading.value)
        assert storage.uri in str(reading.value)
        with pytest.raises(NotFoundError):
            storage.download(key, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_deleting_removes_one_object_and_is_silent_when_there_is_none(storage: Storage) -> None:
    storage.write("a/b", b"1")
    storage.write("a/c", b"2")
    storage.delete("a/b")
    storage.delete("a/b")
    storage.delete("nothing/here")
    storage.delete("a")

    assert keys(storage) == ["a/c"]


def test_listing_is_in_key_order_and_stays_below_the_folder(storage: Storage) -> None:
    # "-" and "." sort before "/", digits after it: the order of keys is not the order of a walk through folders.
    names = ["l-0", "l.x", "l/2", "l/1/x", "l/1/a/b", "l/10", "l0", "lü/ä", "other/l/1", "l/1-x"]
    for name in names:
        storage.write(name, name.encode())

    assert keys(storage) == sorted(names)
    assert keys(storage, "l") == ["l/1-x", "l/1/a/b", "l/1/x", "l/10", "l/2"]
    assert keys(storage, "l/1") == ["l/1/a/b", "l/1/x"]
    assert keys(storage, "nothing") == []
    assert keys(storage, "l/2") == []


def test_listing_tells_size_and_time(storage: Storage) -> None:
    before = time.time()
    storage.write("a", b"12345")
    (found,) = storage.list("")

    assert found.size == 5
    assert before - 2 <= found.modified <= time.time() + 2  # S3 counts whole seconds


@pytest.mark.slow
def test_listing_goes_beyond_one_page_of_a_thousand(storage: Storage) -> None:
    names = [f"many/{number:04d}" for number in range(1101)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: storage.write(name, b"x"), names))

    assert keys(storage, "many") == names


def test_folders_are_those_with_something_below(storage: Storage) -> None:
    for name in ("s/b/summary.json", "s/a/x/y/z", "s/file", "t/c/d", "s/ü b+%/x"):
        storage.write(name, b"x")

    assert storage.folders("s") == ("a", "b", "ü b+%")
    assert storage.folders("") == ("s", "t")
    assert storage.folders("s/a") == ("x",)
    assert storage.folders("s/file") == ()
    assert storage.folders("nothing") == ()


def test_an_empty_storage_is_empty(storage: Storage) -> None:
    assert keys(storage) == []
    assert storage.folders("") == ()
    assert not storage.exists("a")


@pytest.mark.parametrize("key", HOSTILE_KEYS.values(), ids=HOSTILE_KEYS)
def test_an_invalid_key_is_refused_by_every_method(storage: Storage, tmp_path: Path, key: str) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    calls: list[Callable[[], object]] = [
        lambda: storage.read(key),
        lambda: storage.write(key, b"x"),
        lambda: storage.create(key, b"x"),
        lambda: storage.exists(key),
        lambda: storage.delete(key),
        lambda: storage.upload(file, key),
        lambda: storage.download(key, tmp_path / "copy"),
    ]
    if key:
        calls += [lambda: list(storage.list(key)), lambda: storage.folders(key)]

    for call in calls:
        with pytest.raises(ValueError, match="is not a storage key"):
            call()
    assert keys(storage) == []


def test_a_file_of_30_mb_goes_up_and_comes_down_unchanged(storage: Storage, tmp_path: Path) -> None:
    data = os.urandom(30 << 20)
    (tmp_path / "up").write_bytes(data)

    storage.upload(tmp_path / "up", "data/large.bin")
    storage.download("data/large.bin", tmp_path / "new folder/down")

    assert (tmp_path / "new folder/down").read_bytes() == data
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["down"]


def test_a_stream_gives_the_bytes_in_order_and_names_what_is_missing(storage: Storage) -> None:
    content = os.urandom(700_001)
    storage.write("faces/shard", content)
    assert b"".join(storage.stream("faces/shard")) == content
    with pytest.raises(NotFoundError, match="faces/none"):
        next(storage.stream("faces/none"))


def test_upload_and_download_replace_what_was_there(storage: Storage, tmp_path: Path) -> None:
    storage.write("a", b"old and longer")
    (tmp_path / "up").write_bytes(b"new")
    (tmp_path / "down").write_bytes(b"old and longer")

    storage.upload(tmp_path / "up", "a")
    storage.download("a", tmp_path / "down")

    assert (tmp_path / "down").read_bytes() == b"new"


def test_uploading_a_missing_file_says_so_and_stores_nothing(storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"there is no file .*missing"):
        storage.upload(tmp_path / "missing", "a")
    assert keys(storage) == []


def test_its_uri_opens_the_same_storage(storage: Storage, uri: str) -> None:
    storage.write("a", b"x")

    assert storage.uri == uri
    assert open_storage(storage.uri).read("a") == b"x"
    assert open_storage(storage.uri + "/").uri == uri


def test_a_storage_below_another_sees_its_part(storage: Storage) -> None:
    storage.write("datasets/1/manifest.json", b"{}")
    below = open_storage(f"{storage.uri}/datasets/1")

    assert keys(below) == ["manifest.json"]
    below.write("shard", b"x")
    assert storage.read("datasets/1/shard") == b"x"


def test_it_can_be_pickled_into_another_process(storage: Storage) -> None:
    storage.write("a", b"from the parent")  # so that it has connections open
    code = "import pickle, sys; sys.stdout.buffer.write(pickle.load(sys.stdin.buffer).read('a'))"
    child = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(storage), stdout=subprocess.PIPE, check=True
    )

    assert child.stdout == b"from the parent"


def test_a_forked_process_does_not_share_the_connections_of_its_parent(storage: Storage, tmp_path: Path) -> None:
    storage.write("a", b"a" * 1000)
    storage.write("b", b"b" * 1000)

    def child() -> None:
        wrong = [key for key in "ab" * 30 if storage.read(key) != key.encode() * 1000]
        (tmp_path / "wrong").write_text("".join(wrong))

    process = get_context("fork").Process(target=child)
    process.start()
    for key in "ab" * 30:
        assert storage.read(key) == key.encode() * 1000
    process.join(30)

    assert (tmp_path / "wrong").read_text() == ""
