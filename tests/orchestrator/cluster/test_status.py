from __future__ import annotations

from typing import Any

from orchestrator.cluster.gcs import Node
from orchestrator.cluster.status import summarise


def _node(name: str, **changes: Any) -> Node:
    fields: dict[str, Any] = {
        "node_id": name, "host": name, "name": name, "alive": True, "is_head": False, "draining": False, "labels": {},
        "total": {"CPU": 4.0}, "available": {"CPU": 4.0},
    }  # fmt: skip
    return Node(**{**fields, **changes})


def test_only_living_nodes_are_counted_and_paid() -> None:
    nodes = [
        _node("a", labels={"agr-usd-per-hour": "0.25"}, available={"CPU": 1.0}),
        _node("b", labels={"agr-usd-per-hour": "0.5"}),
        _node("c"),
        _node("d", alive=False, labels={"agr-usd-per-hour": "9"}),
    ]
    summary = summarise("a:6379", nodes)
    assert (summary.cpus, summary.gpus, summary.usd_per_hour, summary.unpriced) == (12.0, 0.0, 0.75, 1)
    assert summary.busy_share == 0.25
    assert summary.line() == "3 nodes, 12 CPUs, 0 GPUs, 25% busy, 0.75 $/h (1 without a price); 1 node gone"


def test_where_there_are_gpus_they_are_what_is_busy() -> None:
    node = _node("a", total={"CPU": 4.0, "GPU": 2.0}, available={"CPU": 4.0, "GPU": 0.5})
    assert summarise("a:6379", [node, _node("b")]).busy_share == 0.75
    assert node.busy_share() == 0.75


def test_a_node_whose_gpus_are_free_is_not_idle_while_its_cpus_work() -> None:
    """`agr cluster leave` waits for it."""
    has = {"CPU": 4.0, "GPU": 2.0, "memory": 1e9, "node:10.0.0.1": 1.0}
    assert _node("a", total=has, available=has).is_idle()
    assert not _node("a", total=has, available={**has, "CPU": 3.0}).is_idle()
    assert not _node("a", total=has, available={**has, "memory": 9e8}).is_idle()
    assert not _node("a", total=has, available={"CPU": 4.0, "memory": 1e9}).is_idle(), "Ray leaves out what is used up"
