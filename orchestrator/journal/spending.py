"""Cost of a sweep: dollars, GPU-hours and seconds, summed from its journal.

- Dollars count every second that a node is in the cluster while the sweep runs, at the price on its label, times the
  sweep's share if other sweeps use the node as well. A killed driver changes nothing: a node that is still there when
  the next driver starts was paid for meanwhile; another one counts until the last sign of life.
- GPU-hours count the GPUs that trials hold, from an attempt's start to its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.journal.annotations import is_annotation
from orchestrator.journal.events import (
    AttemptFailed,
    AttemptStarted,
    DriverStarted,
    Event,
    NodeJoined,
    NodeLeft,
    NodeShared,
    SweepEnded,
    TrialEnded,
    TrialReported,
)

HOUR_S = 3600.0


@dataclass(frozen=True)
class PaidNode:
    """A node of the cluster and its price."""

    node: str
    usd_per_hour: float | None
    share: float
    since: float
    """Time until which its price is in the sum."""

    def usd(self, until: float) -> float:
        """Return the dollars from ``since`` to ``until``."""
        return (self.usd_per_hour or 0.0) * self.share * max(0.0, until - self.since) / HOUR_S


@dataclass
class Spending:
    """Dollars and run time of trials: a fold of the journal."""

    gpus: float = 0.0
    """Number of GPUs that a running trial holds."""
    nodes: dict[str, PaidNode] = field(default_factory=dict)
    """Joined nodes, by ID."""
    unpriced: set[str] = field(default_factory=set)
    """Addresses of current and former nodes without a price."""
    trial_s: dict[str, float] = field(default_factory=dict)
    """Run time of each trial in seconds, by ID, without the running attempt."""
    running: dict[str, float] = field(default_factory=dict)
    """Start of each running attempt, by trial."""
    _usd: float = 0.0
    _priced: bool = False
    _ran_s: float = 0.0
    _left_open: dict[str, PaidNode] = field(default_factory=dict)
    """Nodes that the last driver left joined because it was killed."""
    _last: float = 0.0
    """Time of the sweep's last sign of life."""

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Spending:
        """Return an empty fold for the sweep of a document."""
        return cls(gpus=float((document.get("resources") or {}).get("gpus", 0)))

    def apply(self, event: Event) -> None:
        """Apply a journalled event."""
        if is_annotation(event):
            return
        match event:
            case TrialReported():  # nearly all events
                pass
            case DriverStarted():
                until = max(self._last, event.previous_heartbeat or 0.0) if self._last else event.time
                self._end_attempts(until)
                self._leave_all(until)
            case NodeJoined():
                self._join(event)
            case NodeLeft() if event.node_id in self.nodes:
                self._usd += self.nodes.pop(event.node_id).usd(event.time)
            case NodeShared() if event.node_id in self.nodes:
                node = self.nodes[event.node_id]
                self._usd += node.usd(event.time)
                self.nodes[event.node_id] = replace(node, share=event.share, since=event.time)
            case AttemptStarted():
                self._end_attempt(event.trial_id, event.time)
                self.running[event.trial_id] = event.time
            case AttemptFailed() | TrialEnded():
                self._end_attempt(event.trial_id, event.time)
            case SweepEnded():
                self._end_attempts(event.time)
                self._leave_all(event.time)
                self._left_open.clear()
            case _:
                pass
        self._last = event.time

    def _join(self, event: NodeJoined) -> None:
        before = self._left_open.pop(event.node_id, None) or self.nodes.get(event.node_id)
        if before is not None:
            self._usd += before.usd(event.time)
        share = 1.0 if before is None else before.share
        self.nodes[event.node_id] = PaidNode(event.node, event.usd_per_hour, share, event.time)
        if event.usd_per_hour is None:
            self.unpriced.add(event.node)
        else:
            self._priced = True

    def _leave_all(self, until: float) -> None:
        for node_id, node in self.nodes.items():
            self._usd += node.usd(until)
            self._left_open[node_id] = replace(node, since=until)
        self.nodes.clear()

    def _end_attempts(self, until: float) -> None:
        for trial_id in list(self.running):
            self._end_attempt(trial_id, until)

    def _end_attempt(self, trial_id: str, until: float) -> None:
        if trial_id in self.running:
            seconds = max(0.0, until - self.running.pop(trial_id))
            self.trial_s[trial_id] = self.trial_s.get(trial_id, 0.0) + seconds
            self._ran_s += seconds

    @property
    def last(self) -> float:
        """Time of the last event, seconds since the epoch."""
        return self._last

    def usd(self, now: float) -> float | None:
        """Return the dollars until ``now``; None if a node has no price, or none has joined."""
        if self.unpriced or not self._priced:
            return None
        return self._usd + sum(node.usd(now) for node in self.nodes.values())

    def usd_per_hour(self) -> float:
        """Return the current cost of the joined nodes to the sweep, in dollars per hour."""
        return sum((node.usd_per_hour or 0.0) * node.share for node in self.nodes.values())

    def _ran(self, now: float) -> float:
        return self._ran_s + sum(max(0.0, now - since) for since in self.running.values())

    def gpu_hours(self, now: float) -> float:
        """Return the GPU-hours that trials held until ``now``."""
        return self.gpus * self._ran(now) / HOUR_S

    def usd_of_trials(self, now: float) -> dict[str, float]:
        """Return the sweep's dollars divided among its trials (by ID) in proportion to their run times."""
        usd, ran = self.usd(now), self._ran(now)
        if usd is None or not ran:
            return {}
        seconds = dict(self.trial_s)
        for trial_id, since in self.running.items():
            seconds[trial_id] = seconds.get(trial_id, 0.0) + max(0.0, now - since)
        return {trial_id: usd * s / ran for trial_id, s in seconds.items()}
