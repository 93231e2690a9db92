"""The Ray of a driver: other machines cannot connect to it, and other programs' sweeps do not join it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

DRIVER = """
import json, logging, psutil, ray, sys
from orchestrator.ray_tune.session import start_ray, tune_environment
with tune_environment():
    start_ray(num_cpus=1, log_to_driver=False, logging_level=logging.CRITICAL)
ray.get(ray.remote(lambda: 1).remote())  # a worker listens too
me = psutil.Process()
sockets = [
    (process.name(), socket.laddr.ip)
    for process in (me, *me.children(recursive=True))
    for socket in process.net_connections("inet")
    if socket.status == psutil.CONN_LISTEN
]
print(json.dumps(sockets), flush=True)
sys.stdin.read()
ray.shutdown()
"""


@pytest.fixture(scope="module")
def driver() -> Iterator[list[tuple[str, str]]]:
    """The listening sockets of a driver's Ray, which runs meanwhile: process and address."""
    process = subprocess.Popen([sys.executable, "-c", DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    yield [(name, address) for name, address in json.loads(process.stdout.readline())]
    process.stdin.close()
    process.wait(timeout=60)


def test_every_socket_of_a_drivers_ray_listens_on_the_loopback_address(driver: list[tuple[str, str]]) -> None:
    assert {address.removeprefix("::ffff:") for _, address in driver} == {"127.0.0.1"}
    assert {"raylet", "gcs_server"} <= {name for name, _ in driver}


def test_a_sweep_does_not_join_the_ray_of_another_program(driver: list[tuple[str, str]], tmp_path: Path) -> None:
    """It would end with that program. RAY_ADDRESS=auto finds it all the same."""
    home = tmp_path / "home"
    command = [sys.executable, "-P", "-m", "orchestrator.cli.main", "submit", "sweeps/quickstart.yaml"]
    environment = {**os.environ, "RAY_ADDRESS": "auto", "AGR_HOME": str(home)}
    environment.pop("MLFLOW_TRACKING_URI", None)

    done = subprocess.run(
        command, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300
    )

    assert done.returncode == 2, done.stderr
    assert "belongs to another program on this machine and ends with it. Unset RAY_ADDRESS" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(home.glob("storage/sweeps/*")), "no sweep that looks alive"
