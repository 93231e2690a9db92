"""What a trial takes of a node, and how many trials the cluster can hold."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping

import ray
from ray.tune import PlacementGroupFactory

from orchestrator.spec.model import ResourcesSpec

SLOTS_S = 5.0
"""The cluster's size is looked up so often (seconds)."""

_NODE_ID = "ray.io/node-id"
"""A label that Ray gives every node."""

TEAM_HOLDER = {"memory": float(2**20)}
"""What the worker of a trial takes whose processes Ray Train places: Tune wants it to take something."""


def bundle(resources: ResourcesSpec) -> dict[str, float]:
    """Ray's resources of one trial, all its processes together."""
    wanted = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": float(resources.memory or 0)}
    return {name: amount for name, amount in wanted.items() if amount > 0}


def placement(worker: Mapping[str, float], avoided: Collection[str]) -> PlacementGroupFactory:
    """What a trial asks of Ray: the resources of its worker, and none of the nodes with the IDs ``avoided``."""
    where = {}
    if avoided:
        where = {"bundle_label_selector": [{_NODE_ID: f"!in({','.join(sorted(avoided))})"}]}
    return PlacementGroupFactory([dict(worker)], **where)


class Slots:
    """How many trials the cluster can hold at once, by what each node has; nodes may differ.

    Args:
        trial: Ray's resources of one trial.
        leaving: Gives the addresses of nodes that are being drained.
        avoided: IDs of nodes that get no trial; looked at anew each time.
    """

    def __init__(
        self,
        trial: Mapping[str, float],
        *,
        leaving: Callable[[], Collection[str]] = tuple,
        avoided: Collection[str] = (),
    ) -> None:
        self._trial = dict(trial)
        self._leaving = leaving
        self._avoided = avoided
        self._fits: dict[str, int] = {}
        self._at = -math.inf

    def count(self) -> int:
        """Trials that fit now, over all nodes that are alive, stay, and are not avoided."""
        return sum(self._usable().values())

    def fits_elsewhere(self, node_id: str) -> bool:
        """Whether a node other than this one, and none that is avoided, could run a trial."""
        return any(fits for usable, fits in self._usable().items() if usable != node_id)

    def _usable(self) -> dict[str, int]:
        """Trials that fit, by node ID."""
        if time.monotonic() - self._at > SLOTS_S:
            leaving = self._leaving()
            nodes = [node for node in ray.nodes() if node["Alive"] and node["NodeManagerAddress"] not in leaving]
            self._fits = {node["NodeID"]: fitting(self._trial, node["Resources"]) for node in nodes}
            self._at = time.monotonic()
        return {node_id: fits for node_id, fits in self._fits.items() if node_id not in self._avoided}


def fitting(trial: Mapping[str, float], node: Mapping[str, float]) -> int:
    """Trials that fit a node with these resources."""
    fits = []
    for name, wanted in trial.items():
        has = node.get(name, 0.0)
        # A trial with a share of a GPU cannot use two of them, so whole GPUs are counted one by one.
        of_shared_gpus = name == "GPU" and wanted < 1
        fits.append(has * (1 // wanted) if of_shared_gpus else has // wanted)
    return int(min(fits)) if fits else 0
