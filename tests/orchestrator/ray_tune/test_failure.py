"""Why an attempt failed, from the exceptions torch, numpy and Ray really raise."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import torch
from ray.exceptions import ActorDiedError, ActorUnavailableError, OutOfMemoryError, RayTaskError

from agr_core.errors import ConfigError, DiskFullError, ModelError, PluginError
from orchestrator.errors import StorageFullError
from orchestrator.ray_tune.failure import cause_of, is_out_of_memory, one_line


def raised_by(function: object) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - whatever it raises is the question
        function()  # type: ignore[operator]
    return caught.value


TOO_MUCH = 2**46  # elements: more than any machine's address space gives


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(raised_by(lambda: torch.empty(TOO_MUCH)), id="torch on the CPU"),
        pytest.param(raised_by(lambda: np.empty(TOO_MUCH)), id="numpy"),
        pytest.param(
            torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), id="torch on a GPU"
        ),
        pytest.param(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), id="cuBLAS"),
        pytest.param(OutOfMemoryError("Task was killed due to the node running low on memory."), id="Ray's monitor"),
    ],
)
def test_out_of_memory_is_recognised(error: BaseException) -> None:
    assert is_out_of_memory(error)
    assert cause_of(error, node_lost=False, hung=False) == "out_of_memory"


@pytest.mark.parametrize("error", [RuntimeError("shapes do not match"), ValueError("out of memory"), None])
def test_other_errors_are_not(error: BaseException | None) -> None:
    assert not is_out_of_memory(error)


def test_what_a_worker_raised_is_seen_through_rays_own_error() -> None:
    cause = raised_by(lambda: torch.empty(TOO_MUCH))
    error = RayTaskError("step", "Traceback ...", cause)
    assert cause_of(error, node_lost=True, hung=False) == "out_of_memory"
    assert one_line(RayTaskError("step", "Traceback ...", KeyError("first\nlast"))).startswith("KeyError: ")


def test_a_model_that_no_node_can_build_is_distinguished_from_a_failure_worth_a_retry() -> None:
    cannot_be_built = RayTaskError("step", "Traceback ...", ModelError("model 'vgg11' cannot take image.size=16"))
    assert cause_of(cannot_be_built, node_lost=False, hung=False) == "unfit_model"
    not_fetched = RayTaskError("step", "Traceback ...", ConfigError("timm's weights are not available"))
    assert cause_of(not_fetched, node_lost=False, hung=False) == "error"


def test_a_dead_worker_is_the_nodes_fault_if_the_node_is_gone() -> None:
    for error in (ActorDiedError(), ActorUnavailableError("connection lost", None)):
        assert cause_of(error, node_lost=False, hung=False) == "worker_died"
        assert cause_of(error, node_lost=True, hung=False) == "node_lost"
        assert cause_of(error, node_lost=False, hung=True) == "hung"
        assert cause_of(error, node_lost=True, hung=True) == "node_lost", "nothing was heard of it for that reason"
    assert cause_of(ValueError("mine"), node_lost=True, hung=False) == "error"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk_full"),
        (DiskFullError("the decoded images do not fit"), "disk_full"),
        (StorageFullError("writing failed"), "disk_full"),
        (PluginError("agr-plugin-template is not installed"), "no_plugin"),
        (PermissionError(errno.EACCES, "Permission denied"), "error"),
        (OSError("of a library, without a number"), "error"),
    ],
)
def test_a_full_disk_and_a_missing_plug_in_are_distinguished_from_other_errors(
    error: BaseException, cause: str
) -> None:
    assert cause_of(RayTaskError("step", "Traceback ...", error), node_lost=False, hung=False) == cause
