"""Write and read a journal: numbered immutable segments, written only by the driver that owns the sweep.

A segment is created exclusively. A driver that finds its next number taken knows that another driver owns the sweep
and stops; so two drivers can never both write a sweep's history.

The segments form a chain. The first line of each names the SHA-256 of the segment before, and the number and SHA-256
of its own events; the sweep's summary names the newest segment. So an emptied, cut, changed, exchanged or lost segment
is detected. Segments of earlier versions lack that line; a driver that resumes such a journal chains to them.
"""

from __future__ import annotations

import gc
import hashlib
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from pydantic import Field, ValidationError

from agr_core.config import StrictModel
from orchestrator.errors import AlreadyExistsError, DamagedError, NotFoundError, SweepOwnedError
from orchestrator.journal.events import DriverStarted, Event, SweepStarted, dump_event, parse_event
from orchestrator.journal.sweep_state import SweepState
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.storage.documents import first_problem, read_object, without_digest

_SEGMENT = re.compile(r"([0-9]{6,12})\.jsonl")
_SHA256 = r"^[0-9a-f]{64}$"
_LOG = logging.getLogger(__name__)


class SegmentHeader(StrictModel):
    """The first line of a segment: its link in the chain."""

    kind: Literal["segment"] = "segment"
    number: int = Field(ge=1)
    events: int = Field(ge=1, description="Number of events, a line each, that follow.")
    sha256: str = Field(pattern=_SHA256, description="SHA-256 of the lines that follow.")
    previous: str | None = Field(description="SHA-256 of the whole segment before; null in the first.")


class JournalHead(StrictModel):
    """The newest segment of a journal, as named by the sweep's summary; readers accept no older one."""

    segment: int = Field(ge=1)
    sha256: str = Field(pattern=_SHA256, description="SHA-256 of the whole segment.")


@dataclass(frozen=True)
class Segment:
    """A segment that was read and verified."""

    number: int
    events: list[Event]
    sha256: str
    header: SegmentHeader | None
    """None in journals of earlier versions."""


class JournalWriter:
    """Buffer of events, stored as one segment at each flush."""

    def __init__(self, storage: Storage, sweep_id: str, *, next_segment: int = 1) -> None:
        self._storage = storage
        self._sweep_id = sweep_id
        self._next_segment = next_segment
        self._pending: list[Event] = []
        self._head: JournalHead | None = None

    @property
    def pending(self) -> int:
        """Number of events that are not stored yet."""
        return len(self._pending)

    @property
    def head(self) -> JournalHead | None:
        """The newest segment that this writer stored; None before the first."""
        return self._head

    def append(self, event: Event) -> None:
        """Buffer an event until the next flush."""
        self._pending.append(event)

    def flush(self) -> list[Event]:
        """Store the pending events as the next segment and return it; do nothing if none is pending.

        Raises:
            SweepOwnedError: If another driver stored that segment.
            StorageError: If it cannot be stored. It is pending still, so that no later segment is without it.
            NotFoundError: If the segment before it is gone.
        """
        if not self._pending:
            return []
        stored, number = self._pending, self._next_segment
        data = _dump_segment(number, stored, self._previous())
        try:
            self._storage.create(layout.segment(self._sweep_id, number), data)
        except AlreadyExistsError as error:
            raise SweepOwnedError(
                f"sweep {self._sweep_id} is run by another driver{self._owner(number)}: journal segment {number} is "
                f"taken. `agr status {self._sweep_id}` shows it; stop that one before resuming here."
            ) from error
        self._head = JournalHead(segment=number, sha256=_sha256(data))
        self._next_segment = number + 1
        self._pending = []
        return stored

    def _previous(self) -> str | None:
        """Return the SHA-256 of the segment before the next one; a segment of an earlier driver is read for it."""
        if self._next_segment == 1:
            return None
        if self._head is not None:
            return self._head.sha256
        return _sha256(self._storage.read(layout.segment(self._sweep_id, self._next_segment - 1)))

    def _owner(self, number: int) -> str:
        """Name the driver that began with segment ``number``, if the segment states it."""
        key = layout.segment(self._sweep_id, number)
        try:
            events = parse_segment(self._storage.read(key), number, f"{self._storage.uri}/{key}").events
        except (NotFoundError, DamagedError):
            return ""
        drivers = [event for event in events if isinstance(event, DriverStarted)]
        return f" (process {drivers[-1].pid} on {drivers[-1].host})" if drivers else ""


def _dump_segment(number: int, events: list[Event], previous: str | None) -> bytes:
    lines = "".join(dump_event(event) + "\n" for event in events).encode("utf-8")
    header = SegmentHeader(number=number, events=len(events), sha256=_sha256(lines), previous=previous)
    return header.model_dump_json().encode("utf-8") + b"\n" + lines


def parse_segment(data: bytes, number: int, name: str) -> Segment:
    """Parse a segment without its neighbours; ``name`` is its address, for the error.

    Raises:
        DamagedError: If it is empty, of an unknown format, or contradicts its first line.
    """
    first, _, rest = data.partition(b"\n")
    try:
        header = SegmentHeader.model_validate_json(first) if first.startswith(b'{"kind":"segment"') else None
        lines = data if header is None else rest
        events = [parse_event(line) for line in lines.splitlines()]
    except ValidationError as error:
        raise DamagedError(f"{name} is not a journal segment this version reads: {first_problem(error)}.") from error
    if not events:
        raise DamagedError(f"{name} is damaged: it has no events, and no driver writes such a segment.")
    if header is not None:
        if header.number != number:
            raise DamagedError(f"{name} is damaged: its first line says that it is segment {header.number}.")
        if header.events != len(events):
            raise DamagedError(f"{name} is damaged: {len(events)} events are left of {header.events}.")
        if header.sha256 != _sha256(lines):
            raise DamagedError(f"{name} is damaged: its events do not have the SHA-256 in its first line.")
    return Segment(number, events, _sha256(data), header)


def read_segments(storage: Storage, sweep_id: str, *, after_segment: int = 0) -> Iterator[Segment]:
    """Yield the segments after ``after_segment`` in order, each verified by the next, the newest by the summary.

    Raises:
        DamagedError: If a segment is missing, damaged, not linked to the one before, or of another sweep.
    """
    head = read_head(storage, sweep_id)  # before the listing: then the journal is at least as new
    folder = layout.journal(sweep_id)
    previous: Segment | None = None
    expected = after_segment + 1
    for number, key in _keys(storage, folder):
        if number < expected:
            continue
        if number > expected:
            raise DamagedError(f"journal segment {expected} of sweep {sweep_id} is missing in {storage.uri}/{folder}.")
        name = f"{storage.uri}/{key}"
        segment = parse_segment(storage.read(key), number, name)
        _check_link(segment, previous, name)
        first = segment.events[0]
        if isinstance(first, SweepStarted) and first.sweep_id != sweep_id:
            raise DamagedError(f"{name} is of the journal of sweep {first.sweep_id}, not of {sweep_id}.")
        if head is not None and head.segment == number and head.sha256 != segment.sha256:
            raise DamagedError(f"{name} is not the segment that {storage.uri}/{layout.summary(sweep_id)} names.")
        yield segment
        previous, expected = segment, number + 1
    if head is None and previous is not None and previous.header is not None:
        _LOG.warning(
            "no summary of sweep %s names its newest segment: the end of its journal may be missing.",
            sweep_id,
        )
    if head is not None and expected <= head.segment:
        raise DamagedError(
            f"the end of the journal of sweep {sweep_id} is missing: {storage.uri}/{folder} has {expected - 1} "
            f"segments of {head.segment}."
        )


def whole_segments(storage: Storage, sweep_id: str) -> tuple[list[Segment], DamagedError | None]:
    """Return the leading segments that are whole and linked, and the problem of the next; None if there is none."""
    intact: list[Segment] = []
    try:
        for segment in read_segments(storage, sweep_id):
            intact.append(segment)
    except DamagedError as error:
        return intact, error
    return intact, None


def read_journal(storage: Storage, sweep_id: str, *, after_segment: int = 0) -> Iterator[tuple[int, list[Event]]]:
    """Yield the segments after ``after_segment`` in order, each with its number and events.

    Raises:
        DamagedError: As ``read_segments``.
    """
    segments = read_segments(storage, sweep_id, after_segment=after_segment)
    while True:
        try:
            segment = next(segments, None)
        except DamagedError as error:
            raise DamagedError(f"{error} `agr repair {sweep_id}` keeps the intact part before it.") from error
        if segment is None:
            return
        yield segment.number, segment.events


def _check_link(segment: Segment, previous: Segment | None, name: str) -> None:
    """Check a segment's link to the one before; ``previous`` is None for the first, or if that one was read earlier."""
    header = segment.header
    if header is None:
        if previous is not None and previous.header is not None:
            raise DamagedError(
                f"{name} is not a journal segment: it is not linked to the one before, as those before it are."
            )
    elif segment.number == 1:
        if header.previous is not None:
            raise DamagedError(f"{name} is damaged: it is the first segment and names one before it.")
    elif previous is not None and header.previous != previous.sha256:
        raise DamagedError(
            f"{name} does not follow the segment before it: one of the two was changed or exchanged after it was "
            "written."
        )


def read_head(storage: Storage, sweep_id: str) -> JournalHead | None:
    """Return the newest segment that the sweep's summary names; None if no summary names one.

    Without it the end of a journal cannot be verified. An unreadable or changed summary is logged.
    """
    key = layout.summary(sweep_id)
    try:
        head = without_digest(read_object(storage, key), f"{storage.uri}/{key}").get("journal")
        return None if head is None else JournalHead.model_validate(head)
    except NotFoundError:
        return None
    except DamagedError as error:
        problem = str(error)
    except ValidationError as error:
        problem = f"{storage.uri}/{key} is damaged: journal.{first_problem(error)}."
    _LOG.warning("%s", problem)
    return None


def _keys(storage: Storage, folder: str) -> list[tuple[int, str]]:
    """Return number and key of each segment, sorted by number: as text, 1000000 comes before 999999."""
    segments = []
    for info in storage.list(folder):
        match = _SEGMENT.fullmatch(info.key.removeprefix(f"{folder}/"))
        if match is None:
            raise DamagedError(
                f"{storage.uri}/{info.key} is not a journal segment; remove files that are not of `agr`."
            )
        segments.append((int(match[1]), info.key))
    return sorted(segments)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def read_events(storage: Storage, sweep_id: str) -> tuple[list[Event], int]:
    """Return all events of a sweep and the number of its last segment.

    Raises:
        NotFoundError: If the sweep has no journal.
        DamagedError: As ``read_segments``.
    """
    events: list[Event] = []
    last = 0
    for number, segment in read_journal(storage, sweep_id):
        events.extend(segment)
        last = number
    if not events:
        raise _no_sweep(storage, sweep_id)
    return events, last


def read_state(storage: Storage, sweep_id: str) -> SweepState:
    """Return the state of a sweep, folded from its journal.

    Raises:
        NotFoundError: If the sweep has no journal.
        DamagedError: As ``read_segments``, or if it is the journal of another sweep.
    """
    events = (event for _, segment in read_journal(storage, sweep_id) for event in segment)  # never all at once
    with _no_collection():
        first = next(events, None)
        if first is None:
            raise _no_sweep(storage, sweep_id)
        return SweepState.from_events(chain([first], events))


@contextmanager
def _no_collection() -> Iterator[None]:
    """Pause the search for cycles, of which events have none, and count what is made as old.

    A search looks through all new objects, which are millions: a sixth of the time of a command that reads 10,000
    trials, and with Python's own thresholds a third.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # all objects leave the young generation unseen,
        gc.unfreeze()  # and are in the oldest
        if was_enabled:
            gc.enable()


def is_journalled(storage: Storage, sweep_id: str) -> bool:
    """Return whether a sweep has, or had, a journal: a segment or its summary exists.

    A starting driver has neither yet; `agr rm` removes the summary first and the first segment last.
    """
    if storage.exists(layout.segment(sweep_id, 1)) or storage.exists(layout.summary(sweep_id)):
        return True
    return any(storage.list(layout.journal(sweep_id)))


def _no_sweep(storage: Storage, sweep_id: str) -> NotFoundError:
    return NotFoundError(f"there is no sweep {sweep_id!r} in {storage.uri}. `agr list` shows what there is.")
