from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from agr_core.errors import IntegrityError
from orchestrator.errors import SweepOwnedError
from orchestrator.ownership import boot_id, refuse_if_driven
from orchestrator.records import DriverStarted
from orchestrator.state import SweepState
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from sweeps import local, make_run, small_sweep

SWEEP = "small-20260101-000000-abcd"


def state_of(storage: Storage, *, host: str, pid: int, started: float, boot: str | None = None) -> SweepState:
    run = make_run(storage, small_sweep())
    state = SweepState(started=run.started)
    boot = boot_id() if boot is None else boot
    state.apply(DriverStarted(time=started, driver_id="d", host=host, boot=boot, pid=pid, resumed=False))
    return state


def write_heartbeat(storage: Storage, seconds_ago: float) -> None:
    storage.write(layout.summary(SWEEP), json.dumps({"heartbeat": time.time() - seconds_ago}).encode())


def test_a_driver_of_this_machine_that_lives_is_not_displaced(tmp_path: Path) -> None:
    storage = local(tmp_path)
    state = state_of(storage, host=socket.gethostname(), pid=os.getpid(), started=time.time())
    with pytest.raises(SweepOwnedError, match=f"process {os.getpid()}"):
        refuse_if_driven(storage, state)


def test_a_killed_driver_of_this_machine_is_displaced_at_once(tmp_path: Path) -> None:
    storage = local(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    process.kill()
    state = state_of(storage, host=socket.gethostname(), pid=process.pid, started=time.time())
    refuse_if_driven(storage, state)  # a zombie still, as its parent has not looked
    process.wait()
    refuse_if_driven(storage, state)


def test_a_process_that_took_over_the_drivers_number_is_no_driver(tmp_path: Path) -> None:
    storage = local(tmp_path)
    state = state_of(storage, host=socket.gethostname(), pid=os.getpid(), started=1.0)
    refuse_if_driven(storage, state)


def test_a_driver_elsewhere_counts_as_alive_until_it_is_silent(tmp_path: Path) -> None:
    storage = local(tmp_path)
    state = state_of(storage, host="another-machine", pid=1, started=time.time())
    write_heartbeat(storage, 5)
    with pytest.raises(SweepOwnedError, match="another-machine"):
        refuse_if_driven(storage, state)
    write_heartbeat(storage, 20)
    refuse_if_driven(storage, state)


def test_a_machine_of_the_same_name_is_another_machine(tmp_path: Path) -> None:
    """This one has no such process, which says nothing of that one's."""
    storage = local(tmp_path)
    state = state_of(storage, host=socket.gethostname(), pid=2**22 + 1, started=time.time(), boot="another")
    write_heartbeat(storage, 5)
    with pytest.raises(SweepOwnedError, match="heard of 5 s ago"):
        refuse_if_driven(storage, state)


def test_without_a_summary_its_driver_was_heard_of_when_it_started(tmp_path: Path) -> None:
    """Killed before it could write one; or an interrupted `agr rm` has removed it."""
    storage = local(tmp_path)
    with pytest.raises(SweepOwnedError, match="heard of 5 s ago"):
        refuse_if_driven(storage, state_of(storage, host="another-machine", pid=1, started=time.time() - 5))
    refuse_if_driven(storage, state_of(storage, host="another-machine", pid=1, started=time.time() - 20))


@pytest.mark.parametrize("summary", [b"{", b"[]", b"{}", b'{"heartbeat": "now"}'])
def test_a_summary_that_no_driver_writes_is_named(tmp_path: Path, summary: bytes) -> None:
    storage = local(tmp_path)
    storage.write(layout.summary(SWEEP), summary)
    with pytest.raises(IntegrityError, match=r"summary\.json is not a sweep's summary"):
        refuse_if_driven(storage, state_of(storage, host="another-machine", pid=1, started=1.0))
