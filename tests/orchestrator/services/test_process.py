from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from orchestrator.errors import ServiceError
from orchestrator.services.process import Command, end, family, find, last_lines, start
from orchestrator.services.record import ProcessRecord

Start = Callable[..., ProcessRecord]

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; print('child', flush=True); time.sleep(100)"])
time.sleep(100)
"""


@pytest.fixture
def start_python(tmp_path: Path) -> Iterator[Start]:
    records = []

    def begin(code: str, **environment: str) -> ProcessRecord:
        record = start(
            Command((sys.executable, "-c", code), environment=environment), folder=tmp_path, log=tmp_path / "log"
        )
        records.append(record)
        return record

    yield begin
    for record in records:
        end(record, folder=tmp_path, ask=signal.SIGKILL, grace_s=1)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_process_is_found_again_in_a_session_of_its_own(start_python: Start) -> None:
    record = start_python("import time; time.sleep(100)")
    process = find(record)
    assert process is not None
    assert process.pid == record.pid
    assert os.getsid(record.pid) == record.pid != os.getsid(0)


def test_a_process_that_ended_is_not_found(start_python: Start) -> None:
    record = start_python("")
    wait_for(lambda: find(record) is None)


def test_another_process_under_the_same_number_is_not_taken_for_ours_nor_ended(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "import time; time.sleep(100)")
    stranger = subprocess.Popen(command)
    try:
        created = psutil.Process(stranger.pid).create_time()
        of_another_time = ProcessRecord(pid=stranger.pid, created=created - 60, command=command)
        of_another_program = ProcessRecord(pid=stranger.pid, created=created, command=("weed", "server"))
        for record in (of_another_time, of_another_program):
            assert find(record) is None
            end(record, folder=tmp_path, ask=signal.SIGTERM, grace_s=0.1)
        assert stranger.poll() is None
        wait_for(lambda: find(ProcessRecord(pid=stranger.pid, created=created, command=command)))
    finally:
        stranger.kill()
        stranger.wait()


def test_children_end_with_their_parent(start_python: Start, tmp_path: Path) -> None:
    record = start_python(PARENT)
    wait_for(lambda: "child" in (tmp_path / "log").read_text())
    members = family(record, tmp_path)
    assert len(members) == 2
    end(record, folder=tmp_path, ask=signal.SIGTERM, grace_s=5)
    assert family(record, tmp_path) == []
    assert not any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in members)


def test_children_whose_parent_was_killed_are_still_known_and_ended(start_python: Start, tmp_path: Path) -> None:
    record = start_python(PARENT)
    wait_for(lambda: "child" in (tmp_path / "log").read_text())
    os.kill(record.pid, signal.SIGKILL)
    wait_for(lambda: find(record) is None)
    (orphan,) = family(record, tmp_path)
    assert family(record, tmp_path / "another stack") == []
    end(record, folder=tmp_path, ask=signal.SIGTERM, grace_s=5)
    assert family(record, tmp_path) == []
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE


def test_who_does_not_listen_is_killed_after_the_grace_time(start_python: Start, tmp_path: Path) -> None:
    record = start_python(
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(100)"
    )
    wait_for(lambda: "deaf" in (tmp_path / "log").read_text())
    begun = time.monotonic()
    end(record, folder=tmp_path, ask=signal.SIGTERM, grace_s=0.2)
    assert find(record) is None
    assert 0.4 <= time.monotonic() - begun < 5


def test_a_process_sees_nothing_of_the_callers_settings(
    start_python: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_PROFILE", "MLFLOW_TRACKING_URI", "PGHOST", "GUNICORN_CMD_ARGS"):
        monkeypatch.setenv(name, "of the caller")
    record = start_python("import os; print(sorted(os.environ), os.environ['GIVEN'])", GIVEN="to the service")
    wait_for(lambda: find(record) is None)
    printed = (tmp_path / "log").read_text()
    assert "to the service" in printed
    assert not any(name in printed for name in ("AWS_", "MLFLOW_", "PGHOST", "GUNICORN"))


def test_logs_are_private_and_appended_to(start_python: Start, tmp_path: Path) -> None:
    for word in ("first", "second"):
        record = start_python(f"print({word!r})")
        wait_for(lambda record=record: find(record) is None)
    assert (tmp_path / "log").read_text().split() == ["first", "second"]
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o600


def test_a_program_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"/no/such/program cannot be run: No such file"):
        start(Command(("/no/such/program",)), folder=tmp_path, log=tmp_path / "log")


def test_last_lines_are_those_that_say_something(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_lines(log) == ""
    log.write_text("".join(f"line {number}\n\n" for number in range(10_000)))
    assert last_lines(log, 2) == "line 9998\nline 9999"
