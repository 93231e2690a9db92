"""Brings what happens in a running sweep into its journal, and its summary up to date."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import StorageError
from orchestrator.journal import JournalWriter
from orchestrator.outcome import SweepStatus
from orchestrator.records import Event
from orchestrator.standing import Standing
from orchestrator.storage import layout
from orchestrator.storage.base import Storage

_LOG = logging.getLogger(__name__)

FLUSH_S = 1.0
"""A stored event is at most so old (seconds)."""

HEARTBEAT_S = 5.0
"""The summary is rewritten at least so often (seconds); readers call a driver lost after 30."""


@dataclass
class Recorder:
    """Applies each event at once, and stores events together, a segment of the journal at a flush."""

    standing: Standing
    writer: JournalWriter
    storage: Storage
    summary: Callable[[SweepStatus], dict[str, Any]]
    listener: Callable[[Event], None]
    """Hears of an event once it is stored."""
    clock: Callable[[], float]
    _flushed: float = field(default=0.0, init=False)
    _beat: float = field(default=0.0, init=False)
    _written: dict[str, Any] = field(default_factory=dict, init=False)
    """The summary as it was written last."""
    _writing: threading.Lock = field(default_factory=threading.Lock, init=False)

    def record(self, event: Event) -> None:
        """Take an event; it is stored with the next flush."""
        self.writer.append(event)
        self.standing.apply(event)

    def flush(self, status: SweepStatus = "running") -> None:
        """Store what is pending; only then does anyone else hear of it."""
        stored = self.writer.flush()
        self._flushed = self.clock()
        self._write_summary(status)
        for event in stored:
            self.listener(event)

    def keep_up(self) -> None:
        """Flush, or give a sign of life, if it is time."""
        now = self.clock()
        if self.writer.pending and now - self._flushed >= FLUSH_S:
            self.flush()
        elif now - self._beat >= HEARTBEAT_S:
            self._write_summary("running")

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Give signs of life in the block whatever the driver is at: fetching data, waiting for Ray, reading the test.

        A driver that is silent for long is called lost, and another one may take its sweep.
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
        """Write the last summary with a later heartbeat, unless there was one lately."""
        with self._writing:
            now = self.clock()
            if not self._written or now - self._beat < HEARTBEAT_S:
                return
            try:
                self._store({**self._written, "heartbeat": now})
            except StorageError as error:  # what the driver itself stores next will say so, and end it
                _LOG.warning("no sign of life could be given: %s", error)

    def _write_summary(self, status: SweepStatus) -> None:
        with self._writing:
            self._store(self.summary(status))

    def _store(self, summary: dict[str, Any]) -> None:
        self._beat, self._written = summary["heartbeat"], summary
        key = layout.summary(self.standing.started.sweep_id)
        self.storage.write(key, json.dumps(summary, indent=1).encode("utf-8"))
