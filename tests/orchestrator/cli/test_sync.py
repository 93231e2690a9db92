"""``agr sync`` as people and drivers run it: processes of their own, MLflow's SQLite and a server that goes away."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.settings import Settings
from orchestrator.storage import layout
from orchestrator.tracking import open_tracker
from orchestrator.tracking.base import TrackedRun
from orchestrator.tracking.exclusive import exclusive
from orchestrator.tracking.view import view_key

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


def test_sync_leaves_alone_what_another_process_delivers(record_sweep: Recorder, embedded_mlflow: None) -> None:
    mine, others = record_sweep(), record_sweep("faces-20260103-030405-beef")
    with exclusive(Settings.from_environment().home, others.sweep_id, timeout_s=0):
        result = CliRunner().invoke(app, ["sync", mine.storage.uri])

    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[-2:] == [
        f"{mine.sweep_id}: delivered",
        f"{others.sweep_id}: sweep {others.sweep_id} is being delivered by another process of this machine.",
    ]
    assert (len(runs(mine)), len(runs(others))) == (1, 0)


def test_sync_passes_over_a_sweep_that_has_no_journal_yet(record_sweep: Recorder, embedded_mlflow: None) -> None:
    sweep = record_sweep()
    sweep.storage.write("sweeps/early-20260101-000000-abcd/control/1.json", b"{}")

    result = CliRunner().invoke(app, ["sync", sweep.storage.uri])

    assert result.exit_code == 0, result.output
    assert "early-20260101-000000-abcd: there is no sweep" in result.stderr
    assert len(runs(sweep)) == 1


def test_sync_delivers_the_other_sweeps_when_mlflow_refuses_one(record_sweep: Recorder, embedded_mlflow: None) -> None:
    from mlflow import MlflowClient

    refused, fine = record_sweep(experiment="deleted"), record_sweep("faces-20260103-030405-beef")
    client = MlflowClient(tracking_uri=Settings.from_environment().tracking_uri)
    client.delete_experiment(client.create_experiment("deleted"))

    result = CliRunner().invoke(app, ["sync", fine.storage.uri])

    assert result.exit_code == 1
    assert "experiment 'deleted' was deleted in MLflow" in result.stderr
    assert result.stderr.splitlines()[-1] == f"error: 1 sweeps were not delivered: {refused.sweep_id}."
    assert len(runs(fine)) == 1


def test_sync_delivers_the_other_sweeps_when_a_journal_cannot_be_read(
    record_sweep: Recorder, embedded_mlflow: None
) -> None:
    broken, fine = record_sweep(), record_sweep("faces-20260103-030405-beef")
    broken.storage.write(layout.segment(broken.sweep_id, 3), b"{garbage")

    result = CliRunner().invoke(app, ["sync", fine.storage.uri])

    assert result.exit_code == 1
    assert f"{broken.sweep_id}: {broken.storage.uri}/{layout.segment(broken.sweep_id, 3)} is not" in result.stderr
    assert result.stderr.splitlines()[-1] == f"error: 1 sweeps were not delivered: {broken.sweep_id}."
    assert len(runs(fine)) == 1


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
def test_the_follower_imports_neither_ray_nor_torch_nor_optuna(record_sweep: Recorder, embedded_mlflow: None) -> None:
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


@pytest.mark.slow
def test_ui_serves_the_embedded_mlflow_until_it_is_ended(
    record_sweep: Recorder, embedded_mlflow: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    sweep = record_sweep()
    sweep.trial(0, [9.0])
    monkeypatch.setenv("AGR_STORAGE", sweep.storage.uri)
    assert CliRunner().invoke(app, ["sync"]).exit_code == 0

    command = [sys.executable, "-m", "orchestrator.cli.main", "ui"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    link = process.stdout.readline().strip()
    address = link.split("/#/")[0]
    with urllib.request.urlopen(f"{address}/version", timeout=10) as response:
        assert response.read().decode().startswith("3.")
    with urllib.request.urlopen(address, timeout=10) as response:
        assert b"mlflow.workflowType_v1" in response.read()
    rebound = urllib.request.Request(address, headers={"Host": "evil.example"})  # a page whose name means this machine
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(rebound, timeout=10)
    family = psutil.Process(process.pid).children(recursive=True)
    process.terminate()

    assert process.wait(timeout=60) == 0
    assert link.startswith("http://127.0.0.1:")
    assert view_key(sweep.sweep_id) in link
    assert len(family) > 0
    assert psutil.wait_procs(family, timeout=10)[1] == []


def test_ui_on_a_port_that_another_server_has_is_refused_and_not_shown(embedded_mlflow: None) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = CliRunner().invoke(app, ["ui", "--port", str(port)])

    assert result.exit_code == 2
    assert f"port {port} of 127.0.0.1 is taken" in result.stderr
    assert result.stdout == ""


def test_ui_of_a_server_that_is_down_says_so(record_sweep: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    sweep = record_sweep()

    result = CliRunner().invoke(app, ["ui", "--storage", sweep.storage.uri])

    assert result.exit_code == 1
    assert "MLflow at http://127.0.0.1:9 does not answer" in result.stderr


@pytest.mark.services
def test_ui_of_a_running_server_prints_the_newest_sweeps_link_and_ends(
    record_sweep: Recorder, monkeypatch: pytest.MonkeyPatch, mlflow_server: Any
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    sweep = record_sweep(experiment="ui")
    place = sweep.storage.uri

    assert CliRunner().invoke(app, ["ui", "--storage", place]).stdout.strip() == mlflow_server.uri
    assert CliRunner().invoke(app, ["sync", place]).exit_code == 0
    assert view_key(sweep.sweep_id) in CliRunner().invoke(app, ["ui", "--storage", place]).stdout

    record_sweep("tiny-20260601-000000-abcd", experiment="ui", rerun_of=f"{sweep.sweep_id}/0123abcd")
    assert CliRunner().invoke(app, ["sync", place]).exit_code == 0
    said = CliRunner().invoke(app, ["ui", "--storage", place]).stdout
    assert view_key(sweep.sweep_id) in said, "a re-run of one trial has no leaderboard worth a look"


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
