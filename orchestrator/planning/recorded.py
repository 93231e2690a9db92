"""Learning curves for a forecast, drawn from those of earlier sweeps of the same objective."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import pstdev
from typing import Any

from agr_core.identity import digest
from agr_core.objective import Objective
from orchestrator.journal.sweep_state import SweepState
from orchestrator.simulation.curves import Curve

FEWEST = 8
"""Smallest number of recorded curves that stand for a sweep's."""

_JITTER = 0.1
"""Standard deviation of a drawn curve's shift, as a share of that of the recorded values (a smoothed bootstrap)."""


@dataclass(frozen=True)
class Recorded:
    """Curve of an earlier trial."""

    model: str
    epochs: int
    """Epochs of its schedule; a trial that was stopped early has fewer values."""
    values: tuple[float, ...]
    diverged: bool

    @property
    def whole(self) -> bool:
        """Whether it was trained to its end."""
        return not self.diverged and len(self.values) == self.epochs


def recorded(states: Sequence[SweepState], objective: Objective) -> tuple[list[Recorded], list[str]]:
    """Return the curves of all trials that were judged by this objective, and the IDs of their sweeps."""
    curves, sweeps = [], []
    for state in states:
        if state.started.objective != objective:
            continue
        found = [
            Recorded(
                str(trial.created.config["model"]["name"]),
                int(trial.created.config["schedule"]["epochs"]),
                tuple(report.value for report in trial.reports),
                trial.outcome == "diverged",
            )
            for trial in state.trials.values()
            if (trial.outcome in ("completed", "pruned") and trial.reports) or trial.outcome == "diverged"
        ]
        if found:
            curves += found
            sweeps.append(state.started.sweep_id)
    return curves, sweeps


def are_enough(curves: Sequence[Recorded]) -> bool:
    """Return whether forecasts can draw from these curves."""
    return len(curves) >= FEWEST and any(curve.whole for curve in curves)


@dataclass(frozen=True)
class RecordedCurves:
    """Draws a curve of the same model, else of any, for each configuration (``simulation.curves.CurveOf``).

    A curve that early stopping cut goes on as one that was trained to its end goes on from the same epoch. A curve of
    another length is stretched. Each is shifted a little, so that no two are equal.

    Attributes:
        curves: The recorded curves, of which one at least is whole.
        epoch_s: Returns the duration of an epoch of a configuration, in seconds.
        seed: Seed of the draws.
    """

    curves: Sequence[Recorded]
    epoch_s: Callable[[Mapping[str, Any]], float]
    seed: int = 0
    _spread: float = field(init=False)

    def __post_init__(self) -> None:
        lasts = [curve.values[-1] for curve in self.curves if curve.values]
        object.__setattr__(self, "_spread", _JITTER * pstdev(lasts))

    def __call__(self, config: Mapping[str, Any]) -> Curve:
        """Return the curve of a configuration."""
        chance = random.Random(f"{self.seed}/{digest(config)}")  # noqa: S311 - not for secrets
        epochs, model = int(config["schedule"]["epochs"]), str(config["model"]["name"])
        curve = chance.choice([each for each in self.curves if each.model == model] or list(self.curves))
        shift = chance.gauss(0.0, self._spread)
        if curve.diverged:
            values = curve.values[: max(0, epochs - 1)]
        else:
            values = _stretched(self._completed(curve, chance), epochs)
        return Curve(tuple(value + shift for value in values), self.epoch_s(config), curve.diverged)

    def _completed(self, curve: Recorded, chance: random.Random) -> tuple[float, ...]:
        if curve.whole:
            return curve.values
        donors = [each for each in self.curves if each.whole and each.model == curve.model]
        donor = chance.choice(donors or [each for each in self.curves if each.whole])
        others = _stretched(donor.values, curve.epochs)
        reached = len(curve.values)
        gap = curve.values[-1] - others[reached - 1]
        return (*curve.values, *(value + gap for value in others[reached:]))


def _stretched(values: Sequence[float], epochs: int) -> tuple[float, ...]:
    """Return a curve at ``epochs`` epochs, which go as far as all of its own."""
    if len(values) == epochs:
        return tuple(values)
    found = []
    for epoch in range(1, epochs + 1):
        place = max(1.0, epoch * len(values) / epochs) - 1
        low = int(place)
        high = min(low + 1, len(values) - 1)
        found.append(values[low] + (values[high] - values[low]) * (place - low))
    return tuple(found)
