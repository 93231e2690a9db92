"""Domains: sets of allowed values of one field."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Literal

from agr_core.errors import ConfigError

Label = str | int | float | bool | None
"""Identifier of one option of a choice: a scalar itself, otherwise a text that is unique in the choice."""


@dataclass(frozen=True)
class Domain:
    """The allowed values of one field.

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
        """Number of values; None if infinite."""
        if self.kind == "categorical":
            return len(self.choices)
        if self.low == self.high:
            return 1
        if self.kind == "int" and self.step is None:
            return int(self.high - self.low) + 1
        return None if self.step is None else int((_exact(self.high) - _exact(self.low)) / _exact(self.step)) + 1

    def nth(self, index: int) -> Label:
        """Return value number ``index`` of a finite domain, counted from 0."""
        if self.kind == "categorical":
            return self.choices[index]
        exact = _exact(self.low) + index * _exact(1 if self.step is None else self.step)
        return int(exact) if self.kind == "int" else float(exact)

    def index_of(self, choice: Label) -> int:
        """Return the index of one of ``choices``.

        Raises:
            KeyError: If it is none of them.
        """
        return self._indices[type(choice), choice]

    @cached_property
    def _indices(self) -> dict[tuple[type, Label], int]:
        """Index of each choice; the type tells 1 from true."""
        return {(type(choice), choice): index for index, choice in enumerate(self.choices)}

    def values(self) -> Iterator[Label]:
        """Yield every value, ascending.

        Raises:
            ConfigError: If they are infinitely many.
        """
        size = self.size
        if size is None:
            raise ConfigError(f"{self.describe()} has infinitely many values; give it a step, or list the values.")
        yield from map(self.nth, range(size))

    def value(self, chosen: Any) -> Any:
        """Return ``chosen`` as a value of this domain; with a step, a float becomes the nearest decimal multiple.

        Raises:
            ConfigError: If it is none.
        """
        if self.kind == "categorical":
            if (type(chosen), chosen) in self._indices:
                return chosen
        elif isinstance(chosen, int | float) and not isinstance(chosen, bool) and self.low <= chosen <= self.high:
            nearest = self._nearest(chosen)
            if math.isclose(nearest, chosen, rel_tol=1e-9, abs_tol=(self.step or 0) * 1e-6):
                return nearest
        nearest = self.nearest(chosen)
        hint = "" if nearest is None else f" The nearest inside is {nearest!r}."
        if self.kind != "categorical" and (isinstance(chosen, bool) or not isinstance(chosen, int | float)):
            hint = " Give a number."
        raise ConfigError(f"{chosen!r} is not a value of {self.describe()}.{hint}")

    def nearest(self, chosen: Any) -> Label:
        """Return the value of this domain nearest to ``chosen``; None if none is near."""
        if self.kind == "categorical" and isinstance(chosen, str):
            return next(
                iter(get_close_matches(chosen, [choice for choice in self.choices if isinstance(choice, str)], 1)), None
            )
        if not isinstance(chosen, int | float) or isinstance(chosen, bool) or not math.isfinite(chosen):
            return None
        if self.kind == "categorical":
            numbers = [
                choice for choice in self.choices if isinstance(choice, int | float) and not isinstance(choice, bool)
            ]
            return min(numbers, key=lambda choice: abs(choice - chosen), default=None)
        nearest: Label = self._nearest(min(max(chosen, self.low), self.high))
        return nearest

    def draw(self, generator: random.Random) -> Any:
        """Draw a value uniformly, on the domain's own scale."""
        if self.kind == "categorical":
            return self.choices[generator.randrange(len(self.choices))]
        if self.log:
            drawn = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
            return self.value(min(max(drawn if self.kind == "float" else round(drawn), self.low), self.high))
        if self.size is not None:
            return self.nth(generator.randrange(self.size))
        return self.value(generator.uniform(self.low, self.high))

    def describe(self) -> str:
        """Return the domain in sweep file notation."""
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
    """Return the decimal number as written: 0.1 * 3 is 0.3."""
    return Decimal(repr(number))
