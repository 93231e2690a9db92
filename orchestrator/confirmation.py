"""Confirmation: after the search the best configurations are trained again with fresh seeds, which alone judge them.

The best figure of many trials is in part luck, and so is the best epoch of one; what the search saw of a configuration
says too much good of it. Seeds that no trial of the search had do not know what was chosen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, islice

from agr_core.objective import Objective
from orchestrator.intervals import mean_interval
from orchestrator.records import TrialCreated


def fresh_seeds(used: Collection[int], number: int) -> tuple[int, ...]:
    """The smallest whole numbers from 1 that are not among ``used``."""
    return tuple(islice((seed for seed in count(1) if seed not in used), number))


def chosen(candidates: Iterable[tuple[TrialCreated, float]], objective: Objective, top: int) -> list[TrialCreated]:
    """The search's best different configurations, best first; of equal values the earlier one is first."""
    sign = 1 if objective.direction == "minimize" else -1
    ranked = sorted(candidates, key=lambda each: (sign * each[1], each[0].number))
    different: dict[str, TrialCreated] = {}
    for created, _ in ranked:
        different.setdefault(created.config_digest, created)
    return list(different.values())[:top]


def winner(results: Mapping[int, Sequence[float]], objective: Objective, seeds: int) -> int | None:
    """The confirmed configuration with the best mean; None before one has a value of each of its ``seeds``.

    Args:
        results: Values of the completed confirmations, by configuration.
        objective: What is better.
        seeds: How many each configuration is to have.
    """
    best: tuple[int, float] | None = None
    for configuration, values in sorted(results.items()):
        if len(values) == seeds:
            mean = mean_interval(values).mean
            if objective.better(mean, None if best is None else best[1]):
                best = configuration, mean
    return None if best is None else best[0]


@dataclass
class Confirmation:
    """What a driver needs to know: who is to be trained again, and how far that is. A function of the journal."""

    top: int
    seeds: int
    objective: Objective
    candidates: list[tuple[TrialCreated, float]] = field(default_factory=list)
    """Completed trials of the search, with their values."""
    used_seeds: set[int] = field(default_factory=set)
    created: int = 0
    results: dict[int, list[tuple[TrialCreated, float]]] = field(default_factory=dict)
    """Completed confirmations by configuration."""

    def next(self) -> tuple[TrialCreated, int, int] | None:
        """Once the search is over: whom to train again, the number of the repetition, and the seed; None: no more.

        Each configuration gets its first seed before any gets its second.
        """
        originals = chosen(self.candidates, self.objective, self.top)
        if self.created >= len(originals) * self.seeds:
            return None
        repeat, which = divmod(self.created, len(originals))
        return originals[which], repeat, fresh_seeds(self.used_seeds, self.seeds)[repeat]

    def best(self) -> tuple[TrialCreated, float] | None:
        """The first confirmation of the winner, with its value."""
        values = {key: [value for _, value in results] for key, results in self.results.items()}
        found = winner(values, self.objective, self.seeds)
        return None if found is None else min(self.results[found], key=lambda each: each[0].repeat)
