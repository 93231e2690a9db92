"""Workers that wait for trials: started, and with their imports done, before a sweep asks for them.

A worker costs two seconds of a core before its first trial begins. On the nodes of ``agr cluster`` they are spent when
a node joins, and again when a sweep is over, since a worker ends with the sweep that it worked for. Ray gives a waiting
worker to the first actor that asks for no runtime environment, whatever its job. The calls are Ray's own between its
parts, and not public: ``tests/cluster/test_gone.py`` holds them.
"""

from __future__ import annotations

import logging
from typing import Any

import grpc

from agr_core.errors import InputError
from orchestrator.errors import ClusterError

WORKER_BYTES = 120 * 10**6
"""What a waiting worker holds of its own: Ray, Tune and our modules; without torch (decision 14)."""

LABEL = "agr-warm"
"""Of a node: how many workers are to wait there."""

_MEMORY_SHARE = 0.1
_ANSWER_S = 30.0


def worker_count(asked: int | None, cpus: int | None) -> int:
    """How many workers are to wait on this machine.

    Args:
        asked: What the user said; None: one for each core, in at most a tenth of the memory.
        cpus: Cores for trials; None: all.

    Raises:
        InputError: If more are asked for than there are cores for trials: Ray would not start them.
    """
    from ray._common.utils import get_system_memory
    from ray._private.utils import get_num_cpus

    cores = get_num_cpus() if cpus is None else cpus
    if asked is None:
        return min(cores, int(get_system_memory() * _MEMORY_SHARE / WORKER_BYTES))
    if asked > cores:
        raise InputError(f"--warm {asked}: at most one worker waits for each core for trials, and there are {cores}.")
    return asked


def environment(number: int) -> dict[str, str]:
    """Of a node on which ``number`` workers are to wait."""
    if number == 0:
        return {}
    return {
        "RAY_preload_python_modules": "orchestrator.ray_tune.trainable",
        # Else Ray ends those that are more than the free CPUs, and Tune reserves the CPUs before it asks for workers.
        "RAY_num_workers_soft_limit": str(number),
        # Numpy makes its threads when it is imported: one a core in every worker, where Ray has not said yet how many
        # cores the trial has. Torch does not go by it: its threads are `compute.threads`.
        "OMP_NUM_THREADS": "1",
    }


def fill_up(host: str, port: int, number: int) -> None:
    """Start what ``number`` workers lack that wait on the node whose raylet listens at ``host:port``.

    Returns at once. Ray starts as many at a time as the machine has cores, and forgets the others.

    Raises:
        ClusterError: If the node does not answer.
    """
    from ray.core.generated import common_pb2, node_manager_pb2, runtime_environment_pb2

    if number == 0:
        return
    try:
        missing = number - len(waiting(host, port))
        if missing > 0:
            request = node_manager_pb2.PrestartWorkersRequest(
                language=common_pb2.PYTHON,
                runtime_env_info=runtime_environment_pb2.RuntimeEnvInfo(serialized_runtime_env="{}"),
                num_workers=missing,
            )
            _node_manager(host, port).PrestartWorkers(request, timeout=_ANSWER_S)
    except grpc.RpcError as error:
        raise ClusterError(f"the node {host} starts no workers: {error.code().name.lower()}") from error


def waiting(host: str, port: int) -> list[int]:
    """PIDs of the workers on a node that have had no work yet."""
    from ray.core.generated import common_pb2, node_manager_pb2

    request = node_manager_pb2.GetNodeStatsRequest(include_memory_info=False)
    workers = _node_manager(host, port).GetNodeStats(request, timeout=_ANSWER_S).core_workers_stats
    return [
        worker.pid for worker in workers if worker.worker_type == common_pb2.WORKER and not worker.num_executed_tasks
    ]


def fill_up_nodes(nodes: list[dict[str, Any]]) -> None:
    """The same on each of ``ray.nodes()``, as many as it said when it joined.

    To be called when the job is over: its idle workers count for Ray, which then ends those that have waited longest.
    """
    for node in nodes:
        if node["Alive"] and LABEL in node["Labels"]:
            try:
                fill_up(node["NodeManagerAddress"], node["NodeManagerPort"], int(node["Labels"][LABEL]))
            except ClusterError as error:
                logging.getLogger(__name__).warning("%s; the next sweep's trials begin later there.", error)


def _node_manager(host: str, port: int) -> Any:
    from ray._private.grpc_utils import init_grpc_channel
    from ray.core.generated import node_manager_pb2_grpc

    return node_manager_pb2_grpc.NodeManagerServiceStub(init_grpc_channel(f"{host}:{port}"))
