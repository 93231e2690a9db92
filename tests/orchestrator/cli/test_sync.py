"""``agr sync`` as people and drivers run it: processes of their own, MLflow's SQLite and a server that goes away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.settings import Settings
from orchestrator.tracking import open_tracker
from orchestrator.tracking.base import TrackedRun

Recorder = Callable[..., Any]


@pytest.fixture
def follow(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the driver's child process; all are ended with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(sweep: Any, *, prefix: tuple[str, ...] = (), **environment: str) -> subprocess.Popen[str]:
        command = [*prefix, sys.executable, "-m", "orchestrator.cli.main"]
        command += ["sync", sweep.storage.uri, "--follow", sweep.sweep_id]
        with (tmp_path / "sync.log").open("a") as log:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **environment}
            )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def runs(sweep: Any, uri: str | None = None) -> list[TrackedRun]:
    settings = Settings.from_environment()
    tracker = open_tracker(uri or settings.tracking_uri, settings.mlflow_artifacts)
    experiment_id = tracker.find_experiment("faces")
    return [] if experiment_id is None else tracker.runs(experiment_id, {"agr.sweep_id": sweep.sweep_id})


def eventually(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)


@pytest.mark.slow
def test_sync_fills_an_empty_mlflow_from_all_journals_and_doubles_nothing(record_sweep: Recorder) -> None:
    first, second = record_sweep(), record_sweep("faces-20260103-030405-beef")
    for sweep in (first, second):
        sweep.trial(0, [9.0, 7.0])
        sweep.trial(1, [8.0], "pruned")
        sweep.end()

    for _ in range(2):
        result = CliRunner().invoke(app, ["sync", first.storage.uri])
        assert result.exit_code == 0, result.output

    assert result.stdout == ""
    assert result.stderr.splitlines()[-2:] == [f"{sweep.sweep_id}: delivered" for sweep in (first, second)]
    for sweep in (first, second):
        assert sorted(run.status for run in runs(sweep)) == ["FINISHED", "FINISHED", "KILLED"]


def test_sync_refuses_an_mlflow_that_does_not_answer(record_sweep: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:hunter2@127.0.0.1:9")
    sweep = record_sweep()

    result = CliRunner().invoke(app, ["sync", sweep.storage.uri])

    assert result.exit_code == 1
    assert result.stderr.startswith("error: MLflow at http://127.0.0.1:9 does not answer")
    assert "agr stack up" in result.stderr
    assert "hunter2" not in result.output


@pytest.mark.slow
def test_the_follower_announces_the_run_delivers_what_comes_and_ends_with_the_sweep(
    record_sweep: Recorder, follow: Callable[..., subprocess.Popen[str]], embedded_mlflow: None
) -> None:
    sweep = record_sweep()
    process = follow(sweep)
    assert process.stdout is not None
    place = json.loads(process.stdout.readline())

    sweep.trial(0, [9.0, 7.0], files=True)
    eventually(lambda: any(run.tags.get("agr.outcome") == "completed" for run in runs(sweep)))
    assert process.poll() is None
    sweep.end()

    assert process.wait(timeout=60) == 0
    assert place.keys() == {"tracking_uri", "experiment_id", "run_id", "link"}
    assert {run.status for run in runs(sweep)} == {"FINISHED"}
    assert place["run_id"] in {run.run_id for run in runs(sweep)}
    assert process.stdout.read() == ""


@pytest.mark.slow
def test_the_follower_imports_neither_ray_nor_torch(record_sweep: Recorder, embedded_mlflow: None) -> None:
    sweep = record_sweep()
    sweep.trial(0, [9.0, 7.0], files=True)
    sweep.end()
    program = (
        "import sys, typer\n"
        "from orchestrator.cli.main import app\n"
        f"app(['sync', {sweep.storage.uri!r}, '--follow', {sweep.sweep_id!r}], standalone_mode=False)\n"
        "print(sorted({'ray', 'torch', 'timm', 'optuna'} & sys.modules.keys()))\n"
        "print('mlflow' in sys.modules)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-2:] == ["[]", "True"]


@pytest.mark.slow
def test_an_orphaned_follower_delivers_what_is_stored_and_ends(
    record_sweep: Recorder,
    follow: Callable[..., subprocess.Popen[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    embedded_mlflow: None,
) -> None:
    monkeypatch.chdir(tmp_path)
    sweep = record_sweep()
    trial = sweep.create(0)
    sweep.start(trial)
    # The shell is the driver. It lives until it is told to go, and says nothing about the sweep's end.
    shell = ("sh", "-c", '"$@" > announced & echo $! > pid; while ! [ -e go ]; do sleep 0.1; done', "sh")
    driver = follow(sweep, prefix=shell)
    eventually(lambda: Path("announced").exists() and Path("announced").read_text() != "")
    sweep.report(trial, 1, 9.0)
    Path("go").touch()
    driver.wait(timeout=60)

    pid = int(Path("pid").read_text())
    eventually(lambda: not _lives(pid))
    found = {run.tags["agr.kind"]: run for run in runs(sweep)}
    assert {kind: run.status for kind, run in found.items()} == {"sweep": "RUNNING", "trial": "RUNNING"}
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=Settings.from_environment().tracking_uri)
    assert client.get_run(found["trial"].run_id).data.metrics["val/age_mae"] == 9.0


def _lives(pid: int) -> bool:
    import psutil

    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.slow
@pytest.mark.services
def test_the_follower_outlives_a_server_that_is_down_at_first_and_restarted_in_the_middle(
    record_sweep: Recorder, follow: Callable[..., subprocess.Popen[str]], own_mlflow_server: Any
) -> None:
    server = own_mlflow_server
    sweep = record_sweep()
    sweep.trial(0, [9.0, 7.0])
    process = follow(sweep, MLFLOW_TRACKING_URI=server.uri)
    time.sleep(3)
    assert process.poll() is None

    server.start()
    eventually(lambda: len(runs(sweep, server.uri)) == 2)
    server.stop()
    sweep.trial(1, [8.0, 6.0])
    sweep.trial(2, [12.0], "pruned")
    sweep.end()
    time.sleep(3)
    assert process.poll() is None
    server.start()

    assert process.wait(timeout=120) == 0
    found = {run.tags.get("agr.number"): run.tags.get("agr.outcome") for run in runs(sweep, server.uri)}
    assert found == {None: None, "0": "completed", "1": "completed", "2": "pruned"}
    assert len(runs(sweep, server.uri)) == 4
