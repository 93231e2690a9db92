"""Sweeps whose driver is another process: followed, and started so that it outlives the terminal."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import Result

from orchestrator.cli.process.background import BackgroundDriver
from orchestrator.cli.process.interrupts import interrupts_explained

Recorder = Callable[..., Any]

TINY = """
name: tiny
trial:
  data: {synthetic: {images: 200, size: 32}, source: synthetic}
  tasks: [age]
  image: {size: 32}
  schedule: {name: constant, epochs: 2}
  model: {name: basic_cnn, base_features: 4, hidden: 16}
space: {optimizer: [{name: nadam, lr: {loguniform: [1.0e-4, 1.0e-2]}}]}
search: {algorithm: random, trials: 2, seed: 7}
scheduler: none
objective: {metric: val/age_mae, direction: minimize}
"""


def test_attach_shows_a_sweep_that_is_over_with_its_result(record_sweep: Recorder, agr: Callable[..., Result]) -> None:
    sweep = record_sweep()
    best = sweep.trial(0, [9.0, 4.0])
    sweep.end()

    result = agr("attach", "faces")
    assert f"1/4  {best}  completed" in result.stderr
    assert f"{sweep.sweep_id}: completed" in result.stdout
    assert f"best: {best}" in result.stdout


def test_attach_follows_a_running_sweep_until_it_ends(record_sweep: Recorder, agr: Callable[..., Result]) -> None:
    sweep = record_sweep()
    sweep.now = time.time()
    first = sweep.trial(0, [9.0])
    later: list[str] = []

    def drive() -> None:
        time.sleep(1.5)
        sweep.now = time.time()
        later.append(sweep.trial(1, [4.0]))
        sweep.end()

    driver = threading.Thread(target=drive)
    driver.start()
    try:
        result = agr("attach", "faces")
    finally:
        driver.join()
    for trial in (first, *later):
        assert trial in result.stderr
    assert f"best: {later[0]}" in result.stdout


def test_attach_says_that_the_driver_is_gone(record_sweep: Recorder, agr: Callable[..., Result]) -> None:
    sweep = record_sweep()
    sweep.trial(0, [9.0])
    sweep.fall_silent()

    assert f"is gone. Continue with: agr resume {sweep.sweep_id}" in agr("attach", "faces", code=1).stderr


def test_a_background_driver_has_a_session_a_log_and_ignores_the_hang_up(tmp_path: Path) -> None:
    driver = BackgroundDriver(tmp_path / "logs" / "driver.log")
    driver.run(("ui",))  # MLflow's server, until it is ended
    pid = int(re.findall(r"process (\d+)", driver.where)[0])
    process = psutil.Process(pid)
    try:
        assert os.getsid(pid) == pid
        ignored = next(
            line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn")
        )
        assert int(ignored.split()[1], 16) & (1 << (signal.SIGHUP - 1))
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
        assert not driver.state().over
    finally:
        process.kill()
        process.wait()
    assert driver.state().over


def test_a_driver_that_never_began_is_reported_with_its_own_error(tmp_path: Path, agr: Callable[..., Result]) -> None:
    sweep = tmp_path / "missing.yaml"
    sweep.write_text(TINY.replace("source: synthetic", f"source: {tmp_path / 'nowhere'}"))

    said = agr("submit", str(sweep), "--detach", code=1).stderr
    assert re.search(r"driver: error: .*nowhere", said)
    assert "nothing was started" in said


@pytest.mark.slow
def test_a_detached_sweep_survives_its_terminal(
    tmp_path: Path, agr: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    command = [sys.executable, "-m", "orchestrator.cli.main", "submit", str(tmp_path / "tiny.yaml"), "--detach"]
    # A terminal of its own, which is closed as soon as the command has returned.
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        said, complained = process.communicate(timeout=300)
    os.close(theirs)
    os.close(ours)
    assert process.returncode == 0, complained.decode()
    sweep_id = said.decode().strip()

    result = agr("attach", sweep_id)
    assert f"{sweep_id}: completed" in result.stdout
    assert "2 completed" in result.stdout


def interrupted(times: int) -> subprocess.CompletedProcess[str]:
    """A process under ``interrupts_explained`` that needs a second to end, interrupted ``times``."""
    script = (
        "import os, signal, sys, time\n"
        "from orchestrator.cli.process.interrupts import interrupts_explained\n"
        "signal.signal(signal.SIGINT, lambda *_: None)\n"  # as Tune's handler, which only remembers it
        "with interrupts_explained('first', 'now'):\n"
        f"    for _ in range({times}):\n"
        "        os.kill(os.getpid(), signal.SIGINT); time.sleep(.2)\n"
        "    time.sleep(.5)\n"
        "print('ended in order')\n"
    )
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)


def test_the_first_ctrl_c_is_explained_and_the_second_ends_the_process() -> None:
    none, once, twice = interrupted(0), interrupted(1), interrupted(2)

    assert (none.returncode, none.stderr, none.stdout) == (0, "", "ended in order\n")
    assert (once.returncode, once.stderr, once.stdout) == (0, "first\n", "ended in order\n")
    assert (twice.returncode, twice.stderr, twice.stdout) == (130, "first\nnow\n", "")


def test_signals_are_left_as_they_were(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.set_wakeup_fd(-1)
    with interrupts_explained("first", "now"):
        pass
    assert signal.set_wakeup_fd(before) == -1
