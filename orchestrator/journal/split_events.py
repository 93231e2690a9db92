"""Events about a split of the data: its audit and its baseline."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from orchestrator.journal.data_refs import Name
from orchestrator.journal.event_base import EventBase


class BaselineMeasured(EventBase):
    """Validation metrics of a split's baseline: the mean age and the commonest class."""

    kind: Literal["baseline_measured"] = "baseline_measured"
    split_digest: str
    metrics: dict[str, float] = Field(description="val/... of the baseline.")


class SplitAudited(EventBase):
    """Audit findings of a split, before the first trial on it."""

    kind: Literal["split_audited"] = "split_audited"
    data_digest: Name
    split_digest: Name
    leaks: int = Field(ge=0, description="Number of groups (of one picture, or one subject) that lie in several parts.")
    conflicts: int = Field(
        ge=0, description="Number of groups (of one picture, or one subject) with contradicting labels."
    )
