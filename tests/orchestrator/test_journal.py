"""What the writer of a journal does when its storage fails."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.errors import StorageFullError
from orchestrator.journal import JournalWriter, read_events
from orchestrator.records import DriverStarted, SweepStarted
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
