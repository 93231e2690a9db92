"""Live view of a sweep that another process drives, read from its journal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from orchestrator.cli.common import say

if TYPE_CHECKING:
    from collections.abc import Callable

    from orchestrator.catalog.liveness import Silences
    from orchestrator.cli.render.progress import Progress
    from orchestrator.journal.events import SweepStarted
    from orchestrator.storage.base import Storage

_LOOK_S = 1.0
_BEGIN_S = 60.0


def follow(
    storage: Storage, sweep_id: str, *, again: str = "", driver_is_gone: Callable[[], bool] = lambda: False
) -> bool:
    """Show a sweep until it or its driver ends; return whether the sweep ended.

    Args:
        storage: Storage of its journal.
        sweep_id: The sweep.
        again: Options that ``agr resume`` needs to continue it, for messages.
        driver_is_gone: Whether its driver is known to have ended; otherwise a silent driver counts as lost.

    Raises:
        NotFoundError: If its driver does not start within a minute.
        KeyboardInterrupt: On Ctrl-C, after a message that the sweep continues.
    """
    from orchestrator.cli.render.progress import Progress

    progress = Progress(_wait_for_start(storage, sweep_id), None)
    try:
        with progress:
            ended = _hear(storage, sweep_id, progress, driver_is_gone)
    except KeyboardInterrupt:
        say(f"the view is closed; sweep {sweep_id} continues. `agr stop {sweep_id}` ends it.")
        raise
    if not ended:
        say(f"error: the driver of sweep {sweep_id} is gone. Continue with: agr resume {sweep_id}{again}")
    return ended


def _wait_for_start(storage: Storage, sweep_id: str) -> SweepStarted:
    """Wait for the first event and return it; a driver that prepares data writes it late."""
    from orchestrator.catalog.find import read_start
    from orchestrator.errors import NotFoundError

    until = time.monotonic() + _BEGIN_S
    while True:
        try:
            return read_start(storage, sweep_id)
        except NotFoundError:
            if time.monotonic() > until:
                raise
        time.sleep(_LOOK_S)


def _hear(storage: Storage, sweep_id: str, progress: Progress, driver_is_gone: Callable[[], bool]) -> bool:
    """Pass every event from the first on to ``progress``; return whether the sweep ended."""
    from orchestrator.catalog.liveness import Silences
    from orchestrator.journal.events import DriverStarted, SweepEnded
    from orchestrator.journal.segments import read_journal

    segment, ended, silences = 0, False, Silences(storage)
    while True:
        gone = driver_is_gone() or _is_lost(
            storage, sweep_id, progress, silences
        )  # checked before the read: afterwards no event is added
        for number, events in read_journal(storage, sweep_id, after_segment=segment):
            segment = number
            for event in events:
                if isinstance(event, SweepEnded | DriverStarted):
                    ended = isinstance(event, SweepEnded)
                progress(event)
        if ended or gone:
            return ended
        time.sleep(_LOOK_S)


def _is_lost(storage: Storage, sweep_id: str, progress: Progress, silences: Silences) -> bool:
    """Return whether its driver is silent; also update the number of planned trials in ``progress``."""
    from orchestrator.catalog.summary import read_summary
    from orchestrator.errors import NotFoundError

    try:
        summary = read_summary(storage, sweep_id)
    except NotFoundError:  # its driver has only just started
        return False
    progress.planned = summary.planned
    return summary.status_after(silences.of(sweep_id)) == "lost"
