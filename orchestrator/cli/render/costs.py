"""Text lines on a sweep's spending, remaining budget and duration."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.catalog.summary import Left, Summary
    from orchestrator.journal.steering_events import Spent


def cost_lines(summary: Summary) -> dict[str, str]:
    """Return lines of ``agr status`` by name: spent, left, time left, pace; empty for summaries of older versions."""
    if summary.spent is None:
        return {}
    lines = {"spent": spent_words(summary.spent)}
    left = left_words(summary.left)
    if left:
        lines["left"] = left
    rates = summary.rates
    pace = [f"{rates.epochs_per_minute:.3g} epochs a minute"] if rates.epochs_per_minute else []
    if rates.busy_share is not None and summary.status == "running":
        pace.append(f"{rates.busy_share:.0%} of the slots busy")
    if rates.usd_per_hour:
        pace.append(f"{rates.usd_per_hour:.3g} $ an hour")
    if pace:
        lines["pace"] = ", ".join(pace)
    if summary.eta_s is not None and summary.status == "running":
        lines["time left"] = (
            f"about {duration(summary.eta_s.p50)} (in 8 of 10 cases {duration(summary.eta_s.p10)} to "
            f"{duration(summary.eta_s.p90)})"
        )
    return lines


def spent_words(spent: Spent) -> str:
    """Return dollars if known, GPU-hours if trials hold GPUs, and elapsed time, as text."""
    dollars = [] if spent.usd is None else [f"{spent.usd:.4g} $"]
    gpus = [f"{spent.gpu_hours:.4g} GPU-hours"] if spent.gpu_hours else []
    return ", ".join([*dollars, *gpus, duration(spent.wall_s)])


def left_words(left: Left) -> str:
    """Return the rest of each budget as text; empty without a budget."""
    dollars = [] if left.usd is None else [f"{left.usd:.4g} $"]
    gpus = [] if left.gpu_hours is None else [f"{left.gpu_hours:.4g} GPU-hours"]
    wall = [] if left.wall_s is None else [duration(left.wall_s)]
    return ", ".join([*dollars, *gpus, *wall])


def duration(seconds: float) -> str:
    """Format a duration: ``45 s``, ``3 min``, ``2 h 5 min``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
