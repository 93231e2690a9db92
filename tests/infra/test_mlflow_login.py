"""The MLflow server of infra/services, as its image starts it: a login is asked for, and ``agr`` works with one."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from orchestrator.errors import TrackerError
from orchestrator.tracking import open_tracker
from orchestrator.tracking.delivery import Syncer

pytestmark = [pytest.mark.slow, pytest.mark.services]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Guarded:
    """A running server, and its first account."""

    uri: str
    username: str
    password: str = field(repr=False)
    log: Path
    process: psutil.Process

    def log_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", self.username)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", self.password)

    def ask(self, path: str, login: tuple[str, str] | None, **body: Any) -> requests.Response:
        return requests.post(f"{self.uri}/api/2.0/mlflow/{path}", json=body, auth=login, timeout=30)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, empty_mlflow_database: Path) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    shutil.copy(empty_mlflow_database, folder / "mlflow.db")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    password = secrets.token_hex(12)
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "MLFLOW_PORT": str(port),
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
        "MLFLOW_AUTH_ADMIN_USERNAME": "ann",
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(12),
    }
    log = folder / "log"
    with log.open("wb") as out:
        started = subprocess.Popen(
            [str(ROOT / "infra/services/mlflow/start.sh")],
            cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    family = psutil.Process(started.pid)
    deadline = time.monotonic() + 180
    try:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except OSError:
                if started.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"MLflow with a login does not answer:\n{log.read_text()[-3000:]}")
                time.sleep(0.2)
        yield Guarded(f"http://127.0.0.1:{port}", "ann", password, log, family)
    finally:
        everyone = [family, *family.children(recursive=True)] if started.poll() is None else []
        for process in everyone:
            process.kill()
        started.wait(timeout=30)
        psutil.wait_procs(everyone[1:], timeout=30)


def test_a_sweep_arrives_with_a_login_and_other_accounts_see_nothing_of_it(
    guarded: Guarded, record_sweep: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    guarded.log_in(monkeypatch)
    sweep = record_sweep()
    sweep.trial(0, [9.0, 7.0])
    sweep.end()
    tracker = open_tracker(guarded.uri)
    tracker.check()
    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()

    experiment = tracker.find_experiment("faces")
    assert experiment is not None
    runs = tracker.runs(experiment, {"agr.sweep_id": sweep.sweep_id})
    found = [run for run in runs if "agr.trial_id" in run.tags]
    assert [run.tags["agr.outcome"] for run in found] == ["completed"]

    bob = ("bob", secrets.token_hex(12))
    created = guarded.ask("users/create", (guarded.username, guarded.password), username=bob[0], password=bob[1])
    assert created.ok, created.text
    asked = {"experiment_ids": [experiment]}
    assert not guarded.ask("runs/search", bob, **asked).json().get("runs")
    assert guarded.ask("runs/search", (guarded.username, guarded.password), **asked).json()["runs"]


@pytest.mark.parametrize("password", [None, "wrong"])
def test_without_the_login_the_error_names_the_variables_at_once(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch, password: str | None
) -> None:
    from mlflow.utils import request_utils

    if password is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", guarded.username)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    tracker = open_tracker(guarded.uri)
    for asking in (tracker.check, lambda: tracker.experiment("faces")):  # before a sweep, and in the middle of one
        request_utils._cached_get_request_session.cache_clear()  # gunicorn may lose a request after a refused POST
        with pytest.raises(TrackerError, match="MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"):
            asking()


def test_nobody_gets_in_without_a_login(guarded: Guarded) -> None:
    for path in ("", "ajax-api/2.0/mlflow/experiments/search?max_results=1", "api/2.0/mlflow-artifacts/artifacts"):
        assert requests.get(f"{guarded.uri}/{path}", timeout=30).status_code == 401, path
    assert guarded.ask("users/create", None, username="eve", password=secrets.token_hex(12)).status_code == 401


def test_the_password_is_in_no_command_line_and_not_in_the_log(guarded: Guarded) -> None:
    for process in (guarded.process, *guarded.process.children(recursive=True)):
        assert guarded.password not in " ".join(process.cmdline())
    assert guarded.password not in guarded.log.read_text()
