"""Journal the events of a running sweep and keep its summary current."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from orchestrator.catalog.summary import HEARTBEAT_S, Summary, write_summary
from orchestrator.errors import StorageError
from orchestrator.journal.events import Event
from orchestrator.journal.outcome import SweepStatus
from orchestrator.journal.segments import JournalWriter
from orchestrator.storage.base import Storage
from orchestrator.sweep.live_state import Standing

_LOG = logging.getLogger(__name__)

FLUSH_S = 1.0
"""Longest time an event stays unflushed, in seconds."""


@dataclass
class Recorder:
    """Recorder of a sweep: applies each event at once and stores events together, one segment per flush."""

    standing: Standing
    writer: JournalWriter
    storage: Storage
    summary: Callable[[SweepStatus | None], Summary]
    listener: Callable[[Event], None]
    """Called with each event once it is stored."""
    clock: Callable[[], float]
    _flushed: float = field(default=0.0, init=False)
    _beat: float = field(default=0.0, init=False)
    _written: Summary | None = field(default=None, init=False)
    """The last written summary."""
    _writing: threading.Lock = field(default_factory=threading.Lock, init=False)

    def record(self, event: Event) -> None:
        """Buffer an event until the next flush."""
        self.writer.append(event)
        self.standing.apply(event)

    def flush(self, status: SweepStatus | None = None) -> None:
        """Store the pending events; listeners receive them only afterwards."""
        stored = self.writer.flush()
        self._flushed = self.clock()
        self._write_summary(status)
        for event in stored:
            self.listener(event)

    def keep_up(self) -> None:
        """Flush or write a heartbeat if due."""
        now = self.clock()
        if self.writer.pending and now - self._flushed >= FLUSH_S:
            self.flush()
        elif now - self._beat >= HEARTBEAT_S:
            self._write_summary(None)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Write heartbeats during the block, while the driver fetches data, waits for Ray, or reads the test part.

        A driver that is silent for too long counts as lost, and another one may take its sweep.
        """
        over = threading.Event()

        def beat() -> None:
            while not over.wait(HEARTBEAT_S):
                self._beat_again()

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _beat_again(self) -> None:
        """Write the last summary with a new heartbeat, unless there was one recently."""
        with self._writing:
            now = self.clock()
            if self._written is None or now - self._beat < HEARTBEAT_S:
                return
            try:
                self._store(self._written.beaten(now))
            except StorageError as error:  # the driver's own next write fails the same way and ends it
                _LOG.warning("the heartbeat could not be written: %s", error)

    def _write_summary(self, status: SweepStatus | None) -> None:
        with self._writing:
            self._store(self.summary(status))

    def _store(self, summary: Summary) -> None:
        self._beat, self._written = summary.heartbeat, summary
        write_summary(self.storage, summary)
