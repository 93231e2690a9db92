"""A journal whose segments were emptied, cut, changed, exchanged or lost: named, and never read as another history."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.errors import DamagedError, SweepOwnedError
from orchestrator.journal.events import DriverStarted, parse_event
from orchestrator.journal.segments import (
    JournalWriter,
    is_journalled,
    parse_segment,
    read_events,
    read_segments,
    read_state,
)
from orchestrator.storage import layout

Recorder = Callable[..., Any]


@pytest.fixture
def sweep(record_sweep: Recorder) -> Any:
    """Two completed trials; the second is the best."""
    recorded = record_sweep()
    recorded.trial(0, [5.0, 4.0])
    recorded.trial(1, [4.5, 3.0])
    recorded.end()
    return recorded


def segment(sweep: Any, number: int) -> bytes:
    data: bytes = sweep.storage.read(layout.segment(sweep.sweep_id, number))
    return data


def put(sweep: Any, number: int, data: bytes) -> None:
    sweep.storage.write(layout.segment(sweep.sweep_id, number), data)


def last(sweep: Any) -> int:
    return int(read_events(sweep.storage, sweep.sweep_id)[1])


def test_each_segment_names_the_one_before_and_the_summary_the_newest(sweep: Any) -> None:
    segments = list(read_segments(sweep.storage, sweep.sweep_id))

    links = [each.header.previous for each in segments if each.header is not None]
    assert links == [None, *(each.sha256 for each in segments[:-1])]
    summary = json.loads(sweep.storage.read(layout.summary(sweep.sweep_id)))
    assert summary["journal"] == {"segment": len(segments), "sha256": segments[-1].sha256}


def test_the_number_of_events_that_a_cut_segment_lost_is_named(sweep: Any) -> None:
    events, _ = read_events(sweep.storage, sweep.sweep_id)
    writer = JournalWriter(sweep.storage, "another")
    for event in events[:4]:
        writer.append(event)
    writer.flush()
    *kept, _ = sweep.storage.read(layout.segment("another", 1)).splitlines(keepends=True)
    with pytest.raises(DamagedError, match=r"000001 is damaged: 3 events are left of 4\."):
        parse_segment(b"".join(kept), 1, "000001")


def test_events_that_a_segments_first_line_does_not_count_are_named(sweep: Any) -> None:
    events, _ = read_events(sweep.storage, sweep.sweep_id)
    writer = JournalWriter(sweep.storage, "another")
    for event in events[:4]:
        writer.append(event)
    writer.flush()
    data = sweep.storage.read(layout.segment("another", 1)).replace(b'"events":4,', b'"events":3,', 1)
    with pytest.raises(DamagedError, match=r"000001 is damaged: 4 events are left of 3\."):
        parse_segment(data, 1, "000001")


@pytest.mark.parametrize("lost", [1, 2])
def test_a_lost_end_is_named(sweep: Any, lost: int) -> None:
    whole = last(sweep)
    for number in range(whole - lost + 1, whole + 1):
        sweep.storage.delete(layout.segment(sweep.sweep_id, number))
    with pytest.raises(DamagedError, match=rf"has {whole - lost} segments of {whole}\."):
        read_state(sweep.storage, sweep.sweep_id)


def test_no_segment_can_be_emptied_cut_or_changed_unseen(sweep: Any) -> None:
    for number in range(1, last(sweep) + 1):
        whole = segment(sweep, number)
        lines = whole.splitlines(keepends=True)
        flipped = bytearray(whole)
        flipped[-5] ^= 0x01
        for damaged in (b"", b"\n", b"".join(lines[:-1]), b"".join(lines[1:]), whole[:-7], whole + lines[-1], flipped):
            put(sweep, number, bytes(damaged))
            with pytest.raises(DamagedError, match=r"\d{6}\.jsonl"):
                read_state(sweep.storage, sweep.sweep_id)
        put(sweep, number, whole)
    assert read_state(sweep.storage, sweep.sweep_id).best() is not None


def test_a_value_that_was_changed_with_its_segments_own_digest_breaks_the_chain(
    sweep: Any, record_sweep: Recorder
) -> None:
    """Whoever recomputes the digest of one segment would have to write all that follow anew, and the summary."""
    number = next(
        each.number for each in read_segments(sweep.storage, sweep.sweep_id) if each.events[0].kind == "trial_ended"
    )
    event = json.loads(segment(sweep, number).splitlines()[-1])
    sweep.storage.delete(layout.segment(sweep.sweep_id, number))
    forger = JournalWriter(sweep.storage, sweep.sweep_id, next_segment=number)
    forger.append(parse_event(json.dumps(event | {"value": 0.5})))
    forger.flush()

    with pytest.raises(DamagedError, match=rf"{number + 1:06d}\.jsonl does not follow the segment before it"):
        read_state(sweep.storage, sweep.sweep_id)


def test_exchanged_segments_are_named(sweep: Any) -> None:
    first, second = segment(sweep, 4), segment(sweep, 6)
    put(sweep, 4, second)
    put(sweep, 6, first)

    with pytest.raises(DamagedError, match=r"000004\.jsonl is damaged: its first line says that it is segment 6"):
        read_state(sweep.storage, sweep.sweep_id)


def test_a_copy_of_a_segment_at_the_end_is_named(sweep: Any) -> None:
    put(sweep, last(sweep) + 1, segment(sweep, 5))

    with pytest.raises(DamagedError, match="its first line says that it is segment 5"):
        read_state(sweep.storage, sweep.sweep_id)


def test_a_lost_end_is_named_because_the_summary_names_the_newest_segment(sweep: Any) -> None:
    for number in range(last(sweep) - 3, last(sweep) + 1):
        sweep.storage.delete(layout.segment(sweep.sweep_id, number))

    with pytest.raises(DamagedError, match=r"the end of the journal of sweep .* is missing"):
        read_state(sweep.storage, sweep.sweep_id)


@pytest.mark.parametrize("damage", ["unreadable", "gone", "says nothing", "changed"])
def test_without_a_summary_that_can_be_believed_nothing_proves_the_end_which_is_logged(
    sweep: Any, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    key = layout.summary(sweep.sweep_id)
    document = json.loads(sweep.storage.read(key))
    if damage == "says nothing":
        del document["journal"], document["sha256"]
    else:
        document["journal"]["segment"] -= 1
    sweep.storage.write(key, b"{" if damage == "unreadable" else json.dumps(document).encode())
    if damage == "gone":
        sweep.storage.delete(key)

    assert len(read_state(sweep.storage, sweep.sweep_id).trials) == 2
    assert "the end of its journal may be missing" in caplog.text


def test_a_lost_first_segment_is_a_damaged_journal_and_no_missing_one(sweep: Any) -> None:
    sweep.storage.delete(layout.segment(sweep.sweep_id, 1))

    assert is_journalled(sweep.storage, sweep.sweep_id)
    with pytest.raises(DamagedError, match="segment 1 of sweep"):
        read_state(sweep.storage, sweep.sweep_id)


def test_a_lost_journal_is_damage_where_a_summary_is_left(sweep: Any) -> None:
    for info in list(sweep.storage.list(layout.journal(sweep.sweep_id))):
        sweep.storage.delete(info.key)

    assert is_journalled(sweep.storage, sweep.sweep_id)
    with pytest.raises(DamagedError, match="has 0 segments of"):
        read_state(sweep.storage, sweep.sweep_id)


def test_the_journal_of_another_sweep_is_named(sweep: Any, record_sweep: Recorder) -> None:
    other = record_sweep("other-20260102-030405-abcd")
    for info in list(sweep.storage.list(layout.journal(sweep.sweep_id))):
        name = info.key.rpartition("/")[2]
        sweep.storage.write(f"{layout.journal(other.sweep_id)}/{name}", sweep.storage.read(info.key))
    sweep.storage.delete(layout.summary(other.sweep_id))

    with pytest.raises(DamagedError, match=f"of the journal of sweep {sweep.sweep_id}, not of {other.sweep_id}"):
        read_state(sweep.storage, other.sweep_id)


def test_a_journal_of_before_is_read_and_whoever_resumes_it_chains_to_it(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    trial = sweep.trial(0, [5.0, 4.0])
    count = last(sweep)
    for number in range(1, count + 1):
        put(sweep, number, b"".join(segment(sweep, number).splitlines(keepends=True)[1:]))
    document = json.loads(sweep.storage.read(layout.summary(sweep.sweep_id)))
    del document["journal"], document["sha256"]
    sweep.storage.write(layout.summary(sweep.sweep_id), json.dumps(document).encode())
    assert list(read_state(sweep.storage, sweep.sweep_id).trials) == [trial]

    writer = JournalWriter(sweep.storage, sweep.sweep_id, next_segment=count + 1)
    writer.append(DriverStarted(time=1.0, driver_id="0", host="here", pid=1, resumed=True))
    writer.flush()
    assert len(read_state(sweep.storage, sweep.sweep_id).drivers) == 2

    put(sweep, count, segment(sweep, count).replace(b"4.0", b"1.0"))
    with pytest.raises(DamagedError, match="does not follow the segment before it"):
        read_state(sweep.storage, sweep.sweep_id)


def test_after_linked_segments_comes_none_without_a_link(sweep: Any) -> None:
    put(sweep, last(sweep) + 1, b'{"kind": "sweep_ended", "time": 1.0, "status": "completed", "wall_s": 1.0}\n')

    with pytest.raises(DamagedError, match="is not linked to the one before"):
        read_state(sweep.storage, sweep.sweep_id)


def test_the_driver_that_comes_second_says_who_has_the_sweep(sweep: Any) -> None:
    count = last(sweep)
    first, second = (JournalWriter(sweep.storage, sweep.sweep_id, next_segment=count + 1) for _ in range(2))
    for pid, writer in ((41, first), (42, second)):
        writer.append(DriverStarted(time=1.0, driver_id="0", host="there", pid=pid, resumed=True))
    first.flush()

    with pytest.raises(SweepOwnedError, match=r"by another driver \(process 41 on there\)"):
        second.flush()
