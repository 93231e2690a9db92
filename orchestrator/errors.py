"""Errors of the orchestrator, beside those of ``agr_core.errors``.

AgrError (agr_core)
├── InputError (agr_core)          exit code 2
│   ├── SpecError                  every problem of a sweep file, each with its place
│   ├── NotFoundError              no such sweep, trial, object
│   └── AmbiguousIdError           a prefix that fits several IDs
├── StorageError                   the object store refuses, or is not there
│   ├── StorageUnavailableError    it does not answer now; later it may
│   └── StorageFullError           no room for an object, there or where it is brought to; also a DiskFullError
├── AlreadyExistsError             an exclusive create came second
├── SweepOwnedError                another driver writes this sweep's journal
├── TrackerError                   MLflow refuses, or is not there
│   ├── TrackerUnavailableError    MLflow does not answer now; later it may
│   └── DeliveryOwnedError         another process delivers this sweep to MLflow
├── ServiceError                   a local service does not start or answer
├── ClusterError                   a Ray cluster refuses, or is not there
└── SweepFailedError               the sweep ended without a completed trial
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agr_core.errors import AgrError, DiskFullError, InputError


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong in a sweep file: where, and what was given, the rule, the way out.

    ``file`` is named where it is another than the sweep file itself: one that it extends.
    """

    line: int
    column: int
    path: str
    message: str
    file: str = ""

    def render(self, file: str) -> str:
        """``file:line:column: path: message``; without line and column where the value stands in no file (line 0)."""
        where = f"{self.path}: " if self.path else ""
        file = self.file or file
        place = f"{file}:{self.line}:{self.column}" if self.line else file
        return f"{place}: {where}{self.message}"


class SpecError(InputError):
    """A sweep file with problems; the text lists all of them, one a line."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.file, problem)))
        super().__init__("\n".join(problem.render(file) for problem in self.problems))


class NotFoundError(InputError):
    """There is no sweep, trial or object of that name."""


class AmbiguousIdError(InputError):
    """A prefix fits more than one ID; the text lists the candidates."""


class StorageError(AgrError):
    """The storage refuses or does not answer."""


class StorageUnavailableError(StorageError):
    """The storage does not answer, or says that it cannot now; the same call may succeed later."""


class StorageFullError(StorageError, DiskFullError):
    """There is no room for an object: in the storage's folder, or on this machine, to which it is brought."""


class AlreadyExistsError(AgrError):
    """An exclusive create found the object there already."""


class SweepOwnedError(AgrError):
    """Another driver writes this sweep's journal."""


class TrackerError(AgrError):
    """MLflow refuses or does not answer."""


class TrackerUnavailableError(TrackerError):
    """MLflow does not answer, or not in time; the same call may succeed later."""


class DeliveryOwnedError(TrackerError):
    """Another process of this machine delivers this sweep to MLflow."""


class ServiceError(AgrError):
    """A service of the local stack does not start or does not answer."""


class SweepFailedError(AgrError):
    """A sweep ended without what was asked of it."""


class ClusterError(AgrError):
    """A Ray cluster refuses, or is not there."""
