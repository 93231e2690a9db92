"""MLflow's web pages over a database without a server, for as long as somebody looks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from orchestrator.errors import TrackerError
from orchestrator.tracking.address import database_uri

HOST = "127.0.0.1"
_START_TIMEOUT_S = 120.0
_END_TIMEOUT_S = 10.0


@contextmanager
def serve(uri: str, *, port: int | None, log: Path) -> Iterator[str]:
    """Serve the MLflow database at ``uri`` on this machine only; yields the address once it answers.

    Args:
        uri: ``sqlite:///FILE`` or ``postgresql://...``.
        port: None takes a free one.
        log: File that the server's words are added to.

    Raises:
        TrackerError: If the server does not start.
    """
    port = _free_port() if port is None else port
    address = f"http://{HOST}:{port}"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            # By environment, because every user of this machine can read the arguments of a process.
            env={
                **os.environ,
                "MLFLOW_BACKEND_STORE_URI": database_uri(uri),
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            },
            start_new_session=True,
        )
    try:
        _wait(process, address, log)
        yield address
    finally:
        _end(process)


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=2):  # noqa: S310 - our own address
                return
        except OSError:
            time.sleep(0.1)
    raise TrackerError(f"MLflow does not start at {address}; its log is {log}. Is the port taken? Give another --port.")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and the workers it started."""
    if process.poll() is not None:
        return
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.terminate()
    _, alive = psutil.wait_procs(family, timeout=_END_TIMEOUT_S)
    for member in alive:
        member.kill()
    process.wait()
