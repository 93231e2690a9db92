"""Brings what happens in a running sweep into its journal, and its summary up to date."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.journal import JournalWriter
from orchestrator.outcome import SweepStatus
from orchestrator.records import Event
from orchestrator.standing import Standing
from orchestrator.storage import layout
from orchestrator.storage.base import Storage

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

    def _write_summary(self, status: SweepStatus) -> None:
        self._beat = self.clock()
        key = layout.summary(self.standing.started.sweep_id)
        self.storage.write(key, json.dumps(self.summary(status), indent=1).encode("utf-8"))
