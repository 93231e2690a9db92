"""The writer of a journal whose storage fails, and the order of segments."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import StorageFullError
from orchestrator.journal.events import DriverStarted, SweepStarted
from orchestrator.journal.segments import JournalWriter, read_events, read_journal
from orchestrator.storage import layout
from orchestrator.storage.local import LocalStorage


def test_what_could_not_be_stored_is_in_the_next_segment(record_sweep: Any, small_disk: Any) -> None:
    """Else a later segment would tell of trials that no segment creates."""
    storage = LocalStorage(small_disk.folder)
    started: SweepStarted = record_sweep().started
    writer = JournalWriter(storage, started.sweep_id)
    writer.append(started)
    small_disk.fill()
    with pytest.raises(StorageFullError):
        writer.flush()
    assert writer.pending == 1
    writer.append(DriverStarted(time=1.0, driver_id="0", host="here", pid=1, resumed=False))
    small_disk.make_room()
    assert len(writer.flush()) == 2
    assert writer.pending == 0
    events, last = read_events(storage, started.sweep_id)
    assert ([event.kind for event in events], last) == (["sweep_started", "driver_started"], 1)


def test_a_journal_of_more_than_a_million_segments_is_read_in_order(record_sweep: Any) -> None:
    """One a second makes that many in twelve days; as text 1000000 comes before 999999."""
    sweep = record_sweep()
    sweep.storage.write(layout.segment(sweep.sweep_id, 999_997), b"of an earlier driver")
    later = JournalWriter(sweep.storage, sweep.sweep_id, next_segment=999_998)
    for pid in range(4):
        later.append(DriverStarted(time=1.0, driver_id="0", host="here", pid=pid, resumed=True))
        later.flush()

    found = list(read_journal(sweep.storage, sweep.sweep_id, after_segment=999_997))

    assert [number for number, _ in found] == [999_998, 999_999, 1_000_000, 1_000_001]
    assert [event.pid for _, events in found for event in events] == [0, 1, 2, 3]
