"""Domains: sets of values that one field may take."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from agr_core.errors import ConfigError

Label = str | int | float | bool | None
"""What stands for one option of a choice: the value itself where it is a scalar, else a text unique in the choice."""


@dataclass(frozen=True)
class Domain:
    """The values that one field may take.

    ``categorical``: one of ``choices``. ``float`` and ``int``: from ``low`` to ``high``, both included, on a
    logarithmic scale with ``log``, in steps of ``step`` from ``low``; None: anywhere (ints: in steps of 1).
    """

    kind: Literal["categorical", "float", "int"]
    choices: tuple[Label, ...] = ()
    low: float = 0
    high: float = 0
    step: float | None = None
    log: bool = False

    @property
    def size(self) -> int | None:
        """Number of values; None where there is no end to them."""
        if self.kind == "categorical":
            return len(self.choices)
        if self.low == self.high:
            return 1
        if self.kind == "int" and self.step is None:
            return int(self.high - self.low) + 1
        return None if self.step is None else int((_exact(self.high) - _exact(self.low)) / _exact(self.step)) + 1

    def nth(self, index: int) -> Label:
        """Value number ``index`` of a finite domain, counted from 0."""
        if self.kind == "categorical":
            return self.choices[index]
        exact = _exact(self.low) + index * _exact(1 if self.step is None else self.step)
        return int(exact) if self.kind == "int" else float(exact)

    def values(self) -> Iterator[Label]:
        """Every value, ascending.

        Raises:
            ConfigError: If there is no end to them.
        """
        size = self.size
        if size is None:
            raise ConfigError(f"{self.describe()} has no end of values; give it a step, or list the values.")
        yield from map(self.nth, range(size))

    def value(self, chosen: Any) -> Any:
        """``chosen`` as a value of this domain; a float with a step becomes the nearest multiple's decimal number.

        Raises:
            ConfigError: If it is none.
        """
        if self.kind == "categorical":
            if any(chosen == choice and type(chosen) is type(choice) for choice in self.choices):
                return chosen
        elif isinstance(chosen, int | float) and not isinstance(chosen, bool) and self.low <= chosen <= self.high:
            nearest = self._nearest(chosen)
            if math.isclose(nearest, chosen, rel_tol=1e-9, abs_tol=(self.step or 0) * 1e-6):
                return nearest
        raise ConfigError(f"{chosen!r} is no value of {self.describe()}.")

    def draw(self, generator: random.Random) -> Any:
        """A value at random: each equally likely, on the domain's own scale."""
        if self.kind == "categorical":
            return self.choices[generator.randrange(len(self.choices))]
        if self.log:
            drawn = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
            return self.value(min(max(drawn if self.kind == "float" else round(drawn), self.low), self.high))
        if self.size is not None:
            return self.nth(generator.randrange(self.size))
        return self.value(generator.uniform(self.low, self.high))

    def describe(self) -> str:
        """As a sweep file says it."""
        if self.kind == "categorical":
            return f"choice [{', '.join(map(str, self.choices))}]"
        name = ("log" if self.log else "") + ("uniform" if self.kind == "float" else "randint")
        step = "" if self.step is None else f" in steps of {self.step:g}"
        return f"{name} [{self.low:g}, {self.high:g}]{step}"

    def _nearest(self, number: float) -> Any:
        if self.step is not None:
            return self.nth(round((number - self.low) / self.step))
        return round(number) if self.kind == "int" else float(number)


def _exact(number: float) -> Decimal:
    """The decimal number as written: 0.1 * 3 is 0.3."""
    return Decimal(repr(number))
