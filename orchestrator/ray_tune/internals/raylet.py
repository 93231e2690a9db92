"""Calls to a node's own service, the raylet: start workers before a job needs them."""

from __future__ import annotations

from typing import Any

from ray._private.grpc_utils import init_grpc_channel
from ray.core.generated import common_pb2, node_manager_pb2, node_manager_pb2_grpc, runtime_environment_pb2


def prestart_workers(host: str, port: int, number: int, *, timeout_s: float) -> None:
    """Make the raylet at ``host:port`` start ``number`` Python workers for jobs without a runtime environment.

    Returns at once. The raylet starts at most as many at a time as the machine has cores, and drops the rest.

    Raises:
        grpc.RpcError: If it does not answer within ``timeout_s`` seconds.
    """
    request = node_manager_pb2.PrestartWorkersRequest(
        language=common_pb2.PYTHON,
        runtime_env_info=runtime_environment_pb2.RuntimeEnvInfo(serialized_runtime_env="{}"),
        num_workers=number,
    )
    _service(host, port).PrestartWorkers(request, timeout=timeout_s)


def unused_workers(host: str, port: int, *, timeout_s: float) -> list[int]:
    """Return the PIDs of the workers of the raylet at ``host:port`` that have run no task yet.

    Raises:
        grpc.RpcError: If it does not answer within ``timeout_s`` seconds.
    """
    request = node_manager_pb2.GetNodeStatsRequest(include_memory_info=False)
    workers = _service(host, port).GetNodeStats(request, timeout=timeout_s).core_workers_stats
    return [
        worker.pid for worker in workers if worker.worker_type == common_pb2.WORKER and not worker.num_executed_tasks
    ]


def _service(host: str, port: int) -> Any:
    return node_manager_pb2_grpc.NodeManagerServiceStub(init_grpc_channel(f"{host}:{port}"))
