"""Find the cause of a failed attempt, from Tune's exception and the cluster's state of its node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray import cloudpickle
from ray.exceptions import OutOfMemoryError, RayActorError, RayError, RayTaskError

from agr_core import out_of_memory
from agr_core.disk import is_full
from agr_core.errors import ModelError, PluginError
from orchestrator.journal.outcome import Cause
from orchestrator.sweep.failures import cause_of_lost_worker

if TYPE_CHECKING:
    from ray.tune.experiment import Trial


class WorkerOutOfMemoryError(RayActorError):  # type: ignore[misc]
    """Ray's memory monitor ended a worker."""


def error_of(trial: Trial) -> BaseException | None:
    """Return the exception that Tune has just written into the trial's local folder (Tune itself reads its storage)."""
    path = trial.pickled_error_file
    if path is None:
        return None
    with open(path, "rb") as file:  # noqa: PTH123 - Tune gives a string
        error: BaseException = cloudpickle.load(file)  # just written by this process
    return error


def cause_of(error: BaseException | None, *, node_lost: bool, hung: bool) -> Cause:
    """Return the cause of a failure; ``hung``: its worker was ended because it was silent."""
    if hung and not node_lost:
        return cause_of_lost_worker(node_lost=node_lost, hung=hung)
    raised = _raised(error)
    if is_out_of_memory(raised):
        return "out_of_memory"
    if is_full(raised):
        return "disk_full"
    if isinstance(raised, PluginError):
        return "no_plugin"
    if isinstance(raised, ModelError):
        return "unfit_model"
    if isinstance(raised, RayError):
        return cause_of_lost_worker(node_lost=node_lost, hung=hung)
    return "error"


def one_line(error: BaseException | None) -> str:
    """Return type and last line of an exception."""
    raised = _raised(error)
    text = str(raised).strip().splitlines()
    return f"{type(raised).__name__}: {text[-1] if text else ''}"[:500]


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether a GPU or the machine ran out of memory."""
    return out_of_memory.is_out_of_memory(error) or is_of_a_crowd(error)


def is_of_a_crowd(error: BaseException | None) -> bool:
    """Return whether the memory monitor ended a worker: all processes of its node together used up the memory.

    A process whose own allocation fails asked for more than there is, independent of the other processes.
    """
    return isinstance(_raised(error), OutOfMemoryError | WorkerOutOfMemoryError)


def _raised(error: BaseException | None) -> BaseException | None:
    return error.cause if isinstance(error, RayTaskError) and error.cause is not None else error
