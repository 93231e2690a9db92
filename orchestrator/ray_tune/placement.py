"""Placement of trials: slots of the cluster, and the best node for the next worker."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Any

import ray
from ray.tune import PlacementGroupFactory
from ray.util.placement_group import PlacementGroup

from orchestrator.ray_tune.internals.core import free_resources
from orchestrator.ray_tune.internals.tune import place_near
from orchestrator.ray_tune.needs import Needs, fitting

_LOG = logging.getLogger(__name__)

SLOTS_S = 5.0
"""Time between two look-ups of the cluster's size, in seconds."""

FREE_S = 1.0
"""Time between two look-ups of the nodes' free resources, in seconds."""

_NODE_ID = "ray.io/node-id"
"""A label that Ray gives every node."""


def on(node_id: str) -> dict[str, str]:
    """Return Ray's label selector of one node."""
    return {_NODE_ID: node_id}


def not_on(node_ids: Collection[str]) -> dict[str, str]:
    """Return Ray's label selector of all nodes except these; of all if there are none."""
    return {_NODE_ID: f"!in({','.join(sorted(node_ids))})"} if node_ids else {}


class Placement(PlacementGroupFactory):  # type: ignore[misc]
    """Placement request of a trial: the resources of its worker, on no node with an ID in ``avoided``.

    ``wanted`` returns the ID of the preferred node, or None; if that is full or gone, Ray takes another. It is called
    when a worker is requested, and excluded from comparison: Tune gives a free worker to any trial with an equal
    request, wherever the worker lives.
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
        """Request the placement group of a worker."""
        return place_near(self, self._wanted())

    def __getstate__(self) -> dict[str, object]:
        """Exclude ``wanted``, which belongs to a driver: Tune pickles the trials at its end."""
        return {name: value for name, value in super().__getstate__().items() if name != "_wanted"}


class Placements:
    """Placements of a sweep's trials: one object for all equal requests.

    Tune keeps each trial's to the end of the sweep, and making one takes longer than looking it up.

    Args:
        avoided: IDs of nodes that get no trial; read at each use.
        wanted: As in ``Placement``.
    """

    def __init__(self, avoided: Collection[str], wanted: Callable[[], str | None]) -> None:
        self._avoided = avoided
        self._wanted = wanted
        self._made: dict[Hashable, Placement] = {}

    def of(self, worker: Mapping[str, float]) -> Placement:
        """Return the current placement of a worker with these resources."""
        terms = tuple(sorted(worker.items())), frozenset(self._avoided)
        if terms not in self._made:
            self._made[terms] = Placement(worker, self._avoided, self._wanted)
        return self._made[terms]


class Slots:
    """Number of trials that the cluster can hold at once, by the resources of each node.

    Args:
        needs: Resource requests of a trial.
        at_most: Maximum number of concurrent trials.
        leaving: Returns the addresses of draining nodes.
        avoided: IDs of nodes that get no trial; read at each use.
    """

    def __init__(
        self,
        needs: Needs,
        *,
        at_most: int | None = None,
        leaving: Callable[[], Collection[str]] = tuple,
        avoided: Collection[str] = (),
    ) -> None:
        self._needs = needs
        self._at_most = at_most
        self._leaving = leaving
        self._avoided = avoided
        self._fits: dict[str, int] = {}
        self._told: dict[str, int] = {}
        self._some_left = False
        self._at = -math.inf

    def count(self) -> int:
        """Return the number of trials that fit now, over all nodes that are alive, not draining and not avoided."""
        return sum(self._usable().values())

    def free(self) -> dict[str, int]:
        """Return the number of further trials that fit, by ID of those nodes; Ray may not count the newest one yet."""
        available = free_resources()
        trial = self._needs.of_any()
        return {node_id: fitting(trial, available.get(node_id, {})) for node_id in self._usable()}

    def terms(self) -> Hashable:
        """Return the inputs of placements: they change as trials grow and nodes are quarantined."""
        self._usable()
        return tuple(self._needs.of_any().items()), frozenset(self._avoided)

    def fits_elsewhere(self, node_id: str) -> bool:
        """Return whether a node other than this one, and not avoided, could run a trial."""
        return any(fits for usable, fits in self._usable().items() if usable != node_id)

    def _usable(self) -> dict[str, int]:
        """Return the number of trials that fit, by node ID."""
        if time.monotonic() - self._at > SLOTS_S or self._needs.outgrown:
            leaving = self._leaving()
            nodes = [node for node in ray.nodes() if node["Alive"] and node["NodeManagerAddress"] not in leaving]
            self._needs.learn([node["Resources"] for node in nodes if node["NodeID"] not in self._avoided])
            trial = self._needs.of_any()
            self._fits = {node["NodeID"]: fitting(trial, node["Resources"]) for node in nodes}
            self._at = time.monotonic()
            self._tell_of_memory(nodes)
        usable = {node_id: fits for node_id, fits in self._fits.items() if node_id not in self._avoided}
        self._tell_of_the_last(any(usable.values()))
        return usable

    def _tell_of_the_last(self, some_left: bool) -> None:
        """Warn the user if no node is left and the sweep waits for one."""
        if self._some_left and not some_left:
            _LOG.warning("No node can run a trial. The sweep continues when one joins (agr cluster join).")
        self._some_left = some_left

    def _tell_of_memory(self, nodes: Collection[Mapping[str, Any]]) -> None:
        """Warn the user if estimated memory keeps trials off a node."""
        if self._at_most is not None and sum(self._fits.values()) >= self._at_most:
            return
        for node in nodes:
            node_id, kept_off = node["NodeID"], self._needs.kept_off(node["Resources"])
            if kept_off and self._told.get(node_id) != kept_off:
                self._told[node_id] = kept_off
                _LOG.warning(
                    "Concurrent trials on %s: %d instead of %d. It has %.1f GB of memory, and each trial requests "
                    "%.1f GB. To change that, set resources.memory.",
                    node["NodeManagerAddress"],
                    self._fits[node_id],
                    self._fits[node_id] + kept_off,
                    node["Resources"].get("memory", 0.0) / 1e9,
                    self._needs.of_any()["memory"] / 1e9,
                )


class NearData:
    """The best node for a new worker: one that holds the data of the running trials, and has room.

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
        """Return its ID; None if no node with room holds any of the data. Each call reserves a slot there."""
        if time.monotonic() - self._at > FREE_S:
            self._free, self._at = self._slots.free(), time.monotonic()
        needed = set(self._needed())
        holding = {node_id: len(needed & set(self._held(node_id))) for node_id, free in self._free.items() if free > 0}
        best = max(holding, key=lambda node_id: holding[node_id], default=None)
        if best is None or not holding[best]:
            return None
        self._free[best] -= 1
        return best
