"""The files a run shows, where the storage has them and where it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agr_core.errors import IntegrityError
from orchestrator.journal.segments import read_state
from orchestrator.journal.sweep_state import attempt_folder
from orchestrator.storage import layout
from orchestrator.tracking.files import write_test_tables, write_trial_files, write_weights

Recorder = Callable[..., Any]


def written(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def write(sweep: Any, trial: str, folder: Path) -> list[str]:
    state = read_state(sweep.storage, sweep.sweep_id)
    write_trial_files(folder, sweep.storage, state.started, state.trials[trial], title="000 adam")
    return written(folder)


def test_the_files_are_those_of_the_attempt_that_reported_last(record_sweep: Recorder, tmp_path: Path) -> None:
    sweep = record_sweep()
    trial = sweep.create(0)
    for attempt in (0, 1):
        sweep.start(trial, attempt)
        sweep.write_files(trial, [9.0, 8.0], attempt)
        key = f"{layout.attempt(sweep.sweep_id, trial, attempt)}/log.txt"
        sweep.storage.write(key, f"attempt {attempt}".encode())
    sweep.report(trial, 1, 9.0, attempt=1)
    sweep.start(trial, 2)  # it died before its first epoch
    sweep.end_trial(trial, "interrupted", [9.0], attempt=1)
    (tmp_path / "out").mkdir()

    assert "plots/curves.png" in write(sweep, trial, tmp_path / "out")
    assert (tmp_path / "out" / "log.txt").read_text() == "attempt 1"


def test_a_trial_of_one_epoch_has_no_curve(record_sweep: Recorder, tmp_path: Path) -> None:
    sweep = record_sweep()
    trial = sweep.trial(0, [9.0], "pruned", files=True)
    (tmp_path / "out").mkdir()

    assert write(sweep, trial, tmp_path / "out") == [
        "log.txt",
        "metrics.jsonl",
        "plots/val_gender_confusion.png",
        "trial.json",
    ]


def test_a_trial_that_never_started_has_its_configuration(record_sweep: Recorder, tmp_path: Path) -> None:
    sweep = record_sweep()
    trial = sweep.create(0)
    sweep.end_trial(trial, "interrupted", [])
    (tmp_path / "out").mkdir()

    assert write(sweep, trial, tmp_path / "out") == ["trial.json"]
    document = json.loads((tmp_path / "out" / "trial.json").read_text())
    assert document["provenance"] == sweep.started.provenance
    assert attempt_folder(sweep.sweep_id, read_state(sweep.storage, sweep.sweep_id).trials[trial]) is None


@pytest.mark.parametrize("text", [b"{", b'{"epoch": 1}', b'{"epoch": 1, "metrics": {}, "surprise": 1}'])
def test_damaged_metrics_are_named(record_sweep: Recorder, tmp_path: Path, text: bytes) -> None:
    sweep = record_sweep()
    trial = sweep.trial(0, [9.0], files=True)
    sweep.storage.write(f"{layout.attempt(sweep.sweep_id, trial, 0)}/metrics.jsonl", text)

    with pytest.raises(IntegrityError, match=rf"{trial}/attempt-0/metrics\.jsonl is not a metrics file of a trial"):
        write(sweep, trial, tmp_path)


def test_weights_are_those_of_the_best_epoch_by_the_objective_and_by_each_label(
    record_sweep: Recorder, tmp_path: Path
) -> None:
    sweep = record_sweep()
    trial = sweep.trial(0, [9.0, 7.0, 8.0], files=True, kept_epochs={"first": 1})
    gone = sweep.trial(1, [9.0])
    state = read_state(sweep.storage, sweep.sweep_id)

    assert write_weights(tmp_path, sweep.storage, sweep.sweep_id, state.trials[trial])
    assert not write_weights(tmp_path, sweep.storage, sweep.sweep_id, state.trials[gone])

    assert (tmp_path / "weights" / "best.safetensors").read_text() == f"weights of {trial}, 2"
    assert (tmp_path / "weights" / "first.safetensors").read_text() == f"weights of {trial}, 1"
    assert json.loads((tmp_path / "weights" / "config.json").read_text()) == state.trials[trial].created.config


def test_confusion_matrices_of_the_test_part_are_pictures(record_sweep: Recorder, tmp_path: Path) -> None:
    sweep = record_sweep()
    trial = sweep.trial(0, [9.0])
    sweep.read_test(trial, {"test/age_mae": 9.5})

    (tmp_path / "out").mkdir()
    write_test_tables(tmp_path / "out", read_state(sweep.storage, sweep.sweep_id).trials[trial], title="000")

    assert written(tmp_path / "out") == ["plots/test_gender_confusion.png"]
