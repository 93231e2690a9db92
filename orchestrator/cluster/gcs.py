"""Client for Ray's global control service (GCS) that starts no driver.

The GCS holds the cluster's shared state, behind one port of the head and the token. The calls are those of Ray's own
command line, from any machine that reaches that port.
"""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from typing import Any

from agr_core.errors import InputError
from orchestrator.cluster.token import find_token, speak_with_token
from orchestrator.errors import ClusterError

NAMESPACE = b"agr"
_ANSWER_S = 5.0
_CONNECT_S = 3.0


@dataclass(frozen=True)
class Node:
    """A node of the cluster, as known to the head."""

    node_id: str
    host: str
    name: str
    alive: bool
    is_head: bool
    draining: bool
    labels: dict[str, str]
    total: dict[str, float]
    available: dict[str, float]

    def busy_share(self) -> float:
        """Return the share of the node in use, 0 to 1: of its GPUs, or of its CPUs if it has none."""
        for resource in ("GPU", "CPU"):
            total = self.total.get(resource, 0.0)
            if total:
                return 1 - self.available.get(resource, 0.0) / total
        return 0.0

    def is_idle(self) -> bool:
        """Return whether no trial resource is in use; a node with GPUs may run trials that use none."""
        return all(self.available.get(name, 0.0) >= self.total.get(name, 0.0) for name in ("CPU", "GPU", "memory"))


class Gcs:
    """A connection to the GCS of the cluster at ``HOST:PORT``.

    Raises:
        ClusterError: If nothing answers there.
        InputError: If there is no token, or it is refused.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        host, port = parse_address(address)
        try:
            socket.create_connection((host, port), timeout=_CONNECT_S).close()
        except OSError as error:
            raise ClusterError(
                f"no answer at {address} ({error.strerror or 'no answer'}). Check that the head runs (`agr cluster "
                "status` there), that this is its address, and that its firewall admits this machine."
            ) from error
        find_token()  # without one Ray's core ends this process, with a trace of its own
        speak_with_token()
        from ray.exceptions import AuthenticationError, RpcError

        from orchestrator.ray_tune.internals.core import ControlClient

        try:
            self._client = ControlClient(address, namespace=NAMESPACE, timeout_s=_ANSWER_S)
        except AuthenticationError as error:
            raise InputError(
                f"the cluster at {address} refuses this machine's token. Copy the head's: "
                "ssh HEAD agr cluster token > ~/.ray/auth_token"
            ) from error
        except RpcError as error:
            raise ClusterError(f"the server at {address} is not a Ray cluster: {_first_line(error)}") from error

    # ---- small notes that all nodes can read

    def put(self, key: str, value: Any) -> None:
        """Store ``value`` (JSON) under ``key``."""
        self._client.put(key, json.dumps(value).encode())

    def get(self, key: str) -> Any:
        """Return the value under ``key``; None without one."""
        value = self._client.get(key)
        return None if value is None else json.loads(value)

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with ``prefix``."""
        return self._client.keys(prefix)

    def delete(self, key: str) -> None:
        """Delete ``key``."""
        self._client.delete(key)

    # ---- nodes

    def nodes(self) -> list[Node]:
        """Return all current and former nodes, the living first."""
        from orchestrator.ray_tune.internals.core import cluster_state

        state = cluster_state(self.address)
        return sorted(
            (_node(row, state.free, state.draining) for row in state.nodes),
            key=lambda node: (not node.alive, not node.is_head, node.host),
        )

    def drain(self, node_id: str, *, reason: str, deadline_s: float) -> None:
        """Drain a node: no new work, and an end when it is idle, at the latest after ``deadline_s``.

        Raises:
            ClusterError: If the head refuses.
        """
        refusal = self._client.drain_node(node_id, reason=reason, deadline=time.time() + deadline_s)
        if refusal is not None:
            raise ClusterError(f"the head refuses to drain node {node_id[:8]}: {refusal}")


def _node(row: dict[str, Any], available: dict[str, dict[str, float]], draining: dict[str, int]) -> Node:
    node_id = row["NodeID"]
    return Node(
        node_id=node_id,
        host=row["NodeManagerAddress"],
        name=row["NodeManagerHostname"],
        alive=row["Alive"],
        is_head="node:__internal_head__" in row["Resources"],
        draining=node_id in draining,
        labels={name: value for name, value in row["Labels"].items() if not name.startswith("ray.io/")},
        total=row["Resources"],
        available=available.get(node_id, {}),
    )


def parse_address(address: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``.

    Raises:
        InputError: If it is not of that form.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536 or "/" in host:
        raise InputError(f"{address!r} is not an address of a cluster: write HOST:PORT, such as 10.0.0.1:6379.")
    return host, int(port)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
