"""Confirmation: after the search the best configurations are trained again with fresh seeds, which alone rank them.

The best value of many trials is partly luck, and so is the best epoch of one: the search's values of a selected
configuration are biased upwards. Fresh seeds are independent of the selection.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import count, islice

from agr_core.objective import Objective
from orchestrator.journal.events import TrialCreated


def fresh_seeds(used: Collection[int], number: int) -> tuple[int, ...]:
    """Return the smallest positive integers that are not among ``used``."""
    return tuple(islice((seed for seed in count(1) if seed not in used), number))


def chosen(candidates: Iterable[tuple[TrialCreated, float]], objective: Objective, top: int) -> list[TrialCreated]:
    """Return the search's best different configurations, best first; ties go to the earlier one."""
    sign = 1 if objective.direction == "minimize" else -1
    ranked = sorted(candidates, key=lambda candidate: (sign * candidate[1], candidate[0].number))
    different: dict[str, TrialCreated] = {}
    for created, _ in ranked:
        different.setdefault(created.config_digest, created)
    return list(different.values())[:top]


@dataclass
class Confirmation:
    """State of the confirmation: the trials to confirm and their progress. A function of the journal."""

    top: int
    seeds: int
    objective: Objective
    candidates: list[tuple[TrialCreated, float]] = field(default_factory=list)
    """Completed trials of the search, with their values."""
    used_seeds: set[int] = field(default_factory=set)
    created: dict[str, int] = field(default_factory=dict)
    """Number of confirmations of each trial (ID) that was chosen."""

    def withdraw(self, trial_id: str) -> None:
        """Remove a trial that was reopened."""
        self.candidates = [candidate for candidate in self.candidates if candidate[0].trial_id != trial_id]

    def next(self) -> tuple[TrialCreated, int, int] | None:
        """Return the next trial to confirm, its repetition number and seed, once the search is over; None: no more.

        Every configuration gets its first seed before any gets its second.
        """
        originals = chosen(self.candidates, self.objective, self.top)
        for repeat in range(self.seeds):
            for original in originals:
                if self.created.get(original.trial_id, 0) <= repeat:
                    return original, repeat, fresh_seeds(self.used_seeds, self.seeds)[repeat]
        return None
