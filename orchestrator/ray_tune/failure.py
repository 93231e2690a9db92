"""Why an attempt failed, from the exception Tune has for it and from what the cluster says of its node."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ray import cloudpickle
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from agr_core.disk import is_full
from orchestrator.outcome import Cause

if TYPE_CHECKING:
    from ray.tune.experiment import Trial

_OUT_OF_MEMORY = re.compile(
    r"out of memory"  # CUDA, MPS, and what Ray says of a worker that its memory monitor ended
    r"|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED"
    r"|DefaultCPUAllocator: .*(can't|not enough) .*memory",  # a plain RuntimeError of torch
    re.IGNORECASE,
)


class WorkerOutOfMemoryError(RayActorError):  # type: ignore[misc]
    """Ray's memory monitor ended a worker."""


def error_of(trial: Trial) -> BaseException | None:
    """The exception Tune has just written into the trial's local folder (Tune itself looks in its storage)."""
    path = trial.pickled_error_file
    if path is None:
        return None
    with open(path, "rb") as file:  # noqa: PTH123 - Tune gives a string
        error: BaseException = cloudpickle.load(file)  # this process wrote it a moment ago
    return error


def cause_of(error: BaseException | None, *, node_lost: bool, hung: bool) -> Cause:
    """Why it failed; ``hung``: its worker was ended because nothing was heard of it."""
    if hung and not node_lost:  # of a node that is cut off nothing is heard either, and Ray may notice it later than we
        return "hung"
    raised = _raised(error)
    if is_out_of_memory(raised):
        return "out_of_memory"
    if is_full(raised):
        return "disk_full"
    if isinstance(raised, RayError):
        return "node_lost" if node_lost else "worker_died"
    return "error"


def one_line(error: BaseException | None) -> str:
    """Type and last line of what was raised."""
    raised = _raised(error)
    text = str(raised).strip().splitlines()
    return f"{type(raised).__name__}: {text[-1] if text else ''}"[:500]


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether a GPU or the machine had no more memory to give."""
    if isinstance(error, MemoryError) or is_of_a_crowd(error):
        return True
    return isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)) is not None


def is_of_a_crowd(error: BaseException | None) -> bool:
    """Whether the memory monitor ended a worker: all processes of its node together had used up the memory.

    A process that is refused memory asked for more than there can be, whoever shares the node.
    """
    return isinstance(_raised(error), OutOfMemoryError | WorkerOutOfMemoryError)


def _raised(error: BaseException | None) -> BaseException | None:
    return error.cause if isinstance(error, RayTaskError) and error.cause is not None else error
