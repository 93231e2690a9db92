"""Errors of the orchestrator, in addition to those of ``agr_core.errors``.

AgrError (agr_core)
├── InputError (agr_core)          exit code 2
│   ├── SpecError                  all problems of a sweep file, each with its position
│   ├── NotFoundError              no such sweep, trial, object
│   └── AmbiguousIdError           a prefix that fits several IDs
├── StorageError                   the object store refuses, or does not answer
│   ├── StorageUnavailableError    no answer now; a later call may succeed
│   └── StorageFullError           no room for an object, there or on this machine; also a DiskFullError
├── DamagedError                   an IntegrityError (agr_core): a stored document is not one that agr wrote
├── AlreadyExistsError             an exclusive create found the object
├── SweepOwnedError                another driver writes this sweep's journal
├── TrackerError                   MLflow refuses, or does not answer
│   ├── TrackerUnavailableError    no answer now; a later call may succeed
│   │   └── TrackerFaultError      internal error (500): its database, or the request
│   └── DeliveryOwnedError         another process delivers this sweep to MLflow
├── ServiceError                   a local service does not start or answer
├── ClusterError                   a Ray cluster refuses, or does not answer
└── SweepFailedError               the sweep ended without a completed trial
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agr_core.errors import AgrError, DiskFullError, InputError, IntegrityError


@dataclass(frozen=True, order=True)
class Problem:
    """One problem of a sweep file: position, value, rule and way out.

    ``file`` is set only if it differs from the sweep file itself: a file that it extends.
    """

    line: int
    column: int
    path: str
    message: str
    file: str = ""

    def render(self, file: str) -> str:
        """Return ``file:line:column: path: message``; without line and column if the value is in no file (line 0)."""
        where = f"{self.path}: " if self.path else ""
        file = self.file or file
        position = f"{file}:{self.line}:{self.column}" if self.line else file
        return f"{position}: {where}{self.message}"


MOST_SHOWN = 50
"""Number of problems that the text of a SpecError shows."""


class SpecError(InputError):
    """A sweep file has problems; ``problems`` has all of them, the text the first ``MOST_SHOWN``, one per line."""

    def __init__(self, file: str, problems: Sequence[Problem]) -> None:
        self.file = file
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.file, problem)))
        lines = [problem.render(file) for problem in self.problems[:MOST_SHOWN]]
        if len(self.problems) > MOST_SHOWN:
            lines.append(f"and {len(self.problems) - MOST_SHOWN:,} further problems; mend these first.")
        super().__init__("\n".join(lines))


class NotFoundError(InputError):
    """There is no sweep, trial or object of that name."""


class AmbiguousIdError(InputError):
    """A prefix fits more than one ID; the text lists the candidates."""


class StorageError(AgrError):
    """The storage refuses or does not answer."""


class StorageUnavailableError(StorageError):
    """The storage does not answer, or reports a temporary failure; the same call may succeed later."""


class StorageFullError(StorageError, DiskFullError):
    """There is no room for an object: in the storage's folder, or on this machine when fetching it."""


class DamagedError(IntegrityError):
    """A document read from a storage is damaged, forged, or of another version; the text names it and the problem."""


class AlreadyExistsError(AgrError):
    """An exclusive create found an existing object."""


class SweepOwnedError(AgrError):
    """Another driver writes this sweep's journal."""


class TrackerError(AgrError):
    """MLflow refuses or does not answer."""


class TrackerUnavailableError(TrackerError):
    """MLflow does not answer, or not in time; the same call may succeed later."""


class TrackerFaultError(TrackerUnavailableError):
    """MLflow reports an internal error (500): its database may be down, or it cannot take this request."""


class DeliveryOwnedError(TrackerError):
    """Another process of this machine delivers this sweep to MLflow."""


class ServiceError(AgrError):
    """A service of the local stack does not start or does not answer."""


class SweepFailedError(AgrError):
    """A sweep ended without a completed trial."""


class ClusterError(AgrError):
    """A Ray cluster refuses or does not answer."""
