"""Nodes of the cluster and their prices: journal joins, departures and the sweep's share.

Every driver keeps a note in the cluster while it lives. With several, each counts a node's price by its share of the
resources that trials hold there; without trials the price is split evenly.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import ray

from agr_core.errors import InputError
from orchestrator.journal.events import NodeJoined, NodeLeft, NodeQuarantined, NodeShared
from orchestrator.ray_tune.internals.core import draining_nodes, free_resources, read_notes, write_note
from orchestrator.ray_tune.labels import usd_per_hour
from orchestrator.spec.model import ResourcesSpec
from orchestrator.sweep.run import SweepRun

SWEEP_NOTE = "sweep/"
"""Beginning of the keys of drivers' notes: a sweep's ID follows. ``{"over": whether it is over, "at": seconds}``."""

LOOK_S = 2.0
"""Time between two looks at the nodes, in seconds."""

SHARE_S = 10.0
"""Time between two looks at what other sweeps hold, in seconds."""

_ALIVE_S = 30.0
"""Age of a note, in seconds, from which its driver counts as dead."""


def share_of_node(mine: float, held: float, sweeps: int) -> float:
    """Return a sweep's share of a node's price.

    Args:
        mine: GPUs of it that the sweep's trials hold, or CPUs if it has none.
        held: The same for all trials.
        sweeps: Number of sweeps that run on the cluster, this one included.
    """
    if sweeps <= 1:
        return 1.0
    return min(1.0, mine / held) if held > 0 else 1.0 / sweeps


@dataclass
class Prices:
    """Journal of the nodes of one sweep's cluster."""

    run: SweepRun
    resources: ResourcesSpec
    clock: Callable[[], float] = time.time
    _shares: dict[str, float] = field(default_factory=dict, init=False)
    _looked: float = field(default=0.0, init=False)
    _shared: float = field(default=0.0, init=False)

    def begin(self) -> None:
        """Journal the present nodes.

        Raises:
            InputError: If dollars are limited and a node has no price.
        """
        self.look()
        unpriced = sorted(
            {node.node for node in self.run.standing.spending.nodes.values() if node.usd_per_hour is None}
        )
        if unpriced and "usd" in self.run.budget.limits:
            raise InputError(
                f"budget.usd: the price of node {', '.join(unpriced)} is unknown. Let it join with --usd-per-hour; "
                "without a cluster, AGR_USD_PER_HOUR is the price of this machine."
            )

    def look(self) -> None:
        """Journal nodes that joined or left since the last call, and the sweep's current share."""
        now = self.clock()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        self._note()
        alive = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        joined = self.run.standing.spending.nodes
        for node_id in [node_id for node_id in joined if node_id not in alive]:
            drained = node_id in self.run.standing.draining
            self.run.record(NodeLeft(time=now, node=joined[node_id].node, node_id=node_id, drained=drained))
        self.run.standing.draining.update(draining_nodes())
        for node_id, node in alive.items():
            if node_id not in joined:
                self._join(node, now)
        if now - self._shared >= SHARE_S:
            self._shared = now
            self._share(alive, now)

    def _join(self, node: Mapping[str, Any], now: float) -> None:
        price, address, node_id = usd_per_hour(node["Labels"]), node["NodeManagerAddress"], node["NodeID"]
        self.run.record(NodeJoined(time=now, node=address, node_id=node_id, usd_per_hour=price))
        begun = self.run.standing.next_number > 0
        quarantined = self.run.standing.health.quarantined
        if price is None and begun and "usd" in self.run.budget.limits and node_id not in quarantined:
            error = "budget.usd: it has no price. Let it join with --usd-per-hour."
            self.run.record(NodeQuarantined(time=now, node=address, node_id=node_id, failures=1, error=error))

    def _share(self, alive: Mapping[str, Mapping[str, Any]], now: float) -> None:
        notes = read_notes(SWEEP_NOTE).values()
        sweeps = sum(not note["over"] and now - note["at"] <= _ALIVE_S for note in map(json.loads, notes))
        free = free_resources() if sweeps > 1 else {}
        for node_id, node in alive.items():
            name = "GPU" if node["Resources"].get("GPU") and self.resources.gpus else "CPU"
            per_trial = self.resources.gpus if name == "GPU" else self.resources.cpus
            mine = per_trial * sum(trial.running and trial.node_id == node_id for trial in self.run.live.values())
            held = node["Resources"].get(name, 0.0) - free.get(node_id, {}).get(name, 0.0)
            share = round(share_of_node(mine, max(mine, held), sweeps), 4)
            if share != self._shares.get(node_id, 1.0):
                self._shares[node_id] = share
                self.run.record(NodeShared(time=now, node_id=node_id, share=share))

    def _note(self) -> None:
        _write(self.run.sweep_id, over=False, at=self.clock())


def note_end(sweep_id: str, *, at: float) -> None:
    """Publish in the cluster that a sweep is over."""
    _write(sweep_id, over=True, at=at)


def _write(sweep_id: str, *, over: bool, at: float) -> None:
    write_note(f"{SWEEP_NOTE}{sweep_id}", json.dumps({"over": over, "at": at}))
