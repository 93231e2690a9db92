"""Means over seeds, and paired differences, with confidence intervals that hold for few seeds.

Intervals are Student's (1908): the mean of n values, give or take ``t(n - 1) * s / sqrt(n)``. At two seeds the factor
``t`` is 12.7 and not the 1.96 of many values, which would cover the truth in 70 % of the cases and not in 95 %.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from scipy.special import stdtrit

from agr_core.objective import Direction

LEVEL = 0.95
"""How often an interval covers the truth, where the values are drawn from one normal distribution."""

Verdict = Literal["better", "worse", "tie"]

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True)
class Estimate:
    """A mean of ``count`` values, give or take ``margin``; None for a single value, which says nothing of its error."""

    mean: float
    margin: float | None
    count: int

    @property
    def low(self) -> float | None:
        """Lower end of the interval."""
        return None if self.margin is None else self.mean - self.margin

    @property
    def high(self) -> float | None:
        """Upper end of the interval."""
        return None if self.margin is None else self.mean + self.margin

    def verdict(self, direction: Direction) -> Verdict | None:
        """What a difference says: ``tie`` where the interval contains 0; None without an interval.

        An interval of one point, from seeds that all differ by the same, contains 0 only if that point is 0.
        """
        if self.margin is None:
            return None
        if abs(self.mean) <= self.margin:
            return "tie"
        return "better" if (self.mean < 0) == (direction == "minimize") else "worse"

    def to_json(self) -> dict[str, Any]:
        """A plain JSON object."""
        return {"mean": self.mean, "low": self.low, "high": self.high, "count": self.count}


def mean_interval(values: Collection[float], *, level: float = LEVEL) -> Estimate:
    """Mean of independent values, with the interval of Student's t.

    Raises:
        ValueError: If there is no value.
    """
    if not values:
        raise ValueError("0 values given; a mean needs at least one.")
    count = len(values)
    mean = statistics.fmean(values)
    if count == 1:
        return Estimate(mean, None, 1)
    quantile = float(stdtrit(count - 1, (1 + level) / 2))
    return Estimate(mean, quantile * statistics.stdev(values) / math.sqrt(count), count)


def paired_difference(
    values: Mapping[_Key, float], base: Mapping[_Key, float], *, level: float = LEVEL
) -> Estimate | None:
    """Mean of ``values - base`` over the keys (seeds) that both have; None where they share none.

    What one seed does to both sides alike cancels, so the interval is narrower than that of two separate means.
    """
    shared = [key for key in values if key in base]
    return mean_interval([values[key] - base[key] for key in shared], level=level) if shared else None
