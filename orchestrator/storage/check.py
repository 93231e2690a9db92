"""Test every property that agr needs of a storage, before any data is uploaded."""

from __future__ import annotations

import hashlib
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from agr_core.errors import AgrError
from orchestrator.errors import AlreadyExistsError, NotFoundError, StorageError, StorageUnavailableError
from orchestrator.storage import layout
from orchestrator.storage.base import Storage

_LARGE_BYTES = 12 * 2**20
"""Above the 8 MiB from which boto3 uploads in parts and downloads by ranges."""

_CLOCK_S = 30.0
"""Largest difference between the store's clock and this machine's, in seconds."""

_LATENCY_S = 2.0
"""Largest median time of a small read, in seconds. A driver writes its journal every few seconds."""

PATIENCE_S = 8.0
"""Longest time for which the start of a sweep tries a store that does not answer, in seconds."""

_PAUSE_S = 1.0
_READS = 5
_NOT_TRIED = "not tried: needs "
_WAY_OUT = "docs/stores.md lists what each kind of store offers"


@dataclass(frozen=True)
class Finding:
    """One required property and the storage's behaviour; ``ms`` is the time of the attempt in milliseconds."""

    need: str
    ok: bool
    observed: str
    ms: float

    @property
    def tried(self) -> bool:
        """Whether the property was tested; it is not when a property that it builds on is missing."""
        return not self.observed.startswith(_NOT_TRIED)


@dataclass(frozen=True)
class _Attempt:
    """The test of one property. It is skipped if a property that it builds on is missing.

    Attributes:
        run: Returns what was observed. Raises ``_UnmetError``, ``StorageError`` or ``NotFoundError``.
        essential: Whether it is cheap enough for the start of every sweep.
    """

    need: str
    run: Callable[[], str]
    builds_on: str = ""
    essential: bool = True


class _UnmetError(Exception):
    """The storage answered, but lacks the required property; the text gives what it did."""


def check_storage(storage: Storage) -> list[Finding]:
    """Test every required property. Objects are written below ``probes/`` and removed at the end."""
    findings: dict[str, Finding] = {}
    with _probe(storage) as probe:
        for attempt in probe.attempts():
            missing = attempt.builds_on and not findings[attempt.builds_on].ok
            findings[attempt.need] = (
                Finding(attempt.need, False, f"{_NOT_TRIED}{attempt.builds_on}", 0.0) if missing else _try(attempt)
            )
    return list(findings.values())


def prove_storage(
    storage: Storage, *, patience_s: float = PATIENCE_S, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Refuse a storage on which a sweep would fail later. Takes a dozen small requests and no large object.

    A store that does not answer is tried again, with new objects: the answer to a write may be lost after the write.

    Args:
        storage: The storage of a sweep.
        patience_s: Longest time for which a store that does not answer is tried again, in seconds.
        sleep: Waits the given number of seconds.

    Raises:
        StorageError: If a property is missing; the text names it.
        StorageUnavailableError: If the store does not answer.
    """
    began = time.monotonic()
    while True:
        try:
            return _prove(storage)
        except StorageUnavailableError:
            if time.monotonic() - began > patience_s:
                raise
            sleep(_PAUSE_S)


def _prove(storage: Storage) -> None:
    with _probe(storage) as probe:
        for attempt in probe.attempts():
            if not attempt.essential:
                continue
            try:
                attempt.run()
            except (_UnmetError, NotFoundError) as error:
                raise StorageError(
                    f"{storage.uri} cannot hold sweeps: {attempt.need}: {_observed(error)}. "
                    f"`agr storage check {storage.uri}` tests every property; {_WAY_OUT}."
                ) from error


def _try(attempt: _Attempt) -> Finding:
    began = time.monotonic()
    try:
        observed, ok = attempt.run(), True
    except (_UnmetError, StorageError, NotFoundError) as error:
        observed, ok = _observed(error), False
    return Finding(attempt.need, ok, observed, round(1e3 * (time.monotonic() - began), 1))


def _observed(error: Exception) -> str:
    if isinstance(error, NotFoundError):
        return "an object is missing right after it was written"
    return str(error)


@contextmanager
def _probe(storage: Storage) -> Iterator[_Probe]:
    probe = _Probe(storage)
    try:
        yield probe
    finally:
        with suppress(AgrError):  # a store that failed above may fail here too; report the first reason
            probe.remove()


class _Probe:
    """The objects of one check, and the attempts on them, ordered by dependency."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        word = secrets.token_hex(8)
        self._folder = layout.probe("check", word)
        self._small = f"{self._folder}/small"
        self._once = f"{self._folder}/once"
        self._large = f"{self._folder}/large"
        self._data = word.encode("ascii")
        self._digest = ""
        self._put_at = 0.0
        self._modified = 0.0

    def attempts(self) -> tuple[_Attempt, ...]:
        """Return all attempts; ``delete`` is the last, because it removes the objects of the others."""
        return (
            _Attempt("put", self._put),
            _Attempt("get", self._get, builds_on="put"),
            _Attempt("list", self._list, builds_on="put"),
            _Attempt("clock", self._clock, builds_on="list"),
            _Attempt("conditional create", self._create, builds_on="get"),
            _Attempt("multipart", self._multipart, builds_on="get", essential=False),
            _Attempt("range", self._range, builds_on="multipart", essential=False),
            _Attempt("latency", self._latency, builds_on="get", essential=False),
            _Attempt("delete", self._delete, builds_on="list"),
        )

    def remove(self) -> None:
        """Remove the remaining objects."""
        for key in (self._small, self._once, self._large):
            self._storage.delete(key)

    def _put(self) -> str:
        self._storage.write(self._small, b"")
        self._storage.write(self._small, self._data)
        self._put_at = time.time()
        return "written, and replaced"

    def _get(self) -> str:
        data = self._storage.read(self._small)
        if data != self._data:
            raise _UnmetError(
                f"{len(self._data)} bytes were written and {len(data)} other ones read: another program answers, or "
                "the store returns old objects"
            )
        return "the bytes that were written"

    def _list(self) -> str:
        listed = {info.key: info for info in self._storage.list(self._folder)}
        if self._small not in listed:
            raise _UnmetError("an object is not listed right after it was written; a journal would lose its end")
        if listed[self._small].size != len(self._data):
            raise _UnmetError(f"an object of {len(self._data)} bytes is listed with {listed[self._small].size}")
        self._modified = listed[self._small].modified
        return "listed right after it was written"

    def _clock(self) -> str:
        ahead = self._modified - self._put_at
        if abs(ahead) > _CLOCK_S:
            raise _UnmetError(
                f"the store's clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's, more "
                f"than {_CLOCK_S:.0f} s; set the clocks (NTP)"
            )
        return f"differs by {abs(ahead):.0f} s"

    def _create(self) -> str:
        try:
            self._storage.create(self._once, self._data)
        except StorageUnavailableError:
            raise
        except StorageError as error:
            raise _UnmetError(
                "the store has no exclusive create (on S3: `If-None-Match: *`), which refuses one of two "
                f"drivers: {error}"
            ) from error
        try:
            self._storage.create(self._once, b"second")
        except AlreadyExistsError:
            if self._storage.read(self._once) != self._data:
                raise _UnmetError("a refused create changed the object nevertheless") from None
            return "the second of two is refused"
        raise _UnmetError(
            "the second of two creates succeeded: the store ignores `If-None-Match: *`, and two drivers could both "
            "write one journal"
        )

    def _multipart(self) -> str:
        with tempfile.TemporaryDirectory(prefix="agr-check-") as folder:
            file = Path(folder, "large")
            file.write_bytes(secrets.token_bytes(_LARGE_BYTES))
            self._digest = _sha256(file)
            began = time.monotonic()
            self._storage.upload(file, self._large)
            return f"{_LARGE_BYTES // 2**20} MiB up, {_rate(began)}"

    def _range(self) -> str:
        with tempfile.TemporaryDirectory(prefix="agr-check-") as folder:
            file = Path(folder, "large")
            began = time.monotonic()
            self._storage.download(self._large, file)
            rate = _rate(began)
            if _sha256(file) != self._digest:
                raise _UnmetError("a file uploaded in parts and downloaded by ranges has changed")
        return f"{_LARGE_BYTES // 2**20} MiB down, {rate}"

    def _latency(self) -> str:
        times = []
        for _ in range(_READS):
            began = time.monotonic()
            self._storage.read(self._small)
            times.append(time.monotonic() - began)
        median = statistics.median(times)
        if median > _LATENCY_S:
            raise _UnmetError(f"a small read takes {median:.1f} s, more than {_LATENCY_S:.0f} s")
        return f"{1e3 * median:.0f} ms a small read"

    def _delete(self) -> str:
        for key in (self._small, self._once):
            self._storage.delete(key)
            if self._storage.exists(key):
                raise _UnmetError("an object exists after it was deleted")
        if any(info.key != self._large for info in self._storage.list(self._folder)):
            raise _UnmetError("an object is listed after it was deleted")
        return "gone, and no longer listed"


def _rate(began: float) -> str:
    return f"{_LARGE_BYTES / 1e6 / max(time.monotonic() - began, 1e-3):.0f} MB/s"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
