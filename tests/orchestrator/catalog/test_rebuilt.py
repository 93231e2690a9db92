"""Summaries that are missing or damaged: made again from the journal, and no sweep hides another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestrator.catalog.rebuilt import Unreadable, read_summaries, rebuild_summary, summary_of
from orchestrator.catalog.summary import Summary, read_summary
from orchestrator.errors import NotFoundError
from orchestrator.storage import layout
from tests.parts.sweeps import local, make_run, small_sweep

Recorder = Callable[..., Any]
DAMAGED = [
    b"{",
    b"[]",
    b"{}",
    b"",
    b"\xff\xfe",
    b"[" * 100_000,
    b'{"heartbeat": NaN}',
    b'{"heartbeat": null, "status": "running"}',
    b'{"sweep_id": "../../../etc", "status": "running"}',
]


def test_what_is_rebuilt_is_what_the_driver_wrote(tmp_path: Any) -> None:
    storage = local(tmp_path)
    run = make_run(storage, small_sweep())
    run.begin()
    created = run.next_trial(1)
    assert created is not None
    run.attempt_started(created.trial_id, "node")
    run.end("interrupted")
    written = read_summary(storage, run.sweep_id)

    rebuilt = rebuild_summary(storage, run.sweep_id)

    assert rebuilt.spent is not None
    assert written.spent is not None
    assert (rebuilt.spent.usd, rebuilt.spent.gpu_hours) == (written.spent.usd, written.spent.gpu_hours)
    times = {"heartbeat": 0.0, "wall_s": 0.0, "spent": None}
    assert rebuilt.model_copy(update=times) == written.model_copy(update=times)
    assert rebuilt.wall_s == pytest.approx(written.wall_s, abs=0.1)


@pytest.mark.parametrize("text", [None, *DAMAGED], ids=range(len(DAMAGED) + 1))
def test_a_missing_or_damaged_summary_is_made_again_and_said(record_sweep: Recorder, text: bytes | None) -> None:
    sweep = record_sweep()
    best = sweep.trial(0, [5.0, 4.0])
    sweep.end()
    key = layout.summary(sweep.sweep_id)
    if text is None:
        sweep.storage.delete(key)
    else:
        sweep.storage.write(key, text)
    said: list[str] = []

    summary = summary_of(sweep.storage, sweep.sweep_id, warn=said.append)

    assert summary.best is not None
    assert (summary.best.trial_id, summary.best.value, summary.status) == (best, 4.0, "completed")
    (line,) = said
    assert "summary.json" in line
    assert "from its journal" in line


def test_summaries_come_newest_first_without_sweeps_that_only_begin(record_sweep: Recorder) -> None:
    old = record_sweep("z-20260102-030405-abcd")
    new = record_sweep("a-20260103-030405-abcd")
    new.now += 1e5
    new._events[0] = new.started = new.started.model_copy(update={"time": new.now})
    new.end()
    old.storage.write(f"{layout.control('b-20260104-030405-abcd')}/1.json", b"{}")

    found = list(read_summaries(old.storage))

    assert [each.sweep_id for each in found] == [new.sweep_id, old.sweep_id]
    assert all(isinstance(each, Summary) for each in found)


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_summary_hides_no_other(record_sweep: Recorder, text: bytes) -> None:
    broken, fine = record_sweep("a-20260102-030405-abcd"), record_sweep("b-20260102-030405-abcd")
    broken.storage.write(layout.summary(broken.sweep_id), text)
    heard: list[str] = []

    assert {each.sweep_id for each in read_summaries(fine.storage, warn=heard.append)} == {
        broken.sweep_id,
        fine.sweep_id,
    }
    assert len(heard) == 1


def test_a_sweep_that_cannot_be_read_at_all_is_named_and_hides_no_other(record_sweep: Recorder) -> None:
    broken, fine = record_sweep("a-20260102-030405-abcd"), record_sweep("b-20260102-030405-abcd")
    broken.storage.write(layout.summary(broken.sweep_id), b"{")
    broken.storage.delete(layout.segment(broken.sweep_id, 1))

    shown, unreadable = read_summaries(fine.storage)

    assert isinstance(shown, Summary)
    assert shown.sweep_id == fine.sweep_id
    assert isinstance(unreadable, Unreadable)
    assert unreadable.sweep_id == broken.sweep_id
    assert "segment 1" in str(unreadable.error)


def test_a_sweep_without_a_journal_is_not_found(record_sweep: Recorder) -> None:
    with pytest.raises(NotFoundError):
        summary_of(record_sweep().storage, "nothing-20260102-030405-abcd", warn=lambda _: None)
