"""The local stack: PostgreSQL, an S3 store and an MLflow server that uses both, for one ``AGR_HOME``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from orchestrator.errors import ServiceError
from orchestrator.listening import is_free
from orchestrator.services.mlflow_server import MlflowServer
from orchestrator.services.postgres import Postgres
from orchestrator.services.process import end, family, find, last_lines, start
from orchestrator.services.record import HOST, StackFolder, StackRecord, choose_ports
from orchestrator.services.seaweedfs import REGION, SeaweedFS
from orchestrator.services.service import NotReadyError, Service
from orchestrator.settings import bypassing_proxies

State = Literal["up", "silent", "down"]
"""up: it answers; silent: it runs and does not answer; down: it does not run."""

_LOCK_S = 300.0
_POLL_S = 0.1


@dataclass(frozen=True)
class ServiceStatus:
    """Status of one service."""

    name: str
    state: State
    address: str
    pid: int | None
    log: Path
    problem: str = ""
    """Its answer or error if it is not ready."""


class Stack:
    """The three services below ``home/stack``.

    Args:
        home: ``AGR_HOME``.
        say: Prints progress and notes.
    """

    def __init__(self, home: Path, say: Callable[[str], None]) -> None:
        self.folder = StackFolder(home / "stack")
        self._say = say

    def up(self) -> list[str]:
        """Start the missing services and wait until all three answer; return the names of those started.

        Ports and data of earlier runs are reused. May be called at any time and from several processes at once.

        Raises:
            ServiceError: If a service cannot start or does not answer; what this call started is ended again.
        """
        try:
            self.folder.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._locked():
                return self._up(self.folder.read())
        except OSError as error:
            raise ServiceError(
                f"the stack cannot be kept in {self.folder.path} ({error.strerror}: {error.filename}). Choose an "
                "AGR_HOME on a disk of this machine where you may write."
            ) from error

    def down(self) -> list[str]:
        """End the services and all their processes; return the names of those that ran. The data stays.

        Raises:
            ServiceError: If something does not end even when killed.
        """
        if not self.folder.record.exists():
            return []
        with self._locked():
            record = self.folder.read()
            return self._end(self._services(record), record)

    def status(self) -> list[ServiceStatus]:
        """Return the current status of each service; changes nothing. Empty if the stack was never up."""
        record = self.folder.read()
        return [self._status_of(service, record) for service in self._services(record)] if record.ports else []

    def environment(self) -> dict[str, str]:
        """Return the variables that point a shell at the stack, secret included.

        Raises:
            ServiceError: If the stack was never up in this ``AGR_HOME``.
        """
        record = self.folder.read()
        _, s3, mlflow = self._services(record)
        credentials = s3.credentials()
        if credentials is None or not record.ports:
            raise ServiceError(f"there is no stack in {self.folder.path}: run `agr stack up` first.")
        return {
            "AWS_ENDPOINT_URL": s3.address,
            "AWS_ACCESS_KEY_ID": credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AGR_STORAGE": "s3://agr/agr",
            "MLFLOW_TRACKING_URI": mlflow.address,
            **bypassing_proxies(os.environ),
        }

    def _up(self, record: StackRecord) -> list[str]:
        services = self._services(record)
        names = [name for service in services for name in service.ports if name not in record.ports]
        record.ports.update(choose_ports(names, record.ports.values()))
        started: list[str] = []
        ready: set[str] = set()
        try:
            for service in services:
                for needed in services:
                    if needed.name in service.needs:
                        self._wait(needed, record, ready)
                if self._start(service, record):
                    started.append(service.name)
            for service in services:
                self._wait(service, record, ready)
        except BaseException:
            self._end([service for service in services if service.name in started], record)
            raise
        return started

    def _services(self, record: StackRecord) -> tuple[Postgres, SeaweedFS, MlflowServer]:
        """Return the services in start order."""
        postgres = Postgres(self.folder, self._say)
        s3 = SeaweedFS(self.folder, record.ports)
        return postgres, s3, MlflowServer(postgres, s3, record.ports)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = FileLock(self.folder.lock, mode=0o600)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self._say("another `agr stack` command is running; waiting for it")
            try:
                lock.acquire(timeout=_LOCK_S)
            except Timeout as error:
                raise ServiceError(
                    f"another `agr stack` command holds {self.folder.lock} for more than {_LOCK_S:.0f} s. End it, "
                    "then try again."
                ) from error
        try:
            yield
        finally:
            lock.release()

    def _start(self, service: Service, record: StackRecord) -> bool:
        """Start the service unless it runs; return whether it was started."""
        process_record = record.processes.get(service.name)
        if process_record is not None and find(process_record) is not None:
            return False
        if process_record is not None:
            # It died: what it left behind would hold its ports and files.
            end(process_record, folder=self.folder.path, ask=service.stop_signal, grace_s=service.grace_s)
            service.clean()
        for name in service.ports:
            port = record.ports[name]
            if not is_free(HOST, port):
                raise ServiceError(
                    f"port {port} of {service.name} in this stack is taken by another program. End that "
                    f"program; or run `agr stack down`, delete {self.folder.record} and run `agr stack up` for other "
                    "ports (the data stays)."
                )
        command = service.command()
        self._say(f"starting {service.name}")
        record.processes[service.name] = start(command, folder=self.folder.path, log=self.folder.log(service.name))
        self.folder.write(record)
        return True

    def _wait(self, service: Service, record: StackRecord, ready: set[str]) -> None:
        """Wait until the service answers and is complete; add its name to ``ready``, unless it is in there already."""
        if service.name in ready:
            return
        deadline = time.monotonic() + service.timeout_s
        log = self.folder.log(service.name)
        while True:
            try:
                service.check()
                service.complete()
                ready.add(service.name)
                return
            except NotReadyError as error:
                problem = str(error)
            if find(record.processes[service.name]) is None:
                raise ServiceError(f"{service.name} ended while starting. The end of {log}:\n{last_lines(log)}")
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"{service.name} runs but does not answer after {service.timeout_s:.0f} s: {problem}. Try "
                    f"`agr stack down` and `agr stack up`. The end of {log}:\n{last_lines(log)}"
                )
            time.sleep(_POLL_S)

    def _end(self, services: Sequence[Service], record: StackRecord) -> list[str]:
        """End the given services, last started first; return the names of those that ran."""
        ended = []
        for service in reversed(services):
            process_record = record.processes.pop(service.name, None)
            if process_record is None:
                continue
            if family(process_record, self.folder.path):
                self._say(f"ending {service.name}")
                end(process_record, folder=self.folder.path, ask=service.stop_signal, grace_s=service.grace_s)
                ended.append(service.name)
            service.clean()
            self.folder.write(record)
        return ended

    def _status_of(self, service: Service, record: StackRecord) -> ServiceStatus:
        process_record = record.processes.get(service.name)
        process = find(process_record) if process_record is not None else None
        log = self.folder.log(service.name)
        if process is None:
            return ServiceStatus(service.name, "down", service.address, None, log)
        try:
            service.check()
        except NotReadyError as error:
            return ServiceStatus(service.name, "silent", service.address, process.pid, log, str(error))
        return ServiceStatus(service.name, "up", service.address, process.pid, log)
