"""What a trial takes of a node, how many trials the cluster can hold, and which node is the best for the next one."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

import ray
from ray._private.state import state as _state  # Ray says publicly only what the whole cluster has free
from ray.tune import PlacementGroupFactory
from ray.util.placement_group import PlacementGroup, placement_group

from orchestrator.spec.model import ResourcesSpec

_LOG = logging.getLogger(__name__)

SLOTS_S = 5.0
"""The cluster's size is looked up so often (seconds)."""

FREE_S = 1.0
"""What nodes have free is looked up so often (seconds)."""

A_TRIAL = 10**9
"""Memory (bytes) that a trial takes at least, more or less: torch, timm, a small model and its batches."""

_NODE_ID = "ray.io/node-id"
"""A label that Ray gives every node."""


def on(node_id: str) -> dict[str, str]:
    """Ray's label selector of one node."""
    return {_NODE_ID: node_id}


def not_on(node_ids: Collection[str]) -> dict[str, str]:
    """Ray's label selector of all nodes but these; of all, where there are none."""
    return {_NODE_ID: f"!in({','.join(sorted(node_ids))})"} if node_ids else {}


TEAM_HOLDER = {"memory": float(2**20)}
"""What the worker of a trial takes whose processes Ray Train places: Tune wants it to take something."""


def bundle(resources: ResourcesSpec) -> dict[str, float]:
    """Ray's resources of one trial, all its processes together."""
    wanted = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": float(resources.memory or 0)}
    return {name: amount for name, amount in wanted.items() if amount > 0}


class Placement(PlacementGroupFactory):  # type: ignore[misc]
    """What a trial asks of Ray: the resources of its worker, and none of the nodes with the IDs ``avoided``.

    ``wanted`` gives the ID of the node where it is best placed, or None; is that full or gone, Ray takes another.
    It is asked when a worker is requested, and is no part of what trials are compared by: Tune gives a free worker to
    any trial that asks for the same, wherever the worker lives.
    """

    def __init__(
        self,
        worker: Mapping[str, float],
        avoided: Collection[str] = (),
        wanted: Callable[[], str | None] = lambda: None,
    ) -> None:
        where = {}
        if avoided:
            where = {"bundle_label_selector": [not_on(avoided)]}
        super().__init__([dict(worker)], strategy="STRICT_PACK", **where)  # the strategy that knows a wanted node
        self._wanted = wanted

    def to_placement_group(self) -> PlacementGroup:
        """Ask Ray for the place of a worker."""
        return placement_group(*self._bound.args, **self._bound.kwargs, _soft_target_node_id=self._wanted())

    def __getstate__(self) -> dict[str, object]:
        """Without ``wanted``, which belongs to a driver: Tune pickles the trials at its end."""
        return {name: value for name, value in super().__getstate__().items() if name != "_wanted"}


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

    def free(self) -> dict[str, int]:
        """Trials that fit beside what runs, by ID of those nodes; Ray may not have heard of the last one yet."""
        available = _state.available_resources_per_node()
        return {node_id: fitting(self._trial, available.get(node_id, {})) for node_id in self._usable()}

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


class NearData:
    """Which node is the best for a new worker: one that holds the data of the trials that run, and has room.

    Args:
        slots: The cluster.
        needed: Gives the digests of the data sets that trials need now.
        held: Gives the digests of those that a node (ID) holds.
    """

    def __init__(
        self, slots: Slots, needed: Callable[[], Collection[str]], held: Callable[[str], Collection[str]]
    ) -> None:
        self._slots = slots
        self._needed = needed
        self._held = held
        self._free: dict[str, int] = {}
        self._at = -math.inf

    def node(self) -> str | None:
        """Its ID; None if no node with room holds any of the data. Each answer takes up a place there."""
        if time.monotonic() - self._at > FREE_S:
            self._free, self._at = self._slots.free(), time.monotonic()
        needed = set(self._needed())
        holding = {node_id: len(needed & set(self._held(node_id))) for node_id, free in self._free.items() if free > 0}
        best = max(holding, key=lambda node_id: holding[node_id], default=None)
        if best is None or not holding[best]:
            return None
        self._free[best] -= 1
        return best


def warn_of_crowds(trial: Mapping[str, float], *, at_most: int | None) -> None:
    """Tell whoever started the sweep of nodes that are ``crowded``."""
    for address, at_once, each in crowded(trial, ray.nodes(), at_most=at_most):
        _LOG.warning(
            "%s may run %d trials at once, which leaves %.1f GB of memory to each, and one takes %.0f GB or more: "
            "some may be ended for want of it. Say what one takes (resources: {memory: 2GB}), or lower concurrency.",
            address,
            at_once,
            each / 1e9,
            A_TRIAL / 1e9,
        )


def crowded(
    trial: Mapping[str, float], nodes: Iterable[Mapping[str, Any]], *, at_most: int | None
) -> Iterator[tuple[str, int, float]]:
    """Nodes that could run out of memory because trials do not say how much they take.

    Args:
        trial: Ray's resources of one trial.
        nodes: As ``ray.nodes`` gives them.
        at_most: So many trials run at once.

    Yields:
        The address of each where trials would have less than ``A_TRIAL``, how many run there at once, and the bytes
        that each of them would have.
    """
    if "memory" in trial:
        return
    for node in nodes:
        at_once = fitting(trial, node["Resources"]) if node["Alive"] else 0
        at_once = at_once if at_most is None else min(at_once, at_most)
        if at_once and node["Resources"].get("memory", 0.0) / at_once < A_TRIAL:
            yield node["NodeManagerAddress"], at_once, node["Resources"].get("memory", 0.0) / at_once


def fitting(trial: Mapping[str, float], node: Mapping[str, float]) -> int:
    """Trials that fit a node with these resources."""
    fits = []
    for name, wanted in trial.items():
        has = node.get(name, 0.0)
        # A trial with a share of a GPU cannot use two of them, so whole GPUs are counted one by one.
        of_shared_gpus = name == "GPU" and wanted < 1
        fits.append(has * (1 // wanted) if of_shared_gpus else has // wanted)
    return int(min(fits)) if fits else 0
