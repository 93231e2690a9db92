"""Journal lines of trials: what stands in them, and what code makes of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.journal.events import DataRef, Spent, SweepStarted, TrialCreated, dump_event, parse_event
from orchestrator.ray_tune.trainable import Job

DATA = DataRef(data_uri="s3://faces/datasets/d", data_digest="d" * 64, split_digest="5" * 64)

STAGE: dict[str, Any] = {"id": "pre", "key": "a" * 64} | DATA.model_dump()

LINE: dict[str, Any] = {
    "time": 1.0,
    "kind": "trial_created",
    "trial_id": "00000000",
    "number": 0,
    "configuration": 0,
    "config": {},
    "params": {},
    "proposal": {},
    "config_digest": "c" * 64,
    "data_digest": "d" * 64,
    "split_digest": "5" * 64,
    "data_uri": "s3://faces/datasets/d",
    "stages": [STAGE],
}


def test_a_trials_data_lies_flat_in_its_journal_line() -> None:
    """Journals are read by people and by versions of before: the three fields stay where they were."""
    created = parse_event(json.dumps(LINE))
    assert isinstance(created, TrialCreated)
    written = json.loads(dump_event(created))
    assert {name: written[name] for name in LINE} == LINE | {"stages": [STAGE | {"weights_sha256": None}]}
    assert created.data == DATA


@pytest.mark.parametrize("amount", ["usd", "gpu_hours", "wall_s"])
def test_a_sweep_has_used_no_less_than_nothing(amount: str) -> None:
    nothing = {"usd": 0.0, "gpu_hours": 0.0, "wall_s": 0.0}
    assert Spent(**nothing)
    with pytest.raises(ValidationError, match=f"{amount}\n  Input should be greater than or equal to 0"):
        Spent(**nothing | {amount: -0.5})


def test_equal_data_of_a_trial_and_of_its_stage_is_equal() -> None:
    created = parse_event(json.dumps(LINE))
    assert isinstance(created, TrialCreated)
    assert {created.data, *(stage.data for stage in created.stages)} == {DATA}


def test_a_job_arrives_at_a_worker_as_it_was_sent(record_sweep: Any) -> None:
    started: SweepStarted = record_sweep().started
    created = parse_event(json.dumps(LINE))
    assert isinstance(created, TrialCreated)
    job = Job.of(created, started, storage="/storage")
    assert json.loads(job.to_json())["data"] == DATA.model_dump()
    arrived = Job.from_json(job.to_json())
    assert arrived.data == DATA
    assert arrived.to_json() == job.to_json()
