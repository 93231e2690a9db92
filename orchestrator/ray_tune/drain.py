"""Draining nodes: their trials move to other nodes from their checkpoints, at the end of an epoch.

A node is drained by `agr cluster leave`, or by another request to Ray to remove a machine. Ray then gives it no new
work, and ends it at a deadline; moving its running trials is up to us.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import ray

from orchestrator.ray_tune.internals.core import draining_nodes
from orchestrator.sweep.live_state import LiveTrial

LOOK_S = 2.0
"""Time between two look-ups of draining nodes, in seconds."""


class Drain:
    """Selection of the trials to move off draining nodes."""

    def __init__(self) -> None:
        self._hosts: set[str] = set()
        self._seen: set[str] = set()
        self._at = -LOOK_S
        self._noted: dict[tuple[str, int], int] = {}
        """Epochs that an attempt had when its node was first seen draining."""

    def hosts(self) -> set[str]:
        """Return the addresses of the nodes that are draining and still live."""
        if time.monotonic() - self._at > LOOK_S:
            draining = draining_nodes()
            nodes = ray.nodes() if draining else []
            self._hosts = {node["NodeManagerAddress"] for node in nodes if node["Alive"] and node["NodeID"] in draining}
            self._at = time.monotonic()
        return self._hosts

    def due(self, live: Iterable[LiveTrial]) -> list[str]:
        """Return the IDs of trials to move now: those that finished an epoch since their node began to drain.

        A trial that starts there afterwards has lost nothing yet, and moves at once.
        """
        before, leaving = self._seen, self.hosts()
        self._seen = leaving
        due = []
        for trial in live:
            if trial.node not in leaving:
                continue
            key = (trial.trial_id, trial.attempt)
            since = self._noted.setdefault(key, -1 if trial.node in before else trial.epoch)
            if trial.epoch > since:
                due.append(trial.trial_id)
        return due
