"""The ports of a node, all known beforehand, and what a firewall must let through."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from orchestrator.errors import ClusterError
from orchestrator.listening import is_free

DASHBOARD = 8265
"""On the head: jobs are submitted here (http)."""

_WORKERS = 500
"""So many worker processes, each with a port, may run on a node."""


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
        """Ray Client, which nothing here uses; on the head."""
        return self.base + 7

    @property
    def workers(self) -> tuple[int, int]:
        """First and last port of the worker processes."""
        return self.base + 1000, self.base + 1000 + _WORKERS - 1

    def dialled(self) -> tuple[int, ...]:
        """Those that the head must reach on a node, one of each kind."""
        return self.node_manager, self.object_manager, self.workers[0]

    def options(self, *, head: bool) -> list[str]:
        """For ``ray start``."""
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
        """What the firewall of the node must let through, as lines for people."""
        first, last = self.workers
        begin = self.base if head else self.node_manager
        lines = [f"tcp from the other nodes to {host}: {begin}-{self.runtime_env}, {first}-{last}"]
        if head:
            lines.append(f"tcp from where you submit to {host}: {DASHBOARD}")
        return lines

    def taken(self, host: str, *, head: bool) -> list[int]:
        """Ports somebody listens on already.

        Of the workers' ports Ray takes the next one, so only the one that the head dials before a machine joins counts.
        """
        named = [self.node_manager, self.object_manager, self.agent, self.agent_grpc, self.runtime_env, self.metrics]
        named += [self.base, self.client, DASHBOARD] if head else [self.workers[0]]
        return sorted(port for port in named if not is_free(host, port))


def own_address(towards: tuple[str, int]) -> str:
    """The address of this machine that connections to ``towards`` come from; nothing is sent.

    Raises:
        ClusterError: If there is no way there.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(towards)
        except OSError as error:
            raise ClusterError(
                f"this machine has no network towards {towards[0]} ({error.strerror}). Give its address with --host."
            ) from error
        return str(probe.getsockname()[0])
