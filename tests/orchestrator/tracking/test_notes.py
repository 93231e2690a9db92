"""The descriptions of sweeps and trials in MLflow, and the report that lies with a sweep that ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.journal.events import BaselineMeasured
from orchestrator.journal.segments import read_state
from orchestrator.simulation.memory_tracker import MemoryTracker
from orchestrator.tracking.delivery import Syncer
from orchestrator.tracking.describe import rounded, source_tags
from orchestrator.tracking.notes import NOTE

Recorder = Callable[..., Any]


def parent(tracker: MemoryTracker) -> Any:
    return next(run for run in tracker.all_runs.values() if run.tags["agr.kind"] == "sweep")


def deliver(sweep: Any, tracker: MemoryTracker) -> Any:
    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()
    return parent(tracker)


def test_the_note_of_a_sweep_says_what_won_how_sure_that_is_and_what_to_type(record_sweep: Recorder) -> None:
    sweep, tracker = record_sweep(), MemoryTracker()
    sweep.record(BaselineMeasured(time=sweep.tick(), split_digest="5" * 64, metrics={"val/age_mae": 15.0}))
    second = sweep.trial(0, [6.0], params={"optimizer.lr": 0.1})
    first = sweep.trial(1, [4.123456], params={"optimizer.lr": 0.2})
    sweep.trial(2, [9.0], "pruned", params={"optimizer.lr": 0.3})
    assert "Running." in deliver(sweep, tracker).tags[NOTE]

    sweep.end()
    note = deliver(sweep, tracker).tags[NOTE]

    assert "Which small model reads faces best?" in note
    assert f"(`{first}`): age_mae 4.123, one seed, no stored predictions: no interval." in note
    assert "predictor has 15." in note
    assert "2 completed, 1 pruned; minimize val/age_mae" in note
    assert "**Cost.** 1 min of driver time" in note
    assert f"agr rerun {sweep.sweep_id}/{first} --storage {sweep.storage.uri}" in note
    assert f"agr compare {sweep.sweep_id}/{first} {sweep.sweep_id}/{second}" in note
    assert "Running." not in note


def test_a_sweep_without_a_completed_trial_has_a_note_that_says_so(record_sweep: Recorder) -> None:
    sweep, tracker = record_sweep(), MemoryTracker()
    sweep.trial(0, [], "failed")
    sweep.end("failed")
    assert "No trial completed." in deliver(sweep, tracker).tags[NOTE]


def test_the_note_of_a_trial_has_its_settings_and_the_command_of_its_re_run(record_sweep: Recorder) -> None:
    sweep, tracker = record_sweep(), MemoryTracker()
    trial = sweep.trial(0, [4.0], params={"optimizer.name": "sgd", "optimizer.lr": 0.25})
    deliver(sweep, tracker)
    run = next(run for run in tracker.all_runs.values() if run.tags.get("agr.trial_id") == trial)
    assert f"agr rerun {sweep.sweep_id}/{trial} --storage {sweep.storage.uri}" in run.tags[NOTE]
    assert "| `optimizer.lr` | 0.25 |" in run.tags[NOTE]
    experiment = tracker.experiment_tags[run.experiment_id]
    assert "Which small model reads faces best?" in experiment[NOTE]


def test_the_origin_of_sweep_and_trials_is_command_commit_and_user(record_sweep: Recorder) -> None:
    provenance = {"code": {"commit": "c" * 40, "dirty": False}}
    sweep, tracker = record_sweep(provenance=provenance, started_by="ada@lab"), MemoryTracker()
    sweep.trial(0, [4.0])
    deliver(sweep, tracker)
    origin = {
        "mlflow.source.type": "PROJECT",
        "mlflow.source.name": "agr submit faces",
        "mlflow.source.git.commit": "c" * 40,
        "mlflow.user": "ada@lab",
    }
    assert [{**run.tags, **origin} == run.tags for run in tracker.all_runs.values()] == [True, True]


def test_an_older_journal_names_no_user_and_a_rerun_its_trial(record_sweep: Recorder) -> None:
    sweep = record_sweep(rerun_of="faces-20260101-000000-beef/1a2b3c4d")
    assert source_tags(read_state(sweep.storage, sweep.sweep_id).started) == {
        "mlflow.source.type": "PROJECT",
        "mlflow.source.name": "agr rerun faces-20260101-000000-beef/1a2b3c4d",
    }


def test_figures_of_tables_have_four_digits_and_curves_all(record_sweep: Recorder) -> None:
    sweep, tracker = record_sweep(), MemoryTracker()
    trial = sweep.trial(0, [4.123456789])
    sweep.end()
    deliver(sweep, tracker)
    run = next(run for run in tracker.all_runs.values() if run.tags.get("agr.trial_id") == trial)
    assert run.curve("best/age_mae") == {1: 4.123}
    assert run.curve("val/age_mae") == {1: 4.123456789}
    assert [rounded(value) for value in (0.000123456, 123456.0, -0.5)] == [0.0001235, 123500.0, -0.5]


def test_the_data_of_a_sweep_is_shown_once_for_each_split(record_sweep: Recorder) -> None:
    sweep, tracker = record_sweep(), MemoryTracker()
    for number, split in enumerate(("5", "5", "6")):
        sweep.trial(number, [4.0], split_digest=split * 64)
    sweep.end()
    shown = deliver(sweep, tracker).data
    assert [(each.name, each.digest) for each in shown] == [
        ("d split 55555555", "d" * 32),
        ("d split 66666666", "d" * 32),
    ]
    assert shown[0].source == f"{sweep.storage.uri}/datasets/d"
