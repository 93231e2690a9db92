"""Synthetic learning curves and epoch durations for simulated trials."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agr_core.identity import digest
from agr_core.objective import Objective


@dataclass(frozen=True)
class Curve:
    """Objective after each epoch, and duration of an epoch in seconds. A diverging curve ends early."""

    values: tuple[float, ...]
    epoch_s: float
    diverged: bool = False


CurveOf = Callable[[Mapping[str, Any]], Curve]
"""Function that returns the curve of a configuration, given as the plain JSON of a TrialConfig."""


@dataclass(frozen=True)
class PowerLaws:
    """Family of noisy power laws, ``end + gap * epoch**-rate``, which resemble losses of networks.

    ``end`` is log-normal, ``gap`` is uniform in 0.5 to 2 times ``end``, ``rate`` is uniform in 0.3 to 1. These are
    assumptions, stated wherever the curves are used. A configuration's parameters follow from its digest and ``seed``.

    Attributes:
        objectives: Objectives; the direction of the first decides whether curves fall or rise.
        epoch_s: Returns the duration of an epoch of a configuration, in seconds.
        seed: Seed of the curves.
        diverging: Share of configurations that diverge.
    """

    objectives: Sequence[Objective]
    epoch_s: Callable[[Mapping[str, Any]], float]
    seed: int = 0
    diverging: float = 0.0

    def __call__(self, config: Mapping[str, Any]) -> Curve:
        """Return the curve of a configuration."""
        chance = random.Random(f"{self.seed}/{digest(config)}")  # noqa: S311 - not for secrets
        end = math.exp(chance.gauss(0.0, 0.4))
        gap, rate = end * chance.uniform(0.5, 2.0), chance.uniform(0.3, 1.0)
        epochs = int(config["schedule"]["epochs"])
        losses = [end + gap * epoch**-rate + chance.gauss(0.0, 0.03 * end) for epoch in range(1, epochs + 1)]
        diverged = chance.random() < self.diverging
        if diverged:
            losses = losses[: chance.randrange(epochs)]
        sign = 1.0 if self.objectives[0].direction == "minimize" else -1.0
        return Curve(tuple(sign * loss for loss in losses), self.epoch_s(config), diverged)


def metrics_of(value: float, objectives: Sequence[Objective]) -> dict[str, float]:
    """Return metrics of an epoch that give the first objective this value, and the others values derived from it."""
    metrics: dict[str, float] = {"train/loss": abs(value)}
    for number, objective in enumerate(objectives):
        weights = objective.weights
        share = (value if number == 0 else -value) / len(weights)
        metrics.update({name: share / weight for name, weight in weights.items()})
    return metrics
