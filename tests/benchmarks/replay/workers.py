"""Simulated workers: trials whose epochs take their recorded time, on a clock that only counts."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Mapping
from typing import Any, Protocol

from replay.table import Curves


class Contender(Protocol):
    """A search and a scheduler, as a free worker meets them."""

    def ask(self) -> tuple[Any, Mapping[str, str | float]]:
        """The next trial: what it is called, and its configuration as ``table.columns`` has it."""
        ...

    def tell(self, trial: Any, epoch: int, value: float, *, last: bool) -> bool:
        """An epoch of a trial; returns whether the trial goes on. After its ``last`` epoch none does."""
        ...

    def diverged(self, trial: Any) -> None:
        """The trial's loss is not finite any more."""
        ...


def simulate(contender: Contender, curves: Curves, *, workers: int, epochs: int) -> list[float]:
    """The best value seen (lower is better) after each of ``epochs`` epochs, all workers' counted.

    A worker without a trial asks at once; an epoch in which a trial diverges counts as one.
    """
    best, seen = float("inf"), []
    order = itertools.count()  # of two epochs that end together, the one begun first
    ends: list[tuple[float, int, Any, Any, int]] = []

    def start(now: float) -> None:
        trial, where = contender.ask()
        curve = curves.at(where)
        heapq.heappush(ends, (now + curve.seconds, next(order), trial, curve, 1))

    for _ in range(workers):
        start(0.0)
    while len(seen) < epochs:
        now, _, trial, curve, epoch = heapq.heappop(ends)
        if epoch > len(curve.values):
            contender.diverged(trial)
            goes_on = False
        else:
            value = curve.values[epoch - 1]
            best = min(best, value)
            goes_on = contender.tell(trial, epoch, value, last=epoch == len(curve.values) and not curve.diverged)
        seen.append(best)
        if goes_on:
            heapq.heappush(ends, (now + curve.seconds, next(order), trial, curve, epoch + 1))
        else:
            start(now)
    return seen
