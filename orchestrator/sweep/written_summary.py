"""The driver's own summary of its sweep, and the last heartbeat of the driver before."""

from __future__ import annotations

import logging

from orchestrator.catalog.summary import (
    BestTrial,
    Left,
    Rates,
    Seconds,
    Summary,
    SummaryError,
    TrialCounts,
    annotation_fields,
    read_summary,
)
from orchestrator.errors import NotFoundError
from orchestrator.journal.outcome import SweepStatus
from orchestrator.journal.segments import JournalHead
from orchestrator.stats.eta import Course, Eta, Length, eta
from orchestrator.storage.base import Storage
from orchestrator.sweep.budget import Budget, left
from orchestrator.sweep.live_state import Standing

_LOG = logging.getLogger(__name__)


def summary_of(
    standing: Standing,
    budget: Budget,
    status: SweepStatus | None,
    *,
    planned: int | None,
    slots: int,
    course: Course | None,
    head: JournalHead | None,
) -> Summary:
    """Return the current summary.

    Args:
        standing: The sweep.
        budget: Its budgets.
        status: Status of the released sweep; None while it is driven.
        planned: Number of trials requested; None if only a budget ends the sweep.
        slots: Number of trials that the cluster can run at a time; 0 if not yet known.
        course: Schedule of trials; None: the time left is not estimated.
        head: The newest segment of the journal.
    """
    now, best, started = budget.clock(), standing.best, standing.started
    objectives = started.objectives
    counts = standing.totals.by_outcome()
    spent = budget.document(now)
    remaining = left(budget.limits, budget.spent(now))
    running = len(standing.spending.running)
    driven = status is None
    limits = budget.limits
    return Summary(
        sweep_id=started.sweep_id,
        name=started.name,
        status=status or ("paused" if standing.steering.paused else "running"),
        started=started.time,
        heartbeat=now,
        wall_s=round(standing.wall_s(now), 3),
        budget_wall_s=limits.get("wall"),
        objective=objectives[0] if len(objectives) == 1 else objectives,
        trials=TrialCounts(**counts, running=len(standing.live)),
        stages=standing.totals.by_stage(),
        data=standing.copy_figures(),
        quarantined=standing.quarantined_nodes(),
        planned=planned,
        test_reads=standing.totals.test_reads,
        best=None if best is None else BestTrial.of(*best),
        rerun_of=started.rerun_of,
        **annotation_fields(standing.annotations),
        journal=head,
        spent=spent,
        left=Left(
            usd=_rounded(remaining.get("usd")),
            gpu_hours=_rounded(remaining.get("gpu_hours")),
            wall_s=_rounded(remaining.get("wall")),
        ),
        eta_s=_eta(standing, budget, course, planned=planned, slots=slots) if driven and course is not None else None,
        rates=Rates(
            usd_per_hour=round(standing.spending.usd_per_hour(), 6) if driven else 0.0,
            epochs_per_minute=round(standing.pace.epochs_per_minute(now), 3) if driven else 0.0,
            busy_share=round(min(1.0, running / slots), 4) if driven and slots else None,
        ),
    )


def _rounded(amount: float | None) -> float | None:
    return None if amount is None else round(amount, 6)


def _eta(standing: Standing, budget: Budget, course: Course, *, planned: int | None, slots: int) -> Seconds | None:
    """Return the seconds until the sweep is over: its trials have ended, or a budget is used up."""
    now = budget.clock()
    until_budget = budget.seconds_left(now)
    trials: Eta | None = None
    if planned is not None and slots and not standing.steering.paused:
        ended = sum(count for outcome, count in standing.totals.outcomes.items() if outcome != "interrupted")
        living = [
            Length(trial.done, trial.seconds + (now - trial.heard if trial.heard is not None else 0.0))
            for trial in standing.pace.live.values()
        ]
        aside = standing.pace.set_aside
        to_begin = max(0, planned - ended - len(living) - len(aside))
        trials = eta(standing.pace.ended, [*living, *aside], to_begin, slots, course)
    if trials is None:
        return None if planned is not None or until_budget is None else Seconds.of(*[until_budget] * 3)
    return Seconds.of(*(min(seconds, until_budget or seconds) for seconds in (trials.p10, trials.p50, trials.p90)))


def previous_heartbeat_of(storage: Storage, sweep_id: str) -> float | None:
    """Return the last heartbeat of the driver before, by its own clock; None without a readable summary (logged)."""
    try:
        return read_summary(storage, sweep_id).heartbeat
    except NotFoundError:  # it was killed before it wrote one, or `agr rm` was interrupted
        return None
    except SummaryError as error:
        _LOG.warning("%s The previous driver counts as ended at its last event.", error)
        return None
