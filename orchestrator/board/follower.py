"""Figures of sweeps, kept up to date with their journals."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from threading import Lock
from typing import NamedTuple

from orchestrator.journal.segments import read_journal
from orchestrator.journal.sweep_state import SweepState
from orchestrator.report.evidence import Evidence
from orchestrator.report.page import figures_of
from orchestrator.storage.base import Storage

POLL_S = 1.0
"""Shortest time between two reads of the journals, in seconds."""

REDRAWN_S = 10.0
"""Longest time between updates of a running sweep's figures, in seconds, because its elapsed times change."""

_SHARE = 4.0
"""Shortest wait before a new document, as a multiple of the time to compute the last one."""


class Drawn(NamedTuple):
    """Document of figures."""

    version: int
    """Number of the document, from 1."""
    text: str
    """JSON in one line."""


class _Followed:
    """Sweep with the position up to which its journal was read."""

    def __init__(self, sweep_id: str) -> None:
        self.sweep_id = sweep_id
        self.state: SweepState | None = None
        self._segment = 0

    def read(self, storage: Storage) -> bool:
        """Read new segments; return whether there were any."""
        before = self._segment
        for number, events in read_journal(storage, self.sweep_id, after_segment=self._segment):
            if self.state is None:
                self.state = SweepState.from_events(events)
            else:
                for event in events:
                    self.state.apply(event)
            self._segment = number
        return self._segment > before


class Follower:
    """Reader of several sweeps' journals, shared by any number of clients. Thread-safe.

    Args:
        storage: Storage of the sweeps.
        sweep_ids: IDs of the sweeps; several must be comparable.
        clock: Returns the time, in seconds since the epoch.
    """

    def __init__(self, storage: Storage, sweep_ids: Sequence[str], *, clock: Callable[[], float] = time.time) -> None:
        self._storage = storage
        self._evidence = Evidence(storage)
        self._sweeps = [_Followed(sweep_id) for sweep_id in sweep_ids]
        self._clock = clock
        self._lock = Lock()
        self._drawn: Drawn | None = None
        self._looked = 0.0
        self._drawn_at = 0.0
        self._pause = POLL_S

    def drawn(self) -> Drawn:
        """Return the figures; the journals are read again if the last read is older than ``POLL_S`` seconds.

        Raises:
            NotFoundError: If a sweep has no journal.
            InputError: If the sweeps cannot be compared.
            StorageError: If the storage does not answer.
            IntegrityError: If a journal is damaged.
        """
        with self._lock:
            now = self._clock()
            if self._drawn is None or now - self._looked >= self._pause:
                self._look(now)
            assert self._drawn is not None, "a look draws, or raises"
            return self._drawn

    def _look(self, now: float) -> None:
        news = [sweep.read(self._storage) for sweep in self._sweeps]
        states = [
            self._evidence.states([sweep.sweep_id])[0] if sweep.state is None else sweep.state for sweep in self._sweeps
        ]
        self._looked = now
        stale = any(state.ended is None for state in states) and now - self._drawn_at >= REDRAWN_S
        if self._drawn is None or any(news) or stale:
            began = time.perf_counter()
            figures = figures_of(self._evidence, states, now=now)
            version = 1 if self._drawn is None else self._drawn.version + 1
            self._drawn = Drawn(version, json.dumps(figures, ensure_ascii=False, allow_nan=False))
            self._drawn_at = now
            self._pause = max(POLL_S, _SHARE * (time.perf_counter() - began))
