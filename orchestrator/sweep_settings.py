"""What a sweep file says about running, as its driver needs it."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.spec.model import KEEP_CHECKPOINTS, ConfirmSpec, OutOfMemory


@dataclass
class SweepSettings:
    """What a sweep file says about running, beside its space."""

    seeds: int = 1
    retries: int = 3
    concurrency: int | None = None
    wall_s: float | None = None
    confirm: ConfirmSpec | None = None
    report_limit_s: float | None = None
    """Longest time without a word of a running trial (seconds)."""
    out_of_memory: OutOfMemory = "retry"
    keep_checkpoints: int | None = KEEP_CHECKPOINTS
    """Of how many of the best configurations the weights stay; None: of all."""
