"""Which of several errors is the cause, when one process of a trial fails and the others notice."""

from __future__ import annotations

import errno

import pytest
from ray.exceptions import ActorDiedError
from ray.train import WorkerGroupError

from agr_core.errors import DivergedError
from orchestrator.errors import SweepFailedError
from orchestrator.ray_tune.failure import cause_of
from orchestrator.ray_tune.team import reason_of
from tests.parts.ray_internals import WorkerHealthCheckFailedError

NOTICED = RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer [127.0.0.1]:4711")


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (DivergedError("the loss is nan"), "error"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."), "out_of_memory"),
        (ActorDiedError(), "node_lost"),
    ],
)
def test_the_cause_is_distinguished_from_its_consequences_in_other_processes(error: Exception, cause: str) -> None:
    for rank in (0, 2):
        failures: dict[int, Exception] = {0: NOTICED, 1: NOTICED, 2: NOTICED, rank: error}
        reason = reason_of(WorkerGroupError("three failed", failures))
        assert reason is error
        assert cause_of(reason, node_lost=True, hung=False) == cause


def test_a_process_of_which_ray_says_that_it_died_is_a_dead_worker() -> None:
    failures: dict[int, Exception] = {0: NOTICED, 1: WorkerHealthCheckFailedError("no answer", ActorDiedError())}
    assert cause_of(reason_of(WorkerGroupError("two failed", failures)), node_lost=False, hung=False) == "worker_died"


def test_what_failed_outside_of_the_processes_is_the_reason_itself() -> None:
    error = ActorDiedError()
    assert reason_of(error) is error
    assert isinstance(reason_of(None), SweepFailedError)
