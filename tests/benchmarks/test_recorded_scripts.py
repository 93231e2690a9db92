"""The scripts that read a recorded sweep: ``rerun_all.py`` trains it again, ``curves.py`` writes its curves down."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agr_core.config import TrialConfig
from orchestrator.assets.datasets import prepare_data
from orchestrator.journal.events import SweepEnded, TrialEnded, TrialReported
from orchestrator.journal.segments import read_state
from orchestrator.settings import Settings
from orchestrator.storage import open_storage
from orchestrator.worker.epochs import EpochSource
from orchestrator.worker.job import Job

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PARAMS: dict[str, Any] = {
    "data.synthetic.images": 60,
    "data.synthetic.size": 16,
    "image.size": 16,
    "tasks": ["age"],
    "model.conv_layers": 1,
    "model.base_features": 2,
    "model.hidden": 4,
    "schedule.epochs": 2,
}


@pytest.fixture
def sweep(record_sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A sweep of two trials, which were trained in this process; the second one's record says another figure."""
    monkeypatch.setenv("AGR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AGR_STORAGE", str(tmp_path / "storage"))
    storage = open_storage(str(tmp_path / "storage"))
    recorded = record_sweep()
    cache = Settings.from_environment().cache
    for number, lr in enumerate((0.001, 0.01)):
        params = {**PARAMS, "optimizer.lr": lr}
        document: dict[str, Any] = {"data": {"synthetic": {"images": 60, "size": 16}}}
        ref = prepare_data(TrialConfig.from_document(document).data, storage=storage, cache=cache)
        trial = recorded.create(number, params, **ref.model_dump(mode="json"))
        recorded.start(trial)
        created = read_state(storage, recorded.sweep_id).trials[trial].created
        values = []
        with closing(EpochSource(Job.of(created, recorded.started, storage=storage.uri))) as source:
            for epoch in (1, 2):
                report, value = source.next_epoch()
                metrics = dict(report.metrics)
                if number == 1 and epoch == 2:
                    metrics["val/age_mae"] += 0.5
                values.append(value)
                recorded.record(
                    TrialReported(
                        time=recorded.tick(), trial_id=trial, attempt=0, epoch=epoch, value=value, metrics=metrics
                    )
                )
        best = values.index(min(values)) + 1
        ended = {"outcome": "completed", "epochs": 2, "value": min(values), "best_epoch": best, "attempt": 0}
        recorded.record(TrialEnded(time=recorded.tick(), trial_id=trial, **ended))
    recorded.record(SweepEnded(time=recorded.tick(), status="completed", reason="", wall_s=60.0))
    return recorded


def script(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HERE / f"{name}.py"), *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_sweep_is_trained_again_and_the_differences_are_reported(sweep: Any) -> None:
    done = script("rerun_all", sweep.sweep_id)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    assert " identical " in lines[0]
    assert " different " in lines[1]
    assert "val/age_mae" in lines[2]
    assert "2 trials, 1 identical, 1 different" in lines[-1]


def test_curves_are_a_table_of_numbers(sweep: Any, tmp_path: Path) -> None:
    done = script("curves", sweep.sweep_id, "-o", str(tmp_path / "curves.csv"))
    assert done.returncode == 0, done.stderr
    with (tmp_path / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["model"], row["lr"], row["outcome"]) for row in rows] == [
        ("basic_cnn", "0.001", "completed"),
        ("basic_cnn", "0.01", "completed"),
    ]
    assert all(float(row["epoch_1"]) > 0 and float(row["epoch_2"]) > 0 for row in rows)
