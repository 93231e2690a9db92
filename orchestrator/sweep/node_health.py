"""Detect nodes that fail trial after trial: a full disk, a broken GPU, a driver that does not match.

A node is suspect after several failures in a row, with no epoch reported in between, of different trials or of a trial
that has trained on another node. The sweep decides on quarantine: never of the last node that could run a trial, since
a failure on all nodes has another cause.
"""

from __future__ import annotations

from dataclasses import dataclass, field

QUARANTINE_AFTER = 3
"""Number of consecutive failures that make a node suspect."""


@dataclass
class NodeHealth:
    """Failures of a sweep's nodes, by node ID. A function of the journal."""

    quarantined: set[str] = field(default_factory=set)
    _failed: dict[str, list[str]] = field(default_factory=dict)
    """Trials whose attempts failed in a row, by node."""
    _trained_on: dict[str, set[str]] = field(default_factory=dict)
    """Nodes on which a trial reported an epoch, by trial."""

    def reported(self, node_id: str, trial_id: str) -> None:
        """Take a finished epoch on a node."""
        self._failed.pop(node_id, None)
        self._trained_on.setdefault(trial_id, set()).add(node_id)

    def failed(self, node_id: str, trial_id: str) -> None:
        """Take a failed attempt that may be the node's fault."""
        self._failed.setdefault(node_id, []).append(trial_id)

    def ended(self, trial_id: str) -> None:
        """Take the end of a trial."""
        self._trained_on.pop(trial_id, None)

    def failures(self, node_id: str) -> int:
        """Return the number of consecutive failures."""
        return len(self._failed.get(node_id, ()))

    def is_suspect(self, node_id: str) -> bool:
        """Return whether its failures indicate the node rather than a trial. False for a node without ID."""
        failed = self._failed.get(node_id, [])
        if not node_id or node_id in self.quarantined or len(failed) < QUARANTINE_AFTER:
            return False
        return len(set(failed)) > 1 or bool(self._trained_on.get(failed[0], set()) - {node_id})
