"""Settings of a sweep file for its run, as the driver needs them."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestrator.journal.steering_events import BudgetName
from orchestrator.spec.model import (
    KEEP_CHECKPOINTS,
    AshaSpec,
    ConfirmSpec,
    HyperbandSpec,
    NoScheduler,
    OutOfMemory,
    SweepSpec,
)
from orchestrator.stats.eta import Course


@dataclass
class SweepSettings:
    """Settings of a sweep file except its space."""

    seeds: int = 1
    """Number of trials of each configuration: seeds, or folds."""
    folds: int | None = None
    retries: int = 3
    concurrency: int | str | None = None
    """Maximum number of concurrent trials, or their share of the slots such as ``50%``."""
    wall_s: float | None = None
    gpu_hours: float | None = None
    usd: float | None = None
    course: Course | None = field(default_factory=Course)
    """How trials go, for the time left; None: that is not estimated."""
    confirm: ConfirmSpec | None = None
    report_limit_s: float | None = None
    """Longest silence of a running trial, in seconds."""
    out_of_memory: OutOfMemory = "retry"
    keep_checkpoints: int | None = KEEP_CHECKPOINTS
    """Number of best configurations whose weights are kept; None: all."""

    @classmethod
    def of(cls, spec: SweepSpec, *, max_epochs: int) -> SweepSettings:
        """Return the settings of a sweep file whose longest trial has ``max_epochs``."""
        return cls(
            seeds=spec.trainings,
            folds=spec.folds,
            retries=spec.retries,
            concurrency=spec.concurrency,
            wall_s=spec.budget.wall,
            gpu_hours=spec.budget.gpu_hours,
            usd=spec.budget.usd,
            course=course_of(spec.scheduler, max_epochs),
            confirm=spec.confirm,
            report_limit_s=spec.limits.report,
            out_of_memory=spec.out_of_memory,
            keep_checkpoints=spec.keep_checkpoints,
        )

    @property
    def budgets(self) -> dict[BudgetName, float]:
        """The budgets that the sweep file sets."""
        given: dict[BudgetName, float | None] = {"wall": self.wall_s, "gpu_hours": self.gpu_hours, "usd": self.usd}
        return {name: limit for name, limit in given.items() if limit is not None}


def course_of(scheduler: NoScheduler | AshaSpec | HyperbandSpec, max_epochs: int) -> Course:
    """Return the schedule of trials; with several brackets that of the first, which has the most trials."""
    if isinstance(scheduler, NoScheduler):
        return Course(max_epochs)
    return Course(max_epochs, scheduler.rungs(max_epochs), 1 - 1 / scheduler.reduction_factor)
