"""Budgets of a sweep: what is left of each, and which trials can still end within it.

The arithmetic is in functions of plain values; ``Budget`` applies them to a running sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from orchestrator.journal.events import BudgetNearlySpent, Event, Spent, TrialCreated
from orchestrator.journal.outcome import OUTCOMES
from orchestrator.journal.spending import HOUR_S
from orchestrator.journal.steering_events import BudgetName
from orchestrator.sweep.decisions import Decisions, Stop
from orchestrator.sweep.live_state import Standing

NEARLY = 0.9
"""Used share of a budget above which a trial begins only if it can end within the rest."""

_UNITS: dict[BudgetName, str] = {"wall": "{:g} s", "gpu_hours": "{:g} GPU-hours", "usd": "{:g} dollars"}

Amounts = Mapping[BudgetName, float]
"""An amount of each budget that is limited or known: seconds, GPU-hours, dollars."""


def left(limits: Amounts, spent: Amounts) -> dict[BudgetName, float]:
    """Return the rest of each limited budget; 0 if overspent. Budgets with an unknown sum are left out."""
    return {name: max(0.0, limit - spent[name]) for name, limit in limits.items() if name in spent}


def seconds_left(limits: Amounts, spent: Amounts, *, usd_per_hour: float, gpus: float) -> float | None:
    """Return the seconds until the first budget is used up at these rates; None without a limit.

    Args:
        limits: The budgets.
        spent: Amount used of each.
        usd_per_hour: Current price of the nodes, in dollars per hour.
        gpus: Number of GPUs that trials hold now.
    """
    rates: dict[BudgetName, float] = {"wall": 1.0, "gpu_hours": gpus / HOUR_S, "usd": usd_per_hour / HOUR_S}
    remaining = left(limits, spent)
    times = [amount / rates[name] for name, amount in remaining.items() if rates[name] > 0]
    return min(times, default=None)


def words(name: BudgetName, amount: float) -> str:
    """Format an amount of a budget with its unit."""
    return _UNITS[name].format(round(amount, 4))


@dataclass
class Budget:
    """Enforcement of the budgets of one running sweep."""

    standing: Standing
    decisions: Decisions
    limits_of_file: Amounts
    planned: Callable[[], int | None]
    record: Callable[[Event], None]
    clock: Callable[[], float]

    @property
    def limits(self) -> dict[BudgetName, float]:
        """The budgets of the sweep file plus the additions of ``agr extend``."""
        added = self.standing.steering.added_budget
        return {name: limit + added.get(name, 0.0) for name, limit in self.limits_of_file.items()}

    def spent(self, now: float) -> dict[BudgetName, float]:
        """Return the amount used of each budget; without dollars if a price is unknown."""
        spending = self.standing.spending
        usd = spending.usd(now)
        dollars: dict[BudgetName, float] = {} if usd is None else {"usd": usd}
        return {"wall": self.standing.wall_s(now), "gpu_hours": spending.gpu_hours(now), **dollars}

    def document(self, now: float) -> Spent:
        """Return the amounts used, for the journal and the summary."""
        spent = self.spent(now)
        usd = spent.get("usd")
        return Spent(
            usd=None if usd is None else round(usd, 6),
            gpu_hours=round(spent["gpu_hours"], 6),
            wall_s=round(spent["wall"], 3),
        )

    def seconds_left(self, now: float, *, more_trials: int = 0) -> float | None:
        """Return the seconds until the first budget is used up if ``more_trials`` more ran; None without a limit."""
        spending = self.standing.spending
        running = len(spending.running) + more_trials
        return seconds_left(
            self.limits, self.spent(now), usd_per_hour=spending.usd_per_hour(), gpus=spending.gpus * running
        )

    def keep_to(self) -> None:
        """End the sweep if a budget is used up; journal a budget that is nearly used up."""
        now = self.clock()
        limits, spent = self.limits, self.spent(now)
        for name, limit in limits.items():
            used = spent.get(name, 0.0)
            if used >= limit and self.decisions.stop is None:
                words_of = f"budget.{name} of {words(name, limit)} is used up ({words(name, used)})"
                reason = f"{words_of}{self.undone()}"
                self.decisions.stop_sweep(Stop("completed", reason), self.standing.live)
            elif used >= NEARLY * limit and name not in self.standing.nearly_spent:
                self.record(BudgetNearlySpent(time=now, budget=name, spent=used, limit=limit))

    def holds_back(self, created: TrialCreated) -> str:
        """Return why a newly proposed trial must not begin; empty if it may."""
        nearly = self.standing.nearly_spent
        epoch_s = self.standing.pace.epoch_s(str(created.config["model"].get("name", "")))
        if not nearly or epoch_s is None:
            return ""
        now = self.clock()
        needed = epoch_s * int(created.config["schedule"]["epochs"])
        remaining = self.seconds_left(now, more_trials=1)
        if remaining is None or needed <= remaining:
            return ""
        name = min(nearly)
        limit, used = self.limits[name], self.spent(now).get(name, 0.0)
        return (
            f"{words(name, used)} of budget.{name} ({words(name, limit)}) are used, and no further trial would end "
            f"within {remaining:.0f} s{self.undone()}"
        )

    def undone(self) -> str:
        """Return what remains undone if the sweep ends now; begins with a semicolon, or is empty."""
        planned, counts = self.planned(), self.standing.totals.outcomes
        if planned is None:
            return ""
        done = sum(counts[outcome] for outcome in OUTCOMES if outcome != "interrupted")
        begun = sum(trial.epoch > 0 for trial in self.standing.live.values())
        kept = f", {begun} of which continue from their checkpoints" if begun else ""
        return f"; left undone: {planned - done} of {planned} trials{kept}" if planned > done else ""
