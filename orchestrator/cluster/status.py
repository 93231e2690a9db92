"""Summary of a cluster in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.cluster.gcs import Node
from orchestrator.cluster.labels import GPU, PROVIDER, usd_per_hour


@dataclass(frozen=True)
class ClusterSummary:
    """Nodes, and totals over the living ones; the JSON of ``agr cluster status``."""

    address: str
    nodes: list[dict[str, Any]] = field(default_factory=list)
    cpus: float = 0.0
    gpus: float = 0.0
    busy_share: float = 0.0
    """Share of the GPUs in use, or of the CPUs if the cluster has none; 0 to 1."""
    usd_per_hour: float = 0.0
    """Sum over the nodes with a known price."""
    unpriced: int = 0

    def line(self) -> str:
        """Return the totals as a readable line."""
        alive = sum(node["alive"] for node in self.nodes)
        gone = len(self.nodes) - alive
        price = f"{self.usd_per_hour:g} $/h" + (f" ({self.unpriced} without a price)" if self.unpriced else "")
        line = f"{_count(alive)}, {self.cpus:g} CPUs, {self.gpus:g} GPUs, {self.busy_share:.0%} busy, {price}"
        return f"{line}; {_count(gone)} gone" if gone else line


def summarise(address: str, nodes: Sequence[Node]) -> ClusterSummary:
    """Return the summary of a cluster."""
    alive = [node for node in nodes if node.alive]
    totals = {name: sum(node.total.get(name, 0.0) for node in alive) for name in ("CPU", "GPU")}
    counted = "GPU" if totals["GPU"] else "CPU"
    free = sum(node.available.get(counted, 0.0) for node in alive)
    prices = [usd_per_hour(node.labels) for node in alive]
    return ClusterSummary(
        address=address,
        nodes=[_document(node) for node in nodes],
        cpus=totals["CPU"],
        gpus=totals["GPU"],
        busy_share=round(1 - free / totals[counted], 4) if totals[counted] else 0.0,
        usd_per_hour=round(sum(price for price in prices if price is not None), 6),
        unpriced=prices.count(None),
    )


def _count(nodes: int) -> str:
    return "1 node" if nodes == 1 else f"{nodes} nodes"


def _document(node: Node) -> dict[str, Any]:
    return {
        "node_id": node.node_id,
        "host": node.host,
        "name": node.name,
        "alive": node.alive,
        "head": node.is_head,
        "draining": node.draining,
        "cpus": node.total.get("CPU", 0.0),
        "gpus": node.total.get("GPU", 0.0),
        "gpu_model": node.labels.get(GPU),
        "provider": node.labels.get(PROVIDER),
        "usd_per_hour": usd_per_hour(node.labels),
        "busy_share": round(node.busy_share(), 4) if node.alive else None,
        "labels": node.labels,
    }
