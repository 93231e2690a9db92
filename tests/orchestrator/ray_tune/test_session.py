"""What a driver changes of its process for Ray and Tune, it restores."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.ray_tune.session import tune_environment

CHANGED = "TUNE_PRINT_ALL_TRIAL_ERRORS"


@pytest.mark.parametrize("before", [None, "1"])
def test_the_environment_is_restored(monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    monkeypatch.delenv(CHANGED, raising=False)
    if before is not None:
        monkeypatch.setenv(CHANGED, before)
    found = dict(os.environ)
    with tune_environment():
        assert os.environ[CHANGED] == "0"
        with tune_environment():
            assert os.environ[CHANGED] == "0"
        assert os.environ[CHANGED] == "0", "of two sweeps at once the inner one restores what the outer one set"
    assert dict(os.environ) == found
    with pytest.raises(KeyboardInterrupt), tune_environment():
        raise KeyboardInterrupt
    assert dict(os.environ) == found


_DRIVER = """
import pathlib, signal, sys, time
from orchestrator.ray_tune.session import terminate_as_interrupt
words = pathlib.Path(sys.argv[1])
with terminate_as_interrupt():
    words.write_text("up")
    try:
        time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted", flush=True)  # on a terminal that is gone this would fail
        words.write_text("interrupted")
        time.sleep(0.2)
signal.raise_signal(signal.SIGHUP)  # it is sent more than once
words.write_text(words.read_text() + ", and ended by itself")
"""


def _wait_for(words: Path, text: str, process: subprocess.Popen[bytes]) -> None:
    while not (words.exists() and words.read_text().startswith(text)):
        assert process.poll() is None, "it ended before"
        time.sleep(0.05)


def test_a_terminal_that_closes_ends_a_driver_as_an_interrupt_does(tmp_path: Path) -> None:
    words = tmp_path / "words"
    terminal, its_side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n" + _DRIVER, words],
        stdin=its_side,
        stdout=its_side,
        stderr=its_side,
        start_new_session=True,
    )
    os.close(its_side)
    _wait_for(words, "up", process)

    os.close(terminal)

    assert process.wait(timeout=30) == 0
    assert words.read_text() == "interrupted, and ended by itself"


@pytest.mark.parametrize(("sent", "ended"), [(signal.SIGTERM, -signal.SIGHUP), (signal.SIGHUP, 0)])
def test_what_ends_a_driver_without_a_terminal_is_an_interrupt_too(
    tmp_path: Path, sent: signal.Signals, ended: int
) -> None:
    words = tmp_path / "words"
    process = subprocess.Popen([sys.executable, "-c", _DRIVER, words], stdout=subprocess.PIPE)
    _wait_for(words, "up", process)

    process.send_signal(sent)

    assert process.wait(timeout=30) == ended
    assert words.read_text().startswith("interrupted")


def test_a_driver_that_inherits_a_blocked_sigint_is_interrupted_too(tmp_path: Path) -> None:
    """As every driver does that Ray starts as a job."""
    words = tmp_path / "words"
    blocked = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})\n"
    process = subprocess.Popen([sys.executable, "-c", blocked + _DRIVER, words], stdout=subprocess.PIPE)
    _wait_for(words, "up", process)

    process.send_signal(signal.SIGTERM)

    assert process.wait(timeout=30) == -signal.SIGHUP
    assert words.read_text().startswith("interrupted")


def test_under_nohup_a_closing_terminal_ends_nothing(tmp_path: Path) -> None:
    words = tmp_path / "words"
    process = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + _DRIVER, words],
        stdout=subprocess.PIPE,
    )
    _wait_for(words, "up", process)

    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)

    process.wait(timeout=30)
    assert words.read_text() == "interrupted, and ended by itself", "by SIGTERM alone"
