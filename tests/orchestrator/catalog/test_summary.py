"""The summary of a sweep: what is written is read again, what is not a summary is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.catalog.summary import (
    LOST_AFTER_S,
    SummaryError,
    is_silent,
    read_summary,
    write_summary,
)
from orchestrator.errors import NotFoundError
from orchestrator.storage import layout

Recorder = Callable[..., Any]


def test_a_running_sweep_whose_driver_fell_silent_is_lost(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    summary = read_summary(sweep.storage, sweep.sweep_id)

    assert summary.status_after(LOST_AFTER_S) == "running"
    assert summary.status_after(LOST_AFTER_S + 1) == "lost"
    assert summary.document(LOST_AFTER_S + 1)["status"] == "lost"
    assert not is_silent(LOST_AFTER_S), "the rule by which another driver may take the sweep"
    assert is_silent(LOST_AFTER_S + 1)


def test_a_sweep_that_ended_is_never_lost(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    sweep.end("interrupted")

    assert read_summary(sweep.storage, sweep.sweep_id).status_after(1e6) == "interrupted"


def test_what_is_written_is_read_again(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    trial = sweep.trial(0, [5.0, 4.0])
    written = read_summary(sweep.storage, sweep.sweep_id).beaten(sweep.now + 100)
    write_summary(sweep.storage, written)

    assert read_summary(sweep.storage, sweep.sweep_id) == written
    assert (written.heartbeat, written.wall_s) == (sweep.now + 100, sweep.now + 100 - sweep.started.time)
    assert written.document(0.0)["best"] == {"trial_id": trial, "value": 4.0}


def test_a_summary_of_an_earlier_version_is_read(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    document = json.loads(sweep.storage.read(layout.summary(sweep.sweep_id)))
    for name in ("stages", "data", "quarantined", "test_reads", "journal", "sha256"):
        document.pop(name, None)
    sweep.storage.write(layout.summary(sweep.sweep_id), json.dumps(document).encode())

    summary = read_summary(sweep.storage, sweep.sweep_id)

    assert (summary.stages, summary.data, summary.quarantined, summary.test_reads) == ({}, {}, (), 0)


DAMAGED = [b"{", b"[]", b"{}", b'{"heartbeat": null, "status": "running"}', b'{"heartbeat": 1, "status": "running"}']


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_summary_is_named(record_sweep: Recorder, text: bytes) -> None:
    sweep = record_sweep()
    sweep.storage.write(layout.summary(sweep.sweep_id), text)

    with pytest.raises(SummaryError, match=rf"{sweep.sweep_id}/summary\.json is not a sweep's summary") as raised:
        read_summary(sweep.storage, sweep.sweep_id)
    assert raised.value.sweep_id == sweep.sweep_id


@pytest.mark.parametrize("change", [{"trials": {"completed": 1}}, {"of_a_later_version": 1}, {"status": "resting"}])
def test_a_summary_with_other_fields_than_this_version_knows_is_named_with_the_field(
    record_sweep: Recorder, change: dict[str, Any]
) -> None:
    sweep = record_sweep()
    document = json.loads(sweep.storage.read(layout.summary(sweep.sweep_id)))
    sweep.storage.write(layout.summary(sweep.sweep_id), json.dumps(document | change).encode())

    with pytest.raises(SummaryError, match=next(iter(change))):
        read_summary(sweep.storage, sweep.sweep_id)


def test_a_sweep_without_a_summary_is_not_found(record_sweep: Recorder) -> None:
    with pytest.raises(NotFoundError):
        read_summary(record_sweep().storage, "nothing-20260102-030405-abcd")


@pytest.mark.parametrize(
    "change", [{"best": {"trial_id": "deadbeef", "value": 0.001}}, {"planned": 5}, {"sha256": "0" * 64}]
)
def test_a_summary_that_was_changed_is_named(record_sweep: Recorder, change: dict[str, Any]) -> None:
    sweep = record_sweep()
    document = json.loads(sweep.storage.read(layout.summary(sweep.sweep_id)))
    sweep.storage.write(layout.summary(sweep.sweep_id), json.dumps(document | change).encode())

    with pytest.raises(SummaryError, match="sha256 does not match the other fields"):
        read_summary(sweep.storage, sweep.sweep_id)


def test_the_summary_of_another_sweep_is_named(record_sweep: Recorder) -> None:
    sweep, other = record_sweep("a-20260102-030405-abcd"), record_sweep("b-20260102-030405-abcd")
    sweep.storage.write(layout.summary(sweep.sweep_id), other.storage.read(layout.summary(other.sweep_id)))

    with pytest.raises(SummaryError, match="it is the summary of 'b-20260102-030405-abcd'"):
        read_summary(sweep.storage, sweep.sweep_id)
