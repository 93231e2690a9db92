"""Convert domains to Optuna distributions, and numbers to shares of their range, for distance-based searches."""

from __future__ import annotations

import math

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from orchestrator.spec.space import Domain


def distribution_of(domain: Domain) -> BaseDistribution:
    """Return the Optuna distribution of a domain."""
    if domain.kind == "categorical":
        return CategoricalDistribution(domain.choices)
    if domain.kind == "int":
        return IntDistribution(int(domain.low), int(domain.high), log=domain.log, step=int(domain.step or 1))
    return FloatDistribution(float(domain.low), float(domain.high), log=domain.log, step=domain.step)


def share_of(distribution: BaseDistribution, value: float) -> float:
    """Return a number's position in its range, from 0 to 1, on the range's own scale."""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = _ends(distribution)
    return 0.5 if low == high else ((math.log(value) if distribution.log else value) - low) / (high - low)


def value_at(distribution: BaseDistribution, share: float) -> float:
    """Return the number at a share of the range, or the nearest valid one."""
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high = _ends(distribution)
    value = low + share * (high - low)
    value = math.exp(value) if distribution.log else value
    if distribution.step:
        value = distribution.low + round((value - distribution.low) / distribution.step) * distribution.step
    value = min(max(value, distribution.low), distribution.high)
    return round(value) if isinstance(distribution, IntDistribution) else value


def _ends(distribution: FloatDistribution | IntDistribution) -> tuple[float, float]:
    """Return both ends of a range on its own scale; integers get half a step more on either side."""
    half = (distribution.step or 0) / 2
    low, high = distribution.low - half, distribution.high + half
    return (math.log(low), math.log(high)) if distribution.log else (low, high)
