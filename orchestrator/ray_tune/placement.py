"""How many trials the cluster can hold at once, and which node is the best for the next one."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Hashable, Mapping
from typing import Any

import ray
from ray._private.state import state as _state  # Ray says publicly only what the whole cluster has free
from ray.tune import PlacementGroupFactory
from ray.util.placement_group import PlacementGroup, placement_group

from orchestrator.ray_tune.needs import Needs, fitting

_LOG = logging.getLogger(__name__)

SLOTS_S = 5.0
"""The cluster's size is looked up so often (seconds)."""

FREE_S = 1.0
"""What nodes have free is looked up so often (seconds)."""

_NODE_ID = "ray.io/node-id"
"""A label that Ray gives every node."""


def on(node_id: str) -> dict[str, str]:
    """Ray's label selector of one node."""
    return {_NODE_ID: node_id}


def not_on(node_ids: Collection[str]) -> dict[str, str]:
    """Ray's label selector of all nodes but these; of all, where there are none."""
    return {_NODE_ID: f"!in({','.join(sorted(node_ids))})"} if node_ids else {}


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
        needs: What a trial takes of a node.
        at_most: So many trials run at once, however many fit.
        leaving: Gives the addresses of nodes that are being drained.
        avoided: IDs of nodes that get no trial; looked at anew each time.
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
        """Trials that fit now, over all nodes that are alive, stay, and are not avoided."""
        return sum(self._usable().values())

    def free(self) -> dict[str, int]:
        """Trials that fit beside what runs, by ID of those nodes; Ray may not have heard of the last one yet."""
        available = _state.available_resources_per_node()
        trial = self._needs.of_any()
        return {node_id: fitting(trial, available.get(node_id, {})) for node_id in self._usable()}

    def terms(self) -> Hashable:
        """What a trial asks for, and where it may run: changes as trials grow and nodes are quarantined."""
        self._usable()
        return tuple(self._needs.of_any().items()), frozenset(self._avoided)

    def fits_elsewhere(self, node_id: str) -> bool:
        """Whether a node other than this one, and none that is avoided, could run a trial."""
        return any(fits for usable, fits in self._usable().items() if usable != node_id)

    def _usable(self) -> dict[str, int]:
        """Trials that fit, by node ID."""
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
        """Tell whoever started the sweep when no node is left: it waits, and nothing else would say for what."""
        if self._some_left and not some_left:
            _LOG.warning("No node is left that can run a trial. The sweep goes on when one joins (agr cluster join).")
        self._some_left = some_left

    def _tell_of_memory(self, nodes: Collection[Mapping[str, Any]]) -> None:
        """Tell whoever started the sweep where memory of which it does not speak keeps trials off a node."""
        if self._at_most is not None and sum(self._fits.values()) >= self._at_most:
            return
        for node in nodes:
            node_id, kept_off = node["NodeID"], self._needs.kept_off(node["Resources"])
            if kept_off and self._told.get(node_id) != kept_off:
                self._told[node_id] = kept_off
                _LOG.warning(
                    "Trials at once on %s: %d and not %d. It has %.1f GB of memory, and each is given %.1f GB. To "
                    "change that, say what one takes (resources.memory).",
                    node["NodeManagerAddress"],
                    self._fits[node_id],
                    self._fits[node_id] + kept_off,
                    node["Resources"].get("memory", 0.0) / 1e9,
                    self._needs.of_any()["memory"] / 1e9,
                )


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
