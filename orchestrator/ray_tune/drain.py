"""Nodes that are leaving: their trials go on elsewhere from their checkpoints, at the end of an epoch.

A node is drained by `agr cluster leave`, or by whoever else tells Ray that a machine is to be taken away. Ray then
gives it nothing new, and ends it at a deadline; what runs there meanwhile is ours to move.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import ray
from ray._private.state import state as _state  # as Ray Train's own watcher of preempted nodes does

from orchestrator.standing import LiveTrial

LOOK_S = 2.0
"""Draining nodes are looked up so often (seconds)."""


class Drain:
    """Says which trials are to be moved."""

    def __init__(self) -> None:
        self._hosts: set[str] = set()
        self._seen: set[str] = set()
        self._at = -LOOK_S
        self._noted: dict[tuple[str, int], int] = {}
        """Epochs that an attempt had when its node was first seen draining."""

    def hosts(self) -> set[str]:
        """Addresses of the nodes that are being drained, and live still."""
        if time.monotonic() - self._at > LOOK_S:
            draining = _state.get_draining_nodes()
            nodes = ray.nodes() if draining else []
            self._hosts = {node["NodeManagerAddress"] for node in nodes if node["Alive"] and node["NodeID"] in draining}
            self._at = time.monotonic()
        return self._hosts

    def due(self, live: Iterable[LiveTrial]) -> list[str]:
        """IDs of trials to move now: those that finished an epoch since their node began to leave.

        A trial that a worker takes up there afterwards has lost nothing yet, and moves at once.
        """
        before, leaving = self._seen, self.hosts()
        self._seen = leaving
        found = []
        for trial in live:
            if trial.node not in leaving:
                continue
            key = (trial.trial_id, trial.attempt)
            since = self._noted.setdefault(key, -1 if trial.node in before else trial.epoch)
            if trial.epoch > since:
                found.append(trial.trial_id)
        return found
