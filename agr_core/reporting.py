"""Output of the trainer: one report per epoch, passed to one callable."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Metrics = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """Metrics of one finished epoch.

    ``metrics`` has flat names. ``train/...`` and ``val/...`` depend on the configuration alone and are compared by a
    re-run; ``time/...`` (seconds, images per second) and ``memory/...`` (gigabytes) are not. An undefined metric is
    absent, never NaN. ``tables`` holds confusion matrices by name: ``val/age_confusion`` is
    ``{"labels": [...], "counts": [[...]]}`` with the true class in rows.
    """

    epoch: int
    metrics: Metrics
    tables: Mapping[str, Any] = field(default_factory=dict)
    stopped_early: bool = False
    finished: bool = False

    def __post_init__(self) -> None:
        bad = sorted(name for name, value in self.metrics.items() if not math.isfinite(value))
        if bad:
            raise ValueError(f"epoch {self.epoch} reports non-finite {', '.join(bad)}; leave undefined metrics out.")

    def to_json(self) -> dict[str, Any]:
        """Return a plain JSON object with every field."""
        return {
            "epoch": self.epoch,
            "metrics": dict(self.metrics),
            "tables": dict(self.tables),
            "stopped_early": self.stopped_early,
            "finished": self.finished,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> EpochReport:
        """Return the report written by ``to_json``."""
        return cls(**document)


Reporter = Callable[[EpochReport], None]
"""Callable that receives each epoch's report; it may raise to end the training."""
