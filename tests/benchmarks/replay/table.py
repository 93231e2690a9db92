"""The recorded learning curves: what each configuration of the grid reported, epoch by epoch."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parent.parent / "curves.csv"

NAMES = ("model", "conv_layers", "optimizer", "sampler", "age")
"""Columns whose values are compared as they are; ``lr`` is looked up at the nearest one recorded."""


def columns(config: Mapping[str, Any]) -> dict[str, str | float]:
    """What tells the configurations of the grid apart, of a TrialConfig's document. ``lr`` is a number."""
    return {
        "model": config["model"]["name"],
        "conv_layers": str(config["model"].get("conv_layers", "")),
        "optimizer": config["optimizer"]["name"],
        "sampler": config["sampler"]["name"],
        "age": config["age"]["encoding"],
        "lr": float(config["optimizer"]["lr"]),
    }


@dataclass(frozen=True)
class Curve:
    """The objective after each epoch, years, and what an epoch took, seconds. A diverged one is shorter."""

    values: tuple[float, ...]
    seconds: float
    diverged: bool


class Curves:
    """All of them, by configuration."""

    def __init__(self, path: Path = TABLE) -> None:
        self._of: dict[tuple[str, ...], dict[float, Curve]] = {}
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                values = tuple(float(text) for name, text in row.items() if name.startswith("epoch_") and text)
                curve = Curve(values, float(row["seconds"]), row["outcome"] == "diverged")
                self._of.setdefault(tuple(row[name] for name in NAMES), {})[float(row["lr"])] = curve

    @property
    def count(self) -> int:
        """Number of configurations."""
        return sum(map(len, self._of.values()))

    @property
    def epochs(self) -> int:
        """Epochs of a trial that ends by itself."""
        return max(len(curve.values) for rates in self._of.values() for curve in rates.values())

    def every(self) -> list[Curve]:
        """All of them, in the table's order."""
        return [curve for rates in self._of.values() for curve in rates.values()]

    def best(self) -> list[float]:
        """The best value of each configuration that did not diverge, ascending."""
        return sorted(min(curve.values) for curve in self.every() if not curve.diverged)

    def at(self, where: Mapping[str, str | float]) -> Curve:
        """The curve of a configuration, between those of the two recorded learning rates beside its own.

        Epoch by epoch in proportion to the distances on the logarithmic scale; beyond the outermost, and beside a
        diverged one, it is the nearest.

        Raises:
            KeyError: If nothing was recorded there.
        """
        rates = self._of[tuple(str(where[name]) for name in NAMES)]
        lr = math.log(float(where["lr"]))
        beside = sorted(rates, key=lambda rate: abs(math.log(rate) - lr))
        nearest = beside[0]
        other = next((rate for rate in beside if (math.log(rate) - lr) * (math.log(nearest) - lr) < 0), nearest)
        one, two = rates[nearest], rates[other]
        if other == nearest or one.diverged or two.diverged:
            return one
        share = (lr - math.log(nearest)) / (math.log(other) - math.log(nearest))
        values = tuple((1 - share) * a + share * b for a, b in zip(one.values, two.values, strict=True))
        return Curve(values, (1 - share) * one.seconds + share * two.seconds, diverged=False)
