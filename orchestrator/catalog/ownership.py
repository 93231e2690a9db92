"""Ownership of a sweep by a driver, and the check before another driver takes it over.

A driver takes ownership by creating the next journal segment, which only one driver can do. Before that it reads the
journal to its end and calls ``refuse_if_driven`` with the result: if another driver writes in between, the segment
number is taken.
"""

from __future__ import annotations

import os
import secrets
import socket
from pathlib import Path
from typing import TypedDict, Unpack

import psutil

from orchestrator.catalog.liveness import Silences
from orchestrator.catalog.summary import LOST_AFTER_S, is_silent
from orchestrator.errors import SweepOwnedError
from orchestrator.journal.events import DriverStarted
from orchestrator.journal.sweep_state import SweepState
from orchestrator.storage.base import Storage


def refuse_if_driven(storage: Storage, state: SweepState, silences: Silences | None = None) -> None:
    """Raise ``SweepOwnedError`` if the sweep's last driver seems to be alive.

    A driver of this machine is alive if its process is; one of another machine if its last heartbeat is recent by the
    storage's clock. ``silences`` is for callers that check several sweeps.
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
    silence_s = (silences or Silences(storage)).of(sweep_id)
    if not is_silent(silence_s):
        raise SweepOwnedError(
            f"sweep {sweep_id} is being run on {driver.host}, last heartbeat {silence_s:.0f} s ago. Stop it with "
            f"`agr stop {sweep_id}`; if it was killed, try again after {LOST_AFTER_S:.0f} s without a heartbeat."
        )


class AboutDriver(TypedDict, total=False):
    """Fields of a driver's ``DriverStarted`` that are known before it takes the sweep; host to pid for simulations."""

    host: str
    boot: str
    pid: int
    restart: int
    drift: tuple[str, ...]


def this_driver(
    *, time: float, resumed: bool, previous_heartbeat: float | None = None, **about: Unpack[AboutDriver]
) -> DriverStarted:
    """Return the event with which this process takes a sweep."""
    process: AboutDriver = {"host": socket.gethostname(), "boot": boot_id(), "pid": os.getpid()}
    fields: AboutDriver = {**process, **about}
    return DriverStarted(
        time=time,
        driver_id=secrets.token_hex(4),
        resumed=resumed,
        previous_heartbeat=previous_heartbeat,
        host=fields["host"],
        boot=fields["boot"],
        pid=fields["pid"],
        restart=fields.get("restart", 0),
        drift=fields.get("drift", ()),
    )


def boot_id() -> str:
    """Return Linux's random ID of this machine's last boot, "" on other systems: rented machines may share a name."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text(encoding="ascii").strip() if path.exists() else ""


def _process_lives(driver: DriverStarted) -> bool:
    try:
        process = psutil.Process(driver.pid)
        # A process that began after the driver's event merely reuses its process ID.
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= driver.time
    except psutil.NoSuchProcess:
        return False
