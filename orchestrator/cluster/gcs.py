"""Words with a cluster's head from anywhere that reaches its port: no node, worker or driver is started for them.

Ray keeps what all nodes know in its global control service (GCS), behind the head's one port and the token. These are
the calls that Ray's own command line makes; they are not public, so the tests of ``tests/cluster`` hold them.
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
    """A node of the cluster, as the head sees it."""

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
        """How much of the node is taken, 0 to 1: of its GPUs, or of its CPUs where it has none."""
        for resource in ("GPU", "CPU"):
            total = self.total.get(resource, 0.0)
            if total:
                return 1 - self.available.get(resource, 0.0) / total
        return 0.0

    def is_idle(self) -> bool:
        """Whether nothing is taken of what trials ask for; a node with GPUs may run trials that ask for none."""
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
                f"nothing answers at {address} ({error.strerror or 'no answer'}). Is the head up (`agr cluster status` "
                "there), is it its address, does its firewall let this machine through?"
            ) from error
        find_token()  # without one Ray's core ends this process, with a trace of its own
        speak_with_token()
        raylet = _raylet()
        from ray.exceptions import AuthenticationError, RpcError

        try:
            self._client = raylet.GcsClient(address=address)
        except AuthenticationError as error:
            raise InputError(
                f"the cluster at {address} refuses this machine's token. Copy the head's: "
                "ssh HEAD agr cluster token > ~/.ray/auth_token"
            ) from error
        except RpcError as error:
            raise ClusterError(f"what answers at {address} is no Ray cluster: {_first_line(error)}") from error

    # ---- small notes that all nodes can read

    def put(self, key: str, value: Any) -> None:
        """Keep ``value`` (JSON) under ``key``."""
        self._client.internal_kv_put(key.encode(), json.dumps(value).encode(), True, NAMESPACE, timeout=_ANSWER_S)

    def get(self, key: str) -> Any:
        """What is kept under ``key``; None if nothing."""
        value = self._client.internal_kv_get(key.encode(), NAMESPACE, timeout=_ANSWER_S)
        return None if value is None else json.loads(value)

    def keys(self, prefix: str) -> list[str]:
        """Keys that begin with ``prefix``."""
        return [key.decode() for key in self._client.internal_kv_keys(prefix.encode(), NAMESPACE, timeout=_ANSWER_S)]

    def delete(self, key: str) -> None:
        """Forget ``key``."""
        self._client.internal_kv_del(key.encode(), False, NAMESPACE, timeout=_ANSWER_S)

    # ---- nodes

    def nodes(self) -> list[Node]:
        """All nodes the cluster has had, the living first."""
        from ray._private.state import GlobalState

        state = GlobalState()
        options = _raylet().GcsClientOptions.create(
            self.address, None, allow_cluster_id_nil=True, fetch_cluster_id_if_nil=False
        )
        state._initialize_global_state(options)
        try:
            available, draining = state.available_resources_per_node(), state.get_draining_nodes()
            return sorted(
                (_node(row, available, draining) for row in state.node_table()),
                key=lambda node: (not node.alive, not node.is_head, node.host),
            )
        finally:
            state.disconnect()

    def drain(self, node_id: str, *, reason: str, deadline_s: float) -> None:
        """Give a node no more work and let it end when it is idle, at the latest after ``deadline_s``.

        Raises:
            ClusterError: If the head refuses.
        """
        from ray.core.generated import autoscaler_pb2

        accepted, refusal = self._client.drain_node(
            node_id,
            autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION"),
            reason,
            int((time.time() + deadline_s) * 1000),
        )
        if not accepted:
            raise ClusterError(f"the head does not let node {node_id[:8]} go: {refusal}")


def _raylet() -> Any:
    """Ray's compiled part, which has no types."""
    from ray import _raylet

    return _raylet


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
    """Host and port of ``HOST:PORT``.

    Raises:
        InputError: If it is not of that form.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536 or "/" in host:
        raise InputError(f"{address!r} is no address of a cluster: write HOST:PORT, such as 10.0.0.1:6379.")
    return host, int(port)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
