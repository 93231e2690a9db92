"""Events that steer a sweep from outside: earlier sweeps, user commands, nodes and their prices, budgets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from agr_core.config import StrictModel
from orchestrator.journal.data_refs import Name
from orchestrator.journal.event_base import EventBase
from orchestrator.journal.outcome import Outcome

BudgetName = Literal["wall", "gpu_hours", "usd"]
"""A field of ``budget``: seconds, hours that trials hold GPUs, dollars."""


class KnownTrial(StrictModel):
    """A trial of an earlier sweep, as a point of this sweep's space."""

    trial_id: str
    point: dict[str, Any] = Field(description="Values by domain name.")
    outcome: Outcome
    values: tuple[float, ...] = Field(description="The value of each objective at its best epoch.")
    epochs: tuple[tuple[int, float], ...] = Field(description="Epochs and the (first) objective of each.")


class HistoryTaken(EventBase):
    """The search received the trials of an earlier sweep, before its first proposal."""

    kind: Literal["history_taken"] = "history_taken"
    sweep_id: str = Field(description="The earlier sweep.")
    trials: tuple[KnownTrial, ...]
    outside: int = Field(ge=0, description="Number of trials outside this sweep's space, left out.")
    differing: tuple[str, ...] = Field(
        default=(), description="Fields that this sweep fixes and in which some of the trials differ."
    )


class ControlReceived(EventBase):
    """A user's command reached the driver."""

    kind: Literal["control_received"] = "control_received"
    command: str
    arguments: dict[str, Any] = Field(default_factory=dict)
    key: str = Field(description="Name of the control object, so that it is executed once.")
    sender: str = Field(default="", description="Author of the command, as user@host; empty in earlier journals.")
    sent: float | None = Field(default=None, description="Time of the command, seconds since the epoch.")
    refused: str = Field(default="", description="Reason why it is not executed; empty if it is.")


class NodeJoined(EventBase):
    """A node that the sweep may use is in the cluster: when the driver started, or later."""

    kind: Literal["node_joined"] = "node_joined"
    node: str = Field(description="Its address.")
    node_id: Name = Field(description="Ray's ID of the node, new with each start.")
    usd_per_hour: float | None = Field(ge=0, description="Price on its label; None without one.")


class NodeQuarantined(EventBase):
    """A node failed trial after trial, or its disk is full: it gets no more, and its failures count as no retries."""

    kind: Literal["node_quarantined"] = "node_quarantined"
    node: str = Field(description="Its address.")
    node_id: str = Field(description="Ray's ID of the node; a restarted node has another, and gets trials again.")
    failures: int = Field(ge=1, description="Consecutive failures, with no epoch reported in between.")
    error: str = Field(description="The last error, one line.")


class NodeLeft(EventBase):
    """A node left the cluster."""

    kind: Literal["node_left"] = "node_left"
    node: str
    node_id: Name
    drained: bool = Field(description="Whether it left in good order; otherwise it was lost.")


class NodeShared(EventBase):
    """The sweep's share of a node's price from now on: other sweeps use the node as well."""

    kind: Literal["node_shared"] = "node_shared"
    node_id: Name
    share: float = Field(ge=0, le=1)


class BudgetNearlySpent(EventBase):
    """Nine tenths of a budget are used: from now on no trial begins that cannot end within the rest."""

    kind: Literal["budget_nearly_spent"] = "budget_nearly_spent"
    budget: BudgetName
    spent: float = Field(ge=0)
    limit: float = Field(gt=0)


class Spent(StrictModel):
    """Amounts that a sweep has used."""

    usd: float | None = Field(ge=0, description="Dollars; None if a node has no price.")
    gpu_hours: float = Field(ge=0, description="GPU-hours held by trials.")
    wall_s: float = Field(ge=0, description="Run time of the sweep's drivers, in seconds.")
