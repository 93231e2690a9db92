"""Keep a driver running: start it again, a bounded number of times, if its process dies.

A driver on a cluster's head runs unattended, and the kernel may kill it when the head runs out of memory. A driver that
ends by itself, with an error or because it was told to, stays ended.
"""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

RESTARTS = 5
"""Largest number of times that a driver is started again."""

FIRST_WAIT_S = 5.0
"""Time before the first restart, in seconds; it doubles with each."""

_TOLD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1


def keep(
    command: Callable[[int], Sequence[str]],
    *,
    tell: Callable[[str], None],
    restarts: int = RESTARTS,
    first_wait_s: float = FIRST_WAIT_S,
) -> int:
    """Run a driver in a child process until it ends by itself; return its exit code.

    SIGTERM, SIGINT and SIGHUP are passed on to the driver, which is then not started again. If this process dies, the
    driver receives SIGTERM.

    Args:
        command: Returns the command line of the driver for the given number of restarts, from 0.
        tell: Called with a line about each death.
        restarts: Largest number of restarts.
        first_wait_s: Time before the first restart, in seconds.
    """
    with _forwarded() as told:
        for restart in range(restarts + 1):
            told.driver = subprocess.Popen(command(restart), start_new_session=True, preexec_fn=_end_with_parent())
            code = told.driver.wait()
            if code >= 0 or told.event.is_set() or -code in _TOLD:
                break
            name = signal.Signals(-code).name
            if restart == restarts:
                tell(f"the driver died of {name} and is not started again: it died {restarts + 1} times.")
                break
            wait_s = first_wait_s * 2**restart
            tell(f"the driver died of {name}; in {wait_s:g} s it is started again ({restart + 1} of {restarts} times)")
            if told.event.wait(wait_s):
                break
    return code if code >= 0 else 128 - code


class _Told:
    """What this process has been told by signals."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.driver: subprocess.Popen[bytes] | None = None

    def __call__(self, number: int, _: FrameType | None) -> None:
        self.event.set()
        if self.driver is not None and self.driver.returncode is None:
            self.driver.send_signal(number)


@contextmanager
def _forwarded() -> Iterator[_Told]:
    told = _Told()
    before = {number: signal.signal(number, told) for number in _TOLD}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_with_parent() -> Callable[[], None] | None:
    """Return a function for the child that asks Linux for SIGTERM when its parent dies; None on other systems."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # loaded before the fork
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
