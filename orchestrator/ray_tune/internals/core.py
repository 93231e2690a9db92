"""Ray's core beyond its public API: nodes and actors in the control service (GCS), and its client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from ray._common.utils import get_system_memory
from ray._private import ray_constants
from ray._private import state as _state
from ray._private.state import GlobalState
from ray._private.utils import get_num_cpus
from ray.core.generated import autoscaler_pb2
from ray.experimental import internal_kv
from ray.job_config import JobConfig

_raylet: Any = import_module("ray._raylet")  # compiled, without types

COMMAND_MODULE = "ray.scripts.scripts"
"""The module of the ``ray`` command; run by ``python -m`` it needs no script on the PATH."""


NOTES = b"agr"
"""Namespace of notes in the cluster."""


def system_memory() -> int:
    """Return the memory of this machine, or of its container, in bytes, as Ray counts it; it limits waiting workers."""
    return int(get_system_memory())


def cpu_count() -> int:
    """Return the CPU cores of this machine, or container, as Ray counts them; Ray starts no more workers at a time."""
    return int(get_num_cpus())


def read_environment_again() -> None:
    """Make Ray's compiled part read ``RAY_*`` variables again; it reads them once, when it is imported.

    Needed if the token's mode is set in a process that has imported Ray already.
    """
    _raylet.Config.initialize("")


@contextmanager
def loopback_only() -> Iterator[None]:
    """Let a Ray that starts in the block listen on the loopback address alone, not on all addresses.

    Ray itself does so on macOS and Windows, to avoid firewall dialogs. There is no setting of its own for Linux.
    """
    name = ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    before, variable = ray_constants.ENABLE_RAY_CLUSTER, os.environ.get(name)
    ray_constants.ENABLE_RAY_CLUSTER, os.environ[name] = False, "0"
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
        if variable is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = variable


def job_without_working_folder() -> Any:
    """Return a job whose workers do not import from the folder in which the driver was started.

    Ray puts that folder first on its workers' ``sys.path``, except for jobs of its client. There is no public setting.
    """
    return JobConfig(_client_job=True)


def actor_node(actor_id: str) -> tuple[str, str]:
    """Return address and ID of an actor's node; empty if the GCS does not know it.

    Needed because the public API calls the actor itself, and a busy one does not answer.
    """
    address = _state.actors(actor_id).get("Address", {})
    return address.get("IPAddress", ""), address.get("NodeID", "")


def draining_nodes() -> dict[str, int]:
    """Return the deadline (Unix time, milliseconds) of each draining node, by node ID. Ray Train reads it too."""
    deadlines: dict[str, int] = _state.state.get_draining_nodes()
    return deadlines


def free_resources() -> dict[str, dict[str, float]]:
    """Return free amounts by node ID and resource. The public API has only totals of the whole cluster."""
    free: dict[str, dict[str, float]] = _state.state.available_resources_per_node()
    return free


@dataclass(frozen=True)
class ClusterState:
    """State of a cluster's nodes in its GCS.

    Attributes:
        nodes: A row for each node it has had, as ``ray.nodes()`` gives them.
        free: Free amounts of the living nodes, by node ID and resource.
        draining: Deadlines (Unix time, milliseconds) of nodes that are being drained, by node ID.
    """

    nodes: list[dict[str, Any]]
    free: dict[str, dict[str, float]]
    draining: dict[str, int]


def cluster_state(address: str) -> ClusterState:
    """Return the nodes of the cluster at ``HOST:PORT``. Needed because the public API starts a driver for it."""
    options = _raylet.GcsClientOptions.create(address, None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=False)
    state = GlobalState()
    state._initialize_global_state(options)
    try:
        return ClusterState(
            nodes=state.node_table(),
            free=state.available_resources_per_node(),
            draining=state.get_draining_nodes(),
        )
    finally:
        state.disconnect()


class ControlClient:
    """A connection to the GCS at ``HOST:PORT``, without a driver: Ray's own command line has no other.

    Args:
        address: Of the cluster's head.
        namespace: Of the keys.
        timeout_s: Longest time of a response, in seconds.

    Raises:
        ray.exceptions.AuthenticationError: If it refuses this process's token.
        ray.exceptions.RpcError: If the server there is no GCS.
    """

    def __init__(self, address: str, *, namespace: bytes, timeout_s: float) -> None:
        self._client = _raylet.GcsClient(address=address)
        self._namespace = namespace
        self._timeout_s = timeout_s

    def put(self, key: str, value: bytes) -> None:
        """Store ``value`` under ``key``, replacing an existing value."""
        self._client.internal_kv_put(key.encode(), value, True, self._namespace, timeout=self._timeout_s)

    def get(self, key: str) -> bytes | None:
        """Return the value under ``key``; None without one."""
        value: bytes | None = self._client.internal_kv_get(key.encode(), self._namespace, timeout=self._timeout_s)
        return value

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with ``prefix``."""
        keys = self._client.internal_kv_keys(prefix.encode(), self._namespace, timeout=self._timeout_s)
        return [key.decode() for key in keys]

    def delete(self, key: str) -> None:
        """Delete ``key``; a missing one is no error."""
        self._client.internal_kv_del(key.encode(), False, self._namespace, timeout=self._timeout_s)

    def drain_node(self, node_id: str, *, reason: str, deadline: float) -> str | None:
        """Drain a node: no new work, and an end at ``deadline`` (Unix time, seconds) at the latest.

        Returns:
            The GCS's reason for a refusal; None if it accepts.
        """
        preemption = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        accepted, refusal = self._client.drain_node(node_id, preemption, reason, int(deadline * 1000))
        return None if accepted else str(refusal)


def write_note(key: str, text: str) -> None:
    """Store a small text in the cluster, readable by every node and driver."""
    internal_kv._internal_kv_put(key.encode(), text.encode(), overwrite=True, namespace=NOTES)


def read_notes(prefix: str) -> dict[str, str]:
    """Return the notes whose keys begin with ``prefix``, by key."""
    notes = {}
    for key in internal_kv._internal_kv_list(prefix.encode(), namespace=NOTES):
        value = internal_kv._internal_kv_get(key, namespace=NOTES)
        if value is not None:
            notes[key.decode()] = value.decode()
    return notes
