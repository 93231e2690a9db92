"""The journal: numbered immutable segments, written by the one driver that owns the sweep, read by all others.

A segment is created exclusively. A driver that finds its next number taken knows that another driver owns the sweep
and stops; so two drivers can never both write a sweep's history.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import ValidationError

from agr_core.errors import IntegrityError
from orchestrator.errors import AlreadyExistsError, NotFoundError, SweepOwnedError
from orchestrator.records import Event, dump_event, parse_event
from orchestrator.state import SweepState
from orchestrator.storage import layout
from orchestrator.storage.base import Storage

_SEGMENT = re.compile(r"([0-9]{6,12})\.jsonl")


class JournalWriter:
    """Buffers events and stores them, a segment at a flush."""

    def __init__(self, storage: Storage, sweep_id: str, *, next_segment: int = 1) -> None:
        self._storage = storage
        self._sweep_id = sweep_id
        self._next_segment = next_segment
        self._pending: list[Event] = []

    @property
    def pending(self) -> int:
        """Number of events that are not stored yet."""
        return len(self._pending)

    def append(self, event: Event) -> None:
        """Take an event; it is stored with the next flush."""
        self._pending.append(event)

    def flush(self) -> list[Event]:
        """Store what is pending as the next segment and return it; nothing happens when nothing is pending.

        Raises:
            SweepOwnedError: If another driver stored that segment.
            StorageError: If it cannot be stored. It is pending still, so that no later segment is without it.
        """
        if not self._pending:
            return []
        stored = self._pending
        text = "".join(dump_event(event) + "\n" for event in stored)
        key = layout.segment(self._sweep_id, self._next_segment)
        try:
            self._storage.create(key, text.encode("utf-8"))
        except AlreadyExistsError as error:
            raise SweepOwnedError(
                f"sweep {self._sweep_id} is run by another driver: journal segment {self._next_segment} is taken. "
                f"`agr status {self._sweep_id}` shows it; stop that one before resuming here."
            ) from error
        self._next_segment += 1
        self._pending = []
        return stored


def read_journal(storage: Storage, sweep_id: str, *, after_segment: int = 0) -> Iterator[tuple[int, list[Event]]]:
    """Segments after ``after_segment`` in order, each with its number and events.

    Raises:
        IntegrityError: If a segment is missing in between or is not a journal this version can read.
    """
    folder = layout.journal(sweep_id)
    expected = after_segment + 1
    for number, key in _segments(storage, folder):
        if number < expected:
            continue
        if number > expected:
            raise IntegrityError(
                f"journal segment {expected} of sweep {sweep_id} is missing in {storage.uri}/{folder}."
            )
        lines = storage.read(key).splitlines()
        try:
            yield number, [parse_event(line) for line in lines]
        except ValidationError as error:
            raise IntegrityError(
                f"{storage.uri}/{key} is not a journal segment this version reads: {error.errors()[0]['msg']}"
            ) from error
        expected += 1


def _segments(storage: Storage, folder: str) -> list[tuple[int, str]]:
    """Number and key of each segment, by number: as text, 1000000 comes before 999999."""
    segments = []
    for info in storage.list(folder):
        found = _SEGMENT.fullmatch(info.key.removeprefix(f"{folder}/"))
        if found is None:
            raise IntegrityError(f"{storage.uri}/{info.key} is no journal segment; remove what is not of `agr`.")
        segments.append((int(found[1]), info.key))
    return sorted(segments)


def read_events(storage: Storage, sweep_id: str) -> tuple[list[Event], int]:
    """All events of a sweep and the number of its last segment.

    Raises:
        NotFoundError: If the sweep has no journal.
    """
    events: list[Event] = []
    last = 0
    for number, segment in read_journal(storage, sweep_id):
        events.extend(segment)
        last = number
    if not events:
        raise NotFoundError(f"there is no sweep {sweep_id!r} in {storage.uri}. `agr list` shows what there is.")
    return events, last


def read_state(storage: Storage, sweep_id: str) -> SweepState:
    """The state of a sweep, from its journal.

    Raises:
        NotFoundError: If the sweep has no journal.
    """
    return SweepState.from_events(read_events(storage, sweep_id)[0])
