"""Sweeps that are killed, interrupted, stopped and fought over: nothing is lost, nothing doubled."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.driving import started_of
from orchestrator.ray_tune.driver import Engine, start_sweep
from orchestrator.settings import Settings
from orchestrator.spec.load import load_sweep
from orchestrator.storage import open_storage

pytestmark = pytest.mark.slow


SLOWER = {"data": {"source": "synthetic", "synthetic": {"images": 1500, "size": 32}}}
"""Epochs long enough to be caught in the middle of a trial."""

TRIALS = 14
STOPS = 4
"""Stops at most until one comes in the middle of a trial: on a fast machine the trial may end before."""


def file_of(agr: Any, name: str) -> str:
    trial = {
        **SLOWER,
        "tasks": ["age", "gender"],
        "image": {"size": 32},
        "batch_size": 60,
        "schedule": {"name": "cosine", "epochs": 5},
        "model": {"name": "basic_cnn", "conv_layers": 2, "base_features": 8, "hidden": 8},
    }
    path: str = agr.sweep_file(name=name, trial=trial)
    return path


@pytest.fixture(scope="module")
def undisturbed(shared_agr: Any, read_histories: Callable[..., Any]) -> list[dict[str, Any]]:
    """Driven from here: of this sweep nothing is looked at but what its trials reported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGR_HOME", str(shared_agr.home))
        settings = Settings.from_environment()
        engine = Engine(settings=settings, storage=open_storage(settings.storage), read_sealed=False)
        sweep = load_sweep(Path(file_of(shared_agr, "calm")))
        result = start_sweep(sweep, started_of(sweep), engine, on_begin=lambda: None)
    histories: list[dict[str, Any]] = read_histories(shared_agr.events(result.sweep_id))
    return histories


@pytest.fixture(scope="module")
def killed_and_stopped(shared_agr: Any, wait_until_half_trained: Callable[..., str]) -> str:
    """A sweep that in the middle of a trial was killed with -9, then stopped, then killed again, and resumed each time.

    The first driver has a Ray of its own, the others join a cluster.
    """
    driver = shared_agr.embedded().start("submit", file_of(shared_agr, "killed"))
    sweep_id = wait_until_half_trained(shared_agr, 3, sweep="killed")
    driver.kill()
    driver.wait()
    for _ in range(STOPS):
        ended = sum(event["kind"] == "trial_ended" for event in shared_agr.events(sweep_id))
        driver = shared_agr.start("resume", sweep_id)
        wait_until_half_trained(shared_agr, ended + 1, sweep="killed")
        shared_agr.run("stop", sweep_id[:-2])
        _, err = driver.communicate(timeout=60)
        assert driver.returncode == 0, err
        stopped = next(summary for summary in shared_agr.summaries() if summary["sweep_id"] == sweep_id)
        assert (stopped["status"], stopped["trials"]["running"]) == ("stopped", 0)
        if stopped["trials"]["interrupted"]:
            break
    assert stopped["trials"]["interrupted"] == 1
    ended = sum(event["kind"] == "trial_ended" for event in shared_agr.events(sweep_id))
    driver = shared_agr.start("resume", sweep_id)
    wait_until_half_trained(shared_agr, ended + 1, sweep="killed")
    driver.kill()
    driver.wait()
    assert shared_agr.json("resume", sweep_id)["status"] == "completed"
    return sweep_id


def test_every_trial_of_a_disturbed_sweep_ends_exactly_once(shared_agr: Any, killed_and_stopped: str) -> None:
    events = shared_agr.events(killed_and_stopped)
    created = [event["trial_id"] for event in events if event["kind"] == "trial_created"]
    ended = Counter(event["trial_id"] for event in events if event["kind"] == "trial_ended")
    resumed = Counter(event["trial_id"] for event in events if event["kind"] == "trial_resumed")
    assert len(created) == len(set(created)) == TRIALS
    assert ended - resumed == Counter(created)
    assert resumed.total() == 1
    assert sum(event["kind"] == "driver_started" for event in events) >= 4


def test_no_epoch_of_a_killed_sweep_is_journalled_twice(shared_agr: Any, killed_and_stopped: str) -> None:
    events = shared_agr.events(killed_and_stopped)
    epochs = Counter((event["trial_id"], event["epoch"]) for event in events if event["kind"] == "trial_reported")
    assert set(epochs.values()) == {1}


def test_a_killed_sweep_has_the_histories_of_an_undisturbed_one(
    shared_agr: Any, killed_and_stopped: str, undisturbed: list[dict[str, Any]], read_histories: Callable[..., Any]
) -> None:
    assert read_histories(shared_agr.events(killed_and_stopped)) == undisturbed


def test_a_killed_sweep_has_one_mlflow_run_for_each_trial(shared_agr: Any, killed_and_stopped: str) -> None:
    with sqlite3.connect(shared_agr.home / "mlflow.db") as database:
        rows = database.execute(
            "select t.value, r.status, r.lifecycle_stage from tags s"
            " join tags t on t.run_uuid = s.run_uuid and t.key = 'agr.trial_id' join runs r on r.run_uuid = s.run_uuid"
            " where s.key = 'agr.sweep_id' and s.value = ?",
            (killed_and_stopped,),
        ).fetchall()
    active = [trial for trial, _, stage in rows if stage == "active"]
    assert len(active) == len(set(active)) == TRIALS
    assert "RUNNING" not in {status for _, status, stage in rows if stage == "active"}


def test_a_killed_and_resumed_trial_is_trained_again_to_the_last_bit(shared_agr: Any, killed_and_stopped: str) -> None:
    trials = shared_agr.home / "storage" / "sweeps" / killed_and_stopped / "trials"
    attempts = Counter(path.parent.name for path in trials.glob("*/attempt-*"))
    resumed = [trial for trial, count in attempts.items() if count > 1]
    assert resumed, "no trial was caught in the middle"
    again = shared_agr.json("rerun", resumed[0])
    assert (again["identical"], again["max_abs_diff"]) == (True, 0.0)


@dataclass(frozen=True)
class Interrupted:
    """What was said to a second driver and by the first, which has a Ray of its own, when Ctrl-C ended it."""

    sweep_id: str
    refused: subprocess.CompletedProcess[str]
    code: int
    err: str


@pytest.fixture(scope="module")
def interrupted(shared_agr: Any, wait_until_ended: Callable[..., str]) -> Interrupted:
    file = shared_agr.sweep_file(name="interrupted", search={"algorithm": "random", "trials": 200, "seed": 1})
    driver = shared_agr.embedded().start("submit", file)
    try:
        sweep_id = wait_until_ended(shared_agr, 2, sweep="interrupted")
        refused = shared_agr.run("resume", sweep_id, code=1)
    finally:
        driver.send_signal(signal.SIGINT)
        _, err = driver.communicate(timeout=60)
    return Interrupted(sweep_id, refused, driver.returncode, err)


def test_a_second_driver_of_a_running_sweep_refuses(interrupted: Interrupted) -> None:
    assert "is being run by process" in interrupted.refused.stderr
    assert len(interrupted.refused.stderr.strip().splitlines()) == 1


def test_ctrl_c_keeps_the_state(shared_agr: Any, interrupted: Interrupted) -> None:
    assert interrupted.code == 130
    assert f"agr resume {interrupted.sweep_id}" in interrupted.err
    summary = next(summary for summary in shared_agr.summaries() if summary["sweep_id"] == interrupted.sweep_id)
    assert summary["status"] == "interrupted"


def test_a_wall_budget_ends_the_sweep_as_asked(agr: Any) -> None:
    file = agr.sweep_file(search={"algorithm": "random", "trials": 500, "seed": 1}, budget={"wall": "20s"})
    result = agr.json("submit", file, "--set", "trial.schedule.epochs=2")
    assert result["status"] == "completed"
    assert 20 <= result["wall_s"] < 60
    assert result["trials"]["interrupted"] <= 1
    assert result["trials"]["completed"] >= 1


def test_trials_that_all_fail_stop_the_sweep_with_the_error(agr: Any) -> None:
    # every loss is infinite from the first step on
    file = agr.sweep_file(
        space={"optimizer": {"name": "sgd", "lr": {"uniform": [1e30, 1e31]}}},
        search={
            "algorithm": "random",
            "trials": 3,
            "seed": 1,
        },
    )
    result = agr.json("submit", file, code=1)
    assert result["status"] == "failed"
    assert result["trials"]["diverged"] == 3
    assert result["best"] is None
