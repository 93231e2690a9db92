"""A driver that dies is started again, a bounded number of times; one that ends, or is told to end, is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from orchestrator.cli.process.keeper import keep


def driver(tmp_path: Path, body: str) -> Callable[[int], tuple[str, ...]]:
    """A driver that notes each of its starts and then runs ``body``, which knows ``restart``."""
    note = f"open({str(tmp_path / 'starts')!r}, 'a').write(sys.argv[1] + '\\n')"
    script = f"import os, sys, time; restart = int(sys.argv[1]); {note}\n{body}"
    return lambda restart: (sys.executable, "-c", script, str(restart))


def starts(tmp_path: Path) -> list[str]:
    file = tmp_path / "starts"
    return file.read_text().split() if file.exists() else []


def test_a_killed_driver_is_started_again_and_its_end_is_that_of_the_last(tmp_path: Path) -> None:
    told: list[str] = []
    command = driver(tmp_path, "os.kill(os.getpid(), 9) if restart < 2 else sys.exit(3)")

    assert keep(command, tell=told.append, first_wait_s=0.01) == 3

    assert starts(tmp_path) == ["0", "1", "2"]
    assert told == [
        "the driver died of SIGKILL; in 0.01 s it is started again (1 of 5 times)",
        "the driver died of SIGKILL; in 0.02 s it is started again (2 of 5 times)",
    ]


def test_a_driver_that_always_dies_is_given_up(tmp_path: Path) -> None:
    told: list[str] = []

    code = keep(driver(tmp_path, "os.abort()"), tell=told.append, restarts=2, first_wait_s=0.01)

    assert code == 128 + signal.SIGABRT
    assert starts(tmp_path) == ["0", "1", "2"]
    assert told[-1] == "the driver died of SIGABRT and is not started again: it died 3 times."


@pytest.mark.parametrize("code", [0, 1, 2])
def test_a_driver_that_ends_with_an_error_of_its_own_stays_ended(tmp_path: Path, code: int) -> None:
    assert keep(driver(tmp_path, f"sys.exit({code})"), tell=pytest.fail, first_wait_s=0.01) == code
    assert starts(tmp_path) == ["0"]


def test_what_the_keeper_is_told_goes_to_the_driver_which_is_not_started_again(tmp_path: Path) -> None:
    def stop() -> None:
        while not starts(tmp_path):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop).start()
    assert keep(driver(tmp_path, "time.sleep(60)"), tell=pytest.fail) == 128 + signal.SIGTERM
    assert starts(tmp_path) == ["0"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_driver_does_not_outlive_its_keeper(tmp_path: Path) -> None:
    body = "from orchestrator.cli.process.keeper import keep; import sys; keep(lambda _: sys.argv[1:], tell=print)"
    command = driver(tmp_path, "time.sleep(60)")(0)
    keeper = subprocess.Popen([sys.executable, "-c", body, *command])
    while not starts(tmp_path):
        time.sleep(0.01)
    (child,) = psutil.Process(keeper.pid).children()

    keeper.kill()
    keeper.wait()

    child.wait(timeout=20)
