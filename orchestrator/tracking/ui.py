"""Serve MLflow's web pages temporarily over a database without a server."""

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

from agr_core.errors import InputError
from orchestrator.errors import TrackerError
from orchestrator.listening import is_free
from orchestrator.tracking.address import database_uri
from orchestrator.tracking.opening_page import GUNICORN_OPTIONS

HOST = "127.0.0.1"
_START_TIMEOUT_S = 120.0
_END_TIMEOUT_S = 10.0


@contextmanager
def serve(uri: str, *, port: int | None, log: Path) -> Iterator[str]:
    """Serve the MLflow database at ``uri`` on this machine only; yield the address once it answers.

    Args:
        uri: ``sqlite:///FILE`` or ``postgresql://...``.
        port: The port; None: a free one.
        log: File to which the server's output is appended.

    Raises:
        InputError: If something listens on the port: another MLflow there would be taken for this one.
        TrackerError: If the server does not start.
    """
    if port is not None and not is_free(HOST, port):
        raise InputError(
            f"port {port} of {HOST} is taken, maybe by another MLflow, which would show its own database; choose "
            "another with --port, or leave it out for a free one."
        )
    port = _free_port() if port is None else port
    address = f"http://{HOST}:{port}"
    options = ("--host", HOST, "--port", str(port), "--workers", "1")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "mlflow", "server", *options, "--gunicorn-opts", GUNICORN_OPTIONS],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            # By environment, because every user of this machine can read the arguments of a process.
            env={
                **os.environ,
                "MLFLOW_BACKEND_STORE_URI": database_uri(uri),
                "MLFLOW_DISABLE_TELEMETRY": "true",
                "PYTHONSAFEPATH": "1",
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
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy for the loopback address
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with direct.open(f"{address}/health", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise TrackerError(f"MLflow does not start at {address}; its log is {log}. Is the port taken? Give another --port.")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the server and its worker processes."""
    if process.poll() is not None:
        return
    family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        member.terminate()
    _, alive = psutil.wait_procs(family, timeout=_END_TIMEOUT_S)
    for member in alive:
        member.kill()
    process.wait()
