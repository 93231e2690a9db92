"""The fixed ports of a node, and the firewall rules for them."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from orchestrator.errors import ClusterError
from orchestrator.listening import is_free

DASHBOARD = 8265
"""On the head: jobs are submitted here (http)."""

_WORKERS = 500
"""Maximum number of worker processes of a node, each with a port."""


@dataclass(frozen=True)
class Ports:
    """Ports of one node, counted from ``base`` (``--port``), which only a head listens on itself.

    All lie below 32768, from where on systems take ports for outgoing connections.
    """

    base: int

    @property
    def node_manager(self) -> int:
        """Raylet: gives work to this node."""
        return self.base + 1

    @property
    def object_manager(self) -> int:
        """Objects from node to node."""
        return self.base + 2

    @property
    def agent(self) -> int:
        """Dashboard agent, http."""
        return self.base + 3

    @property
    def agent_grpc(self) -> int:
        """Dashboard agent, gRPC."""
        return self.base + 4

    @property
    def runtime_env(self) -> int:
        """Runtime environment agent."""
        return self.base + 5

    @property
    def metrics(self) -> int:
        """Prometheus."""
        return self.base + 6

    @property
    def client(self) -> int:
        """Ray Client, on the head; unused here."""
        return self.base + 7

    @property
    def workers(self) -> tuple[int, int]:
        """First and last port of the worker processes."""
        return self.base + 1000, self.base + 1000 + _WORKERS - 1

    def dialled(self) -> tuple[int, ...]:
        """Return the ports that the head must reach on a node, one of each kind."""
        return self.node_manager, self.object_manager, self.workers[0]

    def options(self, *, head: bool) -> list[str]:
        """Return the options for ``ray start``."""
        first, last = self.workers
        options = {
            "node-manager-port": self.node_manager,
            "object-manager-port": self.object_manager,
            "dashboard-agent-listen-port": self.agent,
            "dashboard-agent-grpc-port": self.agent_grpc,
            "runtime-env-agent-port": self.runtime_env,
            "metrics-export-port": self.metrics,
            "min-worker-port": first,
            "max-worker-port": last,
        }
        if head:
            options |= {"port": self.base, "ray-client-server-port": self.client, "dashboard-port": DASHBOARD}
        return [f"--{name}={port}" for name, port in options.items()]

    def rules(self, host: str, *, head: bool) -> list[str]:
        """Return the firewall rules of the node, as readable lines."""
        first, last = self.workers
        begin = self.base if head else self.node_manager
        lines = [f"tcp from the other nodes to {host}: {begin}-{self.runtime_env}, {first}-{last}"]
        if head:
            lines.append(f"tcp from your laptop to {host}: {DASHBOARD}")
        return lines

    def taken(self, host: str, *, head: bool) -> list[int]:
        """Return the ports that are in use already.

        Ray skips used worker ports, so only the one that the head connects to before a machine joins is checked.
        """
        named = [self.node_manager, self.object_manager, self.agent, self.agent_grpc, self.runtime_env, self.metrics]
        named += [self.base, self.client, DASHBOARD] if head else [self.workers[0]]
        return sorted(port for port in named if not is_free(host, port))


def own_address(towards: tuple[str, int]) -> str:
    """Return the local source address of connections to ``towards``; nothing is sent.

    Raises:
        ClusterError: If there is no route.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(towards)
        except OSError as error:
            raise ClusterError(
                f"this machine has no network towards {towards[0]} ({error.strerror}). Give its address with --host."
            ) from error
        return str(probe.getsockname()[0])
