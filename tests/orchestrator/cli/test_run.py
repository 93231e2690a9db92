"""``agr stop`` and ``agr kill``: what is asked of a driver, and what is refused since nobody would hear it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from orchestrator import provenance
from orchestrator.catalog import control
from orchestrator.storage.local import LocalStorage

Recorder = Callable[..., Any]


def commands(sweep: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(each.name, dict(each.arguments)) for each in control.pending(sweep.storage, sweep.sweep_id, obeyed=set())]


def test_stop_and_kill_leave_a_command_for_the_driver(record_sweep: Recorder, agr: Callable[..., Result]) -> None:
    sweep = record_sweep()
    trial = sweep.create(0)
    sweep.start(trial)

    agr("kill", trial)
    agr("stop", "faces")

    assert commands(sweep) == [("kill", {"trial_id": trial}), ("stop", {})]


@pytest.mark.parametrize("status", ["completed", "stopped", "failed", "interrupted"])
def test_a_sweep_without_a_driver_is_not_stopped(
    record_sweep: Recorder, agr: Callable[..., Result], status: str
) -> None:
    sweep = record_sweep()
    sweep.trial(0, [9.0])
    sweep.end(status)

    said = agr("stop", "faces", code=2).stderr

    assert f"is {status}: no driver runs it" in said
    assert commands(sweep) == []


@pytest.mark.parametrize("outcome", ["completed", "pruned"])
def test_a_trial_that_has_ended_is_not_killed(record_sweep: Recorder, agr: Callable[..., Result], outcome: str) -> None:
    sweep = record_sweep()
    trial = sweep.trial(0, [9.0], outcome)

    said = agr("kill", trial, code=2).stderr

    assert f"is {outcome}: there is nothing to end" in said
    assert commands(sweep) == []


SWEEP = """
name: tiny
trial:
  data: {source: synthetic, synthetic: {images: 40, size: 32}}
  image: {size: 32}
  model: {name: basic_cnn, base_features: 4, conv_layers: 2}
  schedule: {name: constant, epochs: 1}
search: {algorithm: random, trials: 1}
objective: {metric: val/age_mae, direction: minimize}
"""


@pytest.mark.slow
def test_a_start_that_fails_leaves_no_sweep(agr: Callable[..., Result], tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP)

    said = agr("submit", str(file), "--address", "127.0.0.1:1", code=2).stderr

    assert "--address 127.0.0.1:1: no answer within" in said
    storage = LocalStorage(tmp_path / "storage")
    assert storage.folders("sweeps") == ()
    assert storage.folders("starts") == ()


def test_a_folder_that_cannot_be_written_to_is_named_before_anything_is_prepared(
    agr: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP)
    monkeypatch.setenv("AGR_HOME", "/proc/agr")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")

    said = agr("submit", str(file), code=2).stderr

    assert "error: the folder /proc/agr cannot be written to" in said
    assert not (tmp_path / "storage").exists()


def test_resume_under_other_versions_says_what_differs(record_sweep: Recorder, agr: Callable[..., Result]) -> None:
    before = provenance.collect()
    before["packages"]["torch"] = "0.0.1"
    sweep = record_sweep(provenance=before)
    sweep.trial(0, [9.0])
    sweep.end("interrupted")

    said = agr("resume", "faces", "--address", "127.0.0.1:1", code=2).stderr

    assert [line for line in said.splitlines() if line.startswith("drift since the sweep began: ")] == [
        f"drift since the sweep began: torch: 0.0.1 -> {provenance.collect()['packages']['torch']}"
    ]
