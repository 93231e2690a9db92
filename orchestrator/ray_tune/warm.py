"""Warm workers: processes started, with their imports done, before a sweep needs them.

Starting a worker takes two seconds of a core. On the nodes of ``agr cluster`` this happens when a node joins, and again
when a sweep is over, since a worker ends with its sweep. Ray gives a waiting worker to the first actor without a
runtime environment, whatever its job. ``tests/cluster/test_gone.py`` tests such nodes.
"""

from __future__ import annotations

import logging
from typing import Any

import grpc

from agr_core.errors import InputError
from orchestrator.errors import ClusterError

WORKER_BYTES = 120 * 10**6
"""Private memory of a warm worker: Ray, Tune and our modules; without torch (decision 14)."""

LABEL = "agr-warm"
"""Label of a node: number of warm workers to keep there."""

_MEMORY_SHARE = 0.1
_ANSWER_S = 30.0


def worker_count(asked: int | None, cpus: int | None) -> int:
    """Return the number of warm workers for this machine.

    Args:
        asked: The user's number; None: one per core, in at most a tenth of the memory.
        cpus: Cores for trials; None: all.

    Raises:
        InputError: If the number exceeds the cores for trials: Ray would not start them.
    """
    from orchestrator.ray_tune.internals import core

    cores = core.cpu_count() if cpus is None else cpus
    if asked is None:
        return min(cores, int(core.system_memory() * _MEMORY_SHARE / WORKER_BYTES))
    if asked > cores:
        raise InputError(f"--warm {asked}: at most one warm worker per core for trials, and there are {cores}.")
    return asked


def environment(number: int) -> dict[str, str]:
    """Return the environment of a node with ``number`` warm workers."""
    if number == 0:
        return {}
    return {
        "RAY_preload_python_modules": "orchestrator.ray_tune.trainable",
        # Otherwise Ray ends workers beyond the free CPUs, and Tune reserves the CPUs before it requests workers.
        "RAY_num_workers_soft_limit": str(number),
        # NumPy creates its threads at import: one per core in every worker, before Ray assigns cores to the trial.
        # Torch is unaffected: its threads are `compute.threads`.
        "OMP_NUM_THREADS": "1",
    }


def fill_up(host: str, port: int, number: int) -> None:
    """Start the workers missing from ``number`` warm ones on the node whose raylet listens at ``host:port``.

    Returns at once. Ray starts at most as many at a time as the machine has cores, and drops the rest.

    Raises:
        ClusterError: If the node does not answer.
    """
    from orchestrator.ray_tune.internals import raylet

    if number == 0:
        return
    try:
        missing = number - len(waiting(host, port))
        if missing > 0:
            raylet.prestart_workers(host, port, missing, timeout_s=_ANSWER_S)
    except grpc.RpcError as error:
        raise ClusterError(f"the node {host} starts no workers: {error.code().name.lower()}") from error


def waiting(host: str, port: int) -> list[int]:
    """Return the PIDs of the workers on a node that have had no work yet."""
    from orchestrator.ray_tune.internals import raylet

    return raylet.unused_workers(host, port, timeout_s=_ANSWER_S)


def fill_up_nodes(nodes: list[dict[str, Any]]) -> None:
    """Start missing warm workers on each of ``ray.nodes()``, up to the number that it declared when it joined.

    Call it when the job is over: Ray counts the job's idle workers too, and ends the longest waiting ones.
    """
    for node in nodes:
        if node["Alive"] and LABEL in node["Labels"]:
            try:
                fill_up(node["NodeManagerAddress"], node["NodeManagerPort"], int(node["Labels"][LABEL]))
            except ClusterError as error:
                logging.getLogger(__name__).warning("%s; the next sweep's trials start later there.", error)
