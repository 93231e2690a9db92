"""Background processes: start them in their own sessions, find them again by PID and start time, end them whole."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from orchestrator.errors import ServiceError
from orchestrator.services.record import ProcessRecord, private_opener

MARK = "AGR_STACK"
"""Environment variable of everything a stack starts; its value is the stack's folder."""

_INHERITED = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ")
"""The only variables that a service inherits from the shell: nothing of the user's AWS_*, MLFLOW_* or PG*."""

_POLL_S = 0.05

_CLOCK_S = 2.0
"""Times of creation are computed from the boot time, which shifts when the clock is set."""


@dataclass(frozen=True)
class Command:
    """Command line of a service."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    """Account to run under; None: our own. Only root can name another."""


def start(command: Command, *, folder: Path, log: Path) -> ProcessRecord:
    """Start a process that outlives this one and writes to ``log``; its working folder is ``folder``.

    Raises:
        ServiceError: If it cannot be started at all.
    """
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    environment |= {**command.environment, MARK: str(folder)}
    with open(log, "ab", opener=private_opener) as output:
        try:
            process = subprocess.Popen(
                command.arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=environment,
                start_new_session=True,  # Ctrl-C and the end of the terminal do not reach it
                user=command.user,
                group=command.user,
                extra_groups=None if command.user is None else [],
            )
        except OSError as error:
            who = f" as user {command.user}" if command.user else ""
            raise ServiceError(f"{command.arguments[0]} cannot be run{who}: {error.strerror}.") from error
    started = psutil.Process(process.pid)
    created = started.create_time()
    while not (line := _command_line(started)) and _runs(started):
        time.sleep(0.001)  # for a moment after the start it has none
    return ProcessRecord(pid=process.pid, created=created, command=line or command.arguments)


def find(record: ProcessRecord) -> psutil.Process | None:
    """Return the recorded process if it runs; None if it ended, even if another process has its PID now."""
    try:
        process = psutil.Process(record.pid)
        born = abs(process.create_time() - record.created) <= _CLOCK_S
        return process if born and _runs(process) and _command_line(process) == record.command else None
    except psutil.NoSuchProcess:
        return None


def family(record: ProcessRecord, folder: Path) -> list[psutil.Process]:
    """Return all processes of a service: the recorded one first, its descendants, and their orphans.

    Orphans are found by their session, whose ID is the PID of the recorded process, and by the stack's mark in their
    environment.
    """
    processes: dict[int, psutil.Process] = {}
    leader = find(record)
    if leader is not None:
        processes[leader.pid] = leader
        with suppress(psutil.NoSuchProcess):  # it ended just now; what it left is found below
            processes |= {child.pid: child for child in leader.children(recursive=True)}
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == record.pid and process.environ().get(MARK) == str(folder):
                processes.setdefault(process.pid, process)
        except (ProcessLookupError, PermissionError, psutil.Error):
            continue  # ended meanwhile, or not ours to look at
    return list(processes.values())


def end(record: ProcessRecord, *, folder: Path, ask: signal.Signals, grace_s: float) -> None:
    """End a service: signal its first process, then all that is left, then kill.

    Args:
        record: The process to end; nothing happens if it and all it started are gone.
        folder: The stack's folder.
        ask: The signal on which the first process ends in good order.
        grace_s: Seconds to wait after asking, twice, before killing.

    Raises:
        ServiceError: If something survives even that.
    """
    members = family(record, folder)
    leader = find(record)
    if leader is not None:
        _send(leader, ask)
        _outlive([leader], grace_s)
    alive = _outlive(members, 0)
    for number, seconds in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10.0)):
        for process in alive:
            _send(process, number)
        alive = _outlive(alive, seconds)
    if alive:
        numbers = ", ".join(str(process.pid) for process in alive)
        raise ServiceError(f"{record.command[0]}: processes {numbers} do not end even when killed.")


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):  # it ended, and perhaps another has its number by now
        process.send_signal(number)


def _command_line(process: psutil.Process) -> tuple[str, ...]:
    """Return program and arguments; empty for a process that has just begun, or ended."""
    try:
        return tuple(process.cmdline())
    except psutil.NoSuchProcess:
        return ()


def _runs(process: psutil.Process) -> bool:
    """Return whether it runs. A zombie does not, which init may take seconds to reap."""
    try:
        if process.status() != psutil.STATUS_ZOMBIE:
            return process.is_running()
        with suppress(psutil.TimeoutExpired):
            process.wait(0)  # were it our own child, we are the parent to notice
    except psutil.NoSuchProcess:
        pass
    return False


def _outlive(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Return those of ``processes`` that still run after ``seconds``; return early once none does."""
    deadline = time.monotonic() + seconds
    while alive := [process for process in processes if _runs(process)]:
        if time.monotonic() >= deadline:
            break
        time.sleep(_POLL_S)
    return alive


def last_lines(log: Path, count: int = 8) -> str:
    """Return the last ``count`` non-blank lines of a log, for an error message; empty without a log."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 16384))
        text = file.read().decode(errors="replace")
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])
