"""Fixtures: a real MLflow server, and an embedded MLflow with prepared tables."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

_START_TIMEOUT_S = 90.0


@dataclass
class MlflowServer:
    """MLflow server on a free loopback port, with its database and artifacts below ``folder``."""

    folder: Path
    port: int
    _process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Return its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start or restart the server and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        options += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        options += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "mlflow.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *options],
                cwd=self.folder, env=environment, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        deadline = time.monotonic() + _START_TIMEOUT_S
        while True:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"MLflow does not answer:\n{(self.folder / 'mlflow.log').read_text()[-3000:]}")
                time.sleep(0.1)

    def stop(self) -> None:
        """Stop the server and its workers; no error if it is not running."""
        if self._process is not None:
            import psutil

            family = [self._process, *psutil.Process(self._process.pid).children(recursive=True)]
            for process in family:
                process.terminate()
            self._process.wait(timeout=20)
            psutil.wait_procs(family[1:], timeout=20)
            self._process = None


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """Return the MLflow server of this test session, started on first use. Tests must not stop it."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"), _free_port())
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_mlflow_server(tmp_path: Path) -> Iterator[MlflowServer]:
    """Return an MLflow server for this test only, not yet started."""
    server = MlflowServer(tmp_path / "mlflow", _free_port())
    yield server
    server.stop()


@pytest.fixture(scope="session")
def empty_mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an SQLite file with MLflow's tables, shared by parallel tests because creation takes seconds."""
    from orchestrator.tracking import open_tracker

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    path, unfinished = folder / "empty-mlflow.db", folder / "unfinished-mlflow.db"
    with FileLock(folder / "empty-mlflow.lock"):
        if not path.exists():
            unfinished.unlink(missing_ok=True)
            open_tracker(f"sqlite:///{unfinished}").runs("0", {})
            unfinished.rename(path)
    return path


@pytest.fixture
def embedded_mlflow(empty_mlflow_database: Path, clean_environment: None) -> None:
    """Return the empty embedded MLflow of this test."""
    home = Path(os.environ["AGR_HOME"])
    home.mkdir(parents=True)
    shutil.copy(empty_mlflow_database, home / "mlflow.db")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
