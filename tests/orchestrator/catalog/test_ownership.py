from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from orchestrator.catalog.liveness import Silences, storage_time
from orchestrator.catalog.ownership import boot_id, refuse_if_driven
from orchestrator.catalog.summary import LOST_AFTER_S, write_summary
from orchestrator.errors import StorageError, SweepOwnedError
from orchestrator.journal.events import DriverStarted
from orchestrator.journal.sweep_state import SweepState
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.storage.local import LocalStorage
from tests.parts.sweeps import local, make_run, small_sweep

SWEEP = "small-20260101-000000-abcd"


def state_of(storage: Storage, *, host: str, pid: int, started: float, boot: str | None = None) -> SweepState:
    run = make_run(storage, small_sweep())
    state = SweepState(started=run.started)
    boot = boot_id() if boot is None else boot
    state.apply(DriverStarted(time=started, driver_id="d", host=host, boot=boot, pid=pid, resumed=False))
    return state


def write_heartbeat(storage: Storage, seconds_ago: float, *, off_s: float = 0.0) -> None:
    """A driver whose clock is off by ``off_s`` gave a sign of life so long ago."""
    summary = make_run(storage, small_sweep()).summary("running")
    write_summary(storage, summary.beaten(time.time() + off_s - seconds_ago))
    set_back(storage, layout.summary(SWEEP), seconds_ago)


def set_back(storage: Storage, key: str, seconds: float) -> None:
    """Let an object have been written earlier, by the storage's clock."""
    then = time.time() - seconds
    os.utime(Path(storage.uri, key), (then, then))


def test_a_driver_of_this_machine_that_lives_is_not_displaced(tmp_path: Path) -> None:
    storage = local(tmp_path)
    state = state_of(storage, host=socket.gethostname(), pid=os.getpid(), started=time.time())
    with pytest.raises(SweepOwnedError, match=f"process {os.getpid()}"):
        refuse_if_driven(storage, state)


def test_a_killed_driver_of_this_machine_is_displaced_at_once(tmp_path: Path) -> None:
    storage = local(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    process.kill()
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:  # the signal may take a moment
        time.sleep(0.01)
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
    write_heartbeat(storage, LOST_AFTER_S - 5)
    with pytest.raises(SweepOwnedError, match="another-machine"):
        refuse_if_driven(storage, state)
    write_heartbeat(storage, LOST_AFTER_S + 5)
    refuse_if_driven(storage, state)


def test_a_machine_of_the_same_name_is_another_machine(tmp_path: Path) -> None:
    """This one has no such process, which says nothing of that one's."""
    storage = local(tmp_path)
    state = state_of(storage, host=socket.gethostname(), pid=2**22 + 1, started=time.time(), boot="another")
    write_heartbeat(storage, 5)
    with pytest.raises(SweepOwnedError, match="last heartbeat 5 s ago"):
        refuse_if_driven(storage, state)


def test_without_a_summary_its_driver_was_heard_of_when_it_wrote_its_journal(tmp_path: Path) -> None:
    """Killed before it could write one; or an interrupted `agr rm` has removed it."""
    storage = local(tmp_path)
    state = state_of(storage, host="another-machine", pid=1, started=1.0)
    refuse_if_driven(storage, state)  # it left no sign at all
    storage.write(layout.segment(SWEEP, 1), b"")
    set_back(storage, layout.segment(SWEEP, 1), 5)
    with pytest.raises(SweepOwnedError, match="last heartbeat 5 s ago"):
        refuse_if_driven(storage, state)
    set_back(storage, layout.segment(SWEEP, 1), LOST_AFTER_S + 5)
    refuse_if_driven(storage, state)


@pytest.mark.parametrize("off_s", [3600.0, -60.0, -3600.0])
def test_a_driver_whose_clock_is_off_lives_as_long_as_it_beats(tmp_path: Path, off_s: float) -> None:
    """Its own clock says nothing: an hour ahead it would be alive while dead, a minute behind dead while alive."""
    storage = local(tmp_path)
    state = state_of(storage, host="another-machine", pid=1, started=time.time() + off_s)
    write_heartbeat(storage, 5, off_s=off_s)
    with pytest.raises(SweepOwnedError, match="last heartbeat 5 s ago"):
        refuse_if_driven(storage, state)
    write_heartbeat(storage, LOST_AFTER_S + 5, off_s=off_s)
    refuse_if_driven(storage, state)


@pytest.mark.parametrize("summary", [b"{", b"[]", b"{}", b'{"heartbeat": "now"}'])
def test_a_summary_that_no_driver_writes_is_a_sign_of_life_all_the_same(tmp_path: Path, summary: bytes) -> None:
    storage = local(tmp_path)
    storage.write(layout.summary(SWEEP), summary)
    with pytest.raises(SweepOwnedError, match="another-machine"):
        refuse_if_driven(storage, state_of(storage, host="another-machine", pid=1, started=1.0))


def test_a_storage_that_may_only_be_read_is_judged_by_this_machines_clock(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class ReadOnly(LocalStorage):
        def write(self, key: str, data: bytes) -> None:
            raise StorageError(f"writing {key!r} is not allowed.")

    write_heartbeat(local(tmp_path), 5)
    storage = ReadOnly(Path(local(tmp_path).uri))
    assert Silences(storage).of(SWEEP) == pytest.approx(5, abs=2)
    assert "the clock of this machine is used" in caplog.text


def test_asking_for_the_storages_time_leaves_nothing(tmp_path: Path) -> None:
    storage = local(tmp_path)
    assert abs(storage_time(storage) - time.time()) < 5
    assert list(storage.list("")) == []
