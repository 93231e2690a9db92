"""Ctrl-C while a driver runs: the first prints what happens and how long it takes, the second ends the process.

Python's signal handlers stay unchanged, because Tune and the driver install and restore their own. Each signal is also
written to a pipe (``signal.set_wakeup_fd``), which a thread reads.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from orchestrator.cli.common import EXIT_INTERRUPTED, say

_SHOW_CURSOR = "\x1b[?25h"


@contextmanager
def interrupts_explained(first: str, now: str) -> Iterator[None]:
    """Print a message on Ctrl-C within the block. Outside the main thread this has no effect.

    Args:
        first: Message at the first Ctrl-C.
        now: Message at the second, before the process ends with exit code 130.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    thread = threading.Thread(target=_listen, args=(reading, first, now), name="ctrl-c", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.close(writing)  # end of file stops the thread
        thread.join()
        os.close(reading)


def _listen(reading: int, first: str, now: str) -> None:
    """Count the interrupts among the signals read from ``reading``, until its other end is closed."""
    interrupts = 0
    while received := os.read(reading, 64):
        for number in received:
            if number != signal.SIGINT:
                continue
            interrupts += 1
            if interrupts == 1:
                say(first)
                continue
            if sys.stderr.isatty():
                sys.stderr.write(_SHOW_CURSOR)
            say(now)
            sys.stderr.flush()
            os._exit(EXIT_INTERRUPTED)  # without cleanup; Ray's processes end with this one
