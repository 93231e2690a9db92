"""State of the stack between commands: its folder, its ports, its processes.

Everything lies in ``AGR_HOME/stack``::

    stack.json        ports, chosen once, and the processes that were started
    s3-identities.json  accounts of the S3 store; the only copy of the generated credentials
    postgres/ s3/     data
    logs/             one file a service
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field, ValidationError

from agr_core.config import StrictModel
from orchestrator.errors import ServiceError
from orchestrator.listening import is_free

HOST = "127.0.0.1"
"""The stack never listens anywhere else: its PostgreSQL has no password and its MLflow no login."""

_FORMAT = 1
_PORTS = range(20000, 32000)
"""Below the range from which Linux and macOS take the ports of outgoing connections, so that a port that was free when
it was chosen is not lost to a passing connection."""


class ProcessRecord(StrictModel):
    """A started process, with its start time to detect a reused PID."""

    pid: int
    created: float = Field(description="When it was created, seconds since the epoch.")
    command: tuple[str, ...]


class StackRecord(StrictModel):
    """The content of ``stack.json``."""

    format: int = _FORMAT
    ports: dict[str, int] = Field(default_factory=dict)
    processes: dict[str, ProcessRecord] = Field(default_factory=dict, description="By name of the service.")


@dataclass(frozen=True)
class StackFolder:
    """Folder of the stack of one ``AGR_HOME``."""

    path: Path

    @property
    def record(self) -> Path:
        """File of ports and processes."""
        return self.path / "stack.json"

    @property
    def lock(self) -> Path:
        """Lock held while a command changes the stack."""
        return self.path / "lock"

    @property
    def identities(self) -> Path:
        """Accounts of the S3 store, in SeaweedFS's form."""
        return self.path / "s3-identities.json"

    def data(self, service: str) -> Path:
        """Return the data folder of a service."""
        return self.path / service

    @property
    def logs(self) -> Path:
        """Folder of the logs."""
        return self.path / "logs"

    def log(self, service: str) -> Path:
        """Return the log file of a service."""
        return self.logs / f"{service}.log"

    def read(self) -> StackRecord:
        """Read the record; an empty one if the stack was never up.

        Raises:
            ServiceError: If the record cannot be understood.
        """
        try:
            text = self.record.read_bytes()
        except FileNotFoundError:
            return StackRecord()
        try:
            record = StackRecord.model_validate_json(text)
        except ValidationError as error:
            raise ServiceError(
                f"{self.record} is damaged ({error.error_count()} problems). Delete it to choose new ports; the data "
                "stays. A service that still runs must be ended by hand first."
            ) from error
        if record.format != _FORMAT:
            raise ServiceError(
                f"{self.record} has format {record.format}, this agr writes {_FORMAT}: the folder belongs to another "
                "version of agr. Use that version, or another AGR_HOME."
            )
        return record

    def write(self, record: StackRecord) -> None:
        """Replace the record atomically."""
        write_private(self.record, record.model_dump_json(indent=2) + "\n")


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, atomically."""
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with open(part, "x", opener=private_opener, encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def private_opener(path: str, flags: int) -> int:
    """Open a file for ``open``, creating it with mode 600."""
    return os.open(path, flags, 0o600)


def choose_ports(names: Iterable[str], taken: Iterable[int] = ()) -> dict[str, int]:
    """Choose a free port for each name, different from each other and from ``taken``.

    Raises:
        ServiceError: If no free port can be found.
    """
    used = set(taken)
    chosen: dict[str, int] = {}
    for name in names:
        for _ in _PORTS:
            port = secrets.choice(_PORTS)
            if port not in used and is_free(HOST, port):
                break
        else:
            raise ServiceError(f"no free port from {_PORTS.start} to {_PORTS.stop - 1} on {HOST}.")
        used.add(port)
        chosen[name] = port
    return chosen
