"""What a trial takes of a node, and how many trials the cluster can hold."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping

import ray

from orchestrator.spec.model import ResourcesSpec

SLOTS_S = 5.0
"""The cluster's size is looked up so often (seconds)."""

TEAM_HOLDER = {"memory": float(2**20)}
"""What the worker of a trial takes whose processes Ray Train places: Tune wants it to take something."""


def bundle(resources: ResourcesSpec) -> dict[str, float]:
    """Ray's resources of one trial, all its processes together."""
    wanted = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": float(resources.memory or 0)}
    return {name: amount for name, amount in wanted.items() if amount > 0}


class Slots:
    """How many trials the cluster can hold at once, by what each node has; nodes may differ.

    Args:
        trial: Ray's resources of one trial.
        leaving: Gives the addresses of nodes that are being drained.
    """

    def __init__(self, trial: Mapping[str, float], *, leaving: Callable[[], Collection[str]] = tuple) -> None:
        self._trial = dict(trial)
        self._leaving = leaving
        self._counted = 0
        self._at = -math.inf

    def count(self) -> int:
        """Trials that fit now, over all nodes that are alive and stay."""
        if time.monotonic() - self._at > SLOTS_S:
            leaving = self._leaving()
            nodes = [node for node in ray.nodes() if node["Alive"] and node["NodeManagerAddress"] not in leaving]
            self._counted = sum(fitting(self._trial, node["Resources"]) for node in nodes)
            self._at = time.monotonic()
        return self._counted


def fitting(trial: Mapping[str, float], node: Mapping[str, float]) -> int:
    """Trials that fit a node with these resources."""
    fits = []
    for name, wanted in trial.items():
        has = node.get(name, 0.0)
        # A trial with a share of a GPU cannot use two of them, so whole GPUs are counted one by one.
        of_shared_gpus = name == "GPU" and wanted < 1
        fits.append(has * (1 // wanted) if of_shared_gpus else has // wanted)
    return int(min(fits)) if fits else 0
