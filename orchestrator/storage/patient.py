"""Storage wrapper that retries during outages, for drivers and workers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from orchestrator.errors import AlreadyExistsError, StorageUnavailableError
from orchestrator.storage.base import ObjectInfo, Storage

PATIENCE_S = 600.0
"""Longest outage that is waited out, in seconds."""

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 15.0

_LOG = logging.getLogger(__name__)
_Result = TypeVar("_Result")


class PatientStorage:
    """Another storage (``Storage``), retried while it does not answer. A refusal is raised at once.

    Args:
        storage: The wrapped storage.
        patience_s: Longest outage, in seconds; after it the ``StorageUnavailableError`` is raised.
        sleep: Waits the given number of seconds.
        clock: Returns a time in seconds.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        patience_s: float = PATIENCE_S,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._patience_s = patience_s
        self._sleep = sleep
        self._clock = clock

    @property
    def uri(self) -> str:
        """The address of the wrapped storage."""
        return self._storage.uri

    def read(self, key: str) -> bytes:
        """Return the object's bytes (``Storage.read``)."""
        return self._waiting(lambda: self._storage.read(key))

    def write(self, key: str, data: bytes) -> None:
        """Store ``data``, replacing an existing object (``Storage.write``)."""
        self._waiting(lambda: self._storage.write(key, data))

    def create(self, key: str, data: bytes) -> None:
        """Store ``data`` unless the object exists (``Storage.create``).

        The store may have taken the object before an outage, so after one an equal object counts as created here.
        """
        attempts = 0

        def create() -> None:
            nonlocal attempts
            attempts += 1
            self._storage.create(key, data)

        try:
            self._waiting(create)
        except AlreadyExistsError:
            if attempts == 1 or self.read(key) != data:
                raise

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the object's bytes in pieces (``Storage.stream``).

        After an outage the object is read from the start again, and the bytes already yielded are skipped.
        """
        given = 0
        pieces: Iterator[bytes] | None = None

        def next_piece() -> bytes:
            nonlocal pieces
            pieces = pieces or _after(given, self._storage.stream(key))
            try:
                return next(pieces, b"")
            except StorageUnavailableError:
                pieces = None
                raise

        while piece := self._waiting(next_piece):
            given += len(piece)
            yield piece

    def exists(self, key: str) -> bool:
        """Return whether the object exists (``Storage.exists``)."""
        return self._waiting(lambda: self._storage.exists(key))

    def info(self, key: str) -> ObjectInfo:
        """Return an object's size and time of last write (``Storage.info``)."""
        return self._waiting(lambda: self._storage.info(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects below the folder ``prefix``, ascending (``Storage.list``)."""
        return iter(self._waiting(lambda: [*self._storage.list(prefix)]))

    def folders(self, prefix: str) -> tuple[str, ...]:
        """Return the folders directly below the folder ``prefix`` (``Storage.folders``)."""
        return self._waiting(lambda: self._storage.folders(prefix))

    def delete(self, key: str) -> None:
        """Delete the object (``Storage.delete``)."""
        self._waiting(lambda: self._storage.delete(key))

    def upload(self, path: Path, key: str) -> None:
        """Store a file (``Storage.upload``)."""
        self._waiting(lambda: self._storage.upload(path, key))

    def download(self, key: str, path: Path) -> None:
        """Fetch an object into a file (``Storage.download``)."""
        self._waiting(lambda: self._storage.download(key, path))

    def _waiting(self, operation: Callable[[], _Result]) -> _Result:
        began: float | None = None
        pause = _FIRST_PAUSE_S
        while True:
            try:
                result = operation()
            except StorageUnavailableError as error:
                if began is None:
                    began = self._clock()
                    _LOG.warning("%s Retrying for up to %.0f s; nothing is lost.", error, self._patience_s)
                if self._clock() - began + pause > self._patience_s:
                    raise
                self._sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            else:
                if began is not None:
                    _LOG.warning("%s answers again after %.0f s.", self.uri, self._clock() - began)
                return result


def _after(passed: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the pieces without their first ``passed`` bytes."""
    for piece in pieces:
        rest = piece[passed:]
        passed = max(0, passed - len(piece))
        if rest:
            yield rest
