"""Outages of the store are waited out by drivers and workers, and end in one clear error if they last."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import AlreadyExistsError, NotFoundError, StorageUnavailableError
from orchestrator.storage import open_patiently, open_storage
from orchestrator.storage.base import Storage
from orchestrator.storage.local import LocalStorage
from orchestrator.storage.patient import PatientStorage


class Silent:
    """A storage that does not answer so many calls; ``does`` the first of them all the same, unheard."""

    def __init__(self, storage: Storage, calls: int, *, does: bool = False) -> None:
        self._storage = storage
        self._calls = calls
        self._does = does

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._storage, name)

        def call(*arguments: Any) -> Any:
            if self._calls == 0:
                return method(*arguments)
            self._calls -= 1
            if self._does:
                self._does = False
                method(*arguments)
            raise StorageUnavailableError("the store answered 503.")

        return call


class Time:
    """Passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def patient(storage: Any, **options: Any) -> PatientStorage:
    time = Time()
    return PatientStorage(storage, sleep=time.sleep, clock=lambda: time.now, **options)


CALLS: dict[str, Callable[[Storage, Path], Any]] = {
    "read": lambda storage, _: storage.read("a/k"),
    "write": lambda storage, _: storage.write("a/k", b"x"),
    "create": lambda storage, _: storage.create("new", b"x"),
    "exists": lambda storage, _: storage.exists("a/k"),
    "stream": lambda storage, _: b"".join(storage.stream("a/k")),
    "list": lambda storage, _: [info.key for info in storage.list("")],
    "folders": lambda storage, _: storage.folders(""),
    "delete": lambda storage, _: storage.delete("a/k"),
    "upload": lambda storage, path: storage.upload(path, "a/k"),
    "download": lambda storage, path: storage.download("a/k", path),
}


class BreaksOff:
    """Of each of the first streams it gives so many pieces, and then does not answer."""

    def __init__(self, storage: Storage, pieces: list[int]) -> None:
        self._storage = storage
        self.uri = storage.uri
        self._pieces = pieces

    def stream(self, key: str) -> Iterator[bytes]:
        pieces = self._storage.stream(key)
        if not self._pieces:
            yield from pieces
            return
        yield from itertools.islice(pieces, self._pieces.pop(0))
        raise StorageUnavailableError("the store does not answer.")


def test_a_stream_that_breaks_off_resumes_at_its_offset(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    content = random.Random(0).randbytes(2**20 + 17)  # of pieces of 256 KiB
    storage.write("k", content)
    assert b"".join(patient(BreaksOff(storage, [2, 0, 1, 4])).stream("k")) == content


@pytest.mark.parametrize("name", CALLS)
def test_every_call_waits_and_gives_what_it_would_have_given(name: str, tmp_path: Path) -> None:
    results = []
    for folder, silent in (("calm", 0), ("silent", 3)):
        storage = LocalStorage(tmp_path / folder)
        storage.write("a/k", b"x")
        (tmp_path / "file").write_bytes(b"y")
        results.append((CALLS[name](patient(Silent(storage, silent)), tmp_path / "file"), storage.exists("a/k")))
    assert results[0] == results[1]


def test_patience_has_an_end(tmp_path: Path) -> None:
    time = Time()
    storage: Any = Silent(LocalStorage(tmp_path), 10**9)
    with pytest.raises(StorageUnavailableError, match="503"):
        PatientStorage(storage, patience_s=60, sleep=time.sleep, clock=lambda: time.now).read("k")
    assert 30 < time.now <= 60


def test_a_refusal_is_not_waited_for(tmp_path: Path) -> None:
    time = Time()
    storage = PatientStorage(LocalStorage(tmp_path), sleep=time.sleep, clock=lambda: time.now)
    with pytest.raises(NotFoundError):
        storage.read("k")
    assert time.now == 0


def test_an_object_created_before_the_store_fell_silent_is_ours(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    patient(Silent(storage, 2, does=True)).create("k", b"mine")
    assert storage.read("k") == b"mine"


def test_an_object_of_another_is_not_ours(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path)
    storage.create("k", b"theirs")
    for silent in (0, 2):
        with pytest.raises(AlreadyExistsError):
            patient(Silent(storage, silent)).create("k", b"mine")
    with pytest.raises(AlreadyExistsError):
        patient(storage).create("k", b"theirs")  # without an outage an equal object is another's


def test_a_folder_needs_no_patience(tmp_path: Path) -> None:
    assert isinstance(open_patiently(str(tmp_path)), LocalStorage)


@pytest.mark.services
def test_an_outage_is_waited_out(s3_proxy: Any, s3_uri: str) -> None:
    s3_proxy.down = True

    def sleep(_: float) -> None:
        s3_proxy.down = False

    PatientStorage(open_storage(s3_uri), sleep=sleep).write("k", b"x")
    assert open_storage(s3_uri).read("k") == b"x"


@pytest.mark.services
def test_a_store_that_answers_slowly_is_waited_for(s3_proxy: Any, s3_uri: str) -> None:
    storage = open_patiently(s3_uri)
    storage.write("slow", b"x" * 100_000)
    s3_proxy.hold = "slow"
    threading.Timer(1.0, lambda: setattr(s3_proxy, "hold", "")).start()
    assert storage.read("slow") == b"x" * 100_000
