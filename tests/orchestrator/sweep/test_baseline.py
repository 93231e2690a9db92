"""The baseline of a split: journalled when the first trial on it reports, and once."""

from __future__ import annotations

from pathlib import Path

from orchestrator.journal.events import BaselineMeasured, Event
from orchestrator.journal.segments import read_events
from tests.parts.sweeps import Deaf, local, make_run, small_sweep

SWEEP = "small-20260101-000000-abcd"


def test_the_first_report_of_a_split_is_journalled_and_no_later_one(tmp_path: Path) -> None:
    heard: list[Event] = []
    run = make_run(local(tmp_path), small_sweep(), heard=heard)
    run.begin()
    for mae in (15.0, 16.0):
        created = run.next_trial(8)
        assert created is not None
        run.baseline_reported(created.trial_id, {"val/age_mae": mae})
    run.flush()
    measured = [event for event in heard if isinstance(event, BaselineMeasured)]
    assert [(event.split_digest, event.metrics) for event in measured] == [
        (created.split_digest, {"val/age_mae": 15.0})
    ]

    events, last = read_events(local(tmp_path), SWEEP)
    again = make_run(local(tmp_path), small_sweep(), next_segment=last + 1, heard=heard)
    again.replay(events, Deaf())
    created = again.next_trial(8)
    assert created is not None
    again.baseline_reported(created.trial_id, {"val/age_mae": 17.0})
    again.flush()
    assert [event for event in heard if isinstance(event, BaselineMeasured)] == measured
