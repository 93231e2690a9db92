"""Whether a sweep still has a driver, before another takes it over.

The journal is the guard that cannot be passed: two drivers cannot both write it. This check spares the user from
finding out that way.
"""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import psutil

from agr_core.errors import IntegrityError
from orchestrator.errors import NotFoundError, SweepOwnedError
from orchestrator.records import DriverStarted
from orchestrator.state import SweepState
from orchestrator.storage import layout
from orchestrator.storage.base import Storage

SILENT_S = 15.0
"""A driver on another machine counts as alive until it has been silent for so long (seconds); it beats every 5 s."""


def refuse_if_driven(storage: Storage, state: SweepState) -> None:
    """Raise ``SweepOwnedError`` if the sweep's last driver seems to be alive.

    A driver of this machine is alive if its process is; one of another machine if it was heard of lately.

    Raises:
        IntegrityError: If the sweep's summary is not the JSON a driver writes.
    """
    if state.ended is not None or not state.drivers:
        return
    sweep_id, driver = state.started.sweep_id, state.drivers[-1]
    if (driver.host, driver.boot) == (socket.gethostname(), boot_id()):
        if _process_lives(driver):
            raise SweepOwnedError(
                f"sweep {sweep_id} is being run by process {driver.pid} of this machine. "
                f"`agr status {sweep_id}` shows it; `agr stop {sweep_id}` ends it."
            )
        return
    silent = time.time() - _heard_of(storage, sweep_id, driver)
    if silent < SILENT_S:
        raise SweepOwnedError(
            f"sweep {sweep_id} is being run on {driver.host}, heard of {silent:.0f} s ago. Stop it with `agr stop "
            f"{sweep_id}`; if it was killed, try again when it has been silent for {SILENT_S:.0f} s."
        )


def _heard_of(storage: Storage, sweep_id: str, driver: DriverStarted) -> float:
    """When its last driver gave a sign of life, seconds since the epoch."""
    key = layout.summary(sweep_id)
    try:
        return float(json.loads(storage.read(key))["heartbeat"])
    except NotFoundError:  # killed before it could write one, or what an interrupted `agr rm` left
        return driver.time
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{storage.uri}/{key} is not a sweep's summary: {error}. Unless a driver runs, delete it."
        ) from error


def boot_id() -> str:
    """Linux's random ID of this machine's last start, "" on other systems: rented machines may share a host name."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text(encoding="ascii").strip() if path.exists() else ""


def _process_lives(driver: DriverStarted) -> bool:
    try:
        process = psutil.Process(driver.pid)
        # A process that began after the driver said so only has its number.
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= driver.time
    except psutil.NoSuchProcess:
        return False
