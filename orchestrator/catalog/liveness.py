"""Measure how long a driver has been silent, by the storage's clock alone.

A driver overwrites its sweep's summary every few seconds, and the storage dates that write. Its date is compared with
the date of an object written now to the same storage. So no two machines' clocks are compared: a live driver with a
slow clock does not count as dead, nor a dead one with a fast clock as alive.
"""

from __future__ import annotations

import logging
import math
import secrets
import time

from orchestrator.errors import NotFoundError, StorageError
from orchestrator.storage import layout
from orchestrator.storage.base import Storage

_LOG = logging.getLogger(__name__)


class Silences:
    """Seconds since each driver's last sign of life; the storage's time is read once."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._asked: tuple[float, float] | None = None
        """The storage's time, and the monotonic clock of this machine then."""

    def of(self, sweep_id: str) -> float:
        """Return the seconds of silence of the sweep's driver; infinite if it left no sign of life."""
        beat = _last_sign(self._storage, sweep_id)
        return math.inf if beat is None else max(0.0, self.now() - beat)

    def now(self) -> float:
        """Return the time by the storage's clock, seconds since the epoch."""
        if self._asked is None:
            self._asked = storage_time(self._storage), time.monotonic()
        then, monotonic = self._asked
        return then + time.monotonic() - monotonic


def storage_time(storage: Storage) -> float:
    """Return the time by the storage's clock, seconds since the epoch: the date of a temporary object written now.

    If this user may not write there, the clock of this machine is used, which is logged.
    """
    key = layout.probe("clock", secrets.token_hex(8))
    try:
        storage.write(key, b"")
        try:
            return storage.info(key).modified
        finally:
            storage.delete(key)
    except StorageError as error:
        _LOG.warning("the clock of this machine is used instead of the storage's: %s", error)
        return time.time()


def _last_sign(storage: Storage, sweep_id: str) -> float | None:
    """Return when the sweep's summary, or without one its newest segment, was written, by the storage's clock."""
    try:
        return storage.info(layout.summary(sweep_id)).modified
    except NotFoundError:
        return max((info.modified for info in storage.list(layout.journal(sweep_id))), default=None)
