"""Cover all pairs of values of a search space, each in at least one complete configuration.

Rules of TrialConfig join two fields, so that a space is safe to draw from once every pair of values has been tried.
The configurations are a covering array of strength two, made greedily (Cohen et al. 1997, AETG), over the choices of
the space and both ends of its ranges.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from orchestrator.spec.domains import Domain
from orchestrator.spec.space import VARIANT, Fixed, Group, Space, Tree, Varied

MOST_CONFIGURATIONS = 1_000
"""Maximum number of configurations; a few hundred cover the pairs of a large sweep."""

WIDEST_CHOICE = 40
"""Maximum number of values of one choice that are paired with others; every value is checked on its own."""

Wish = Mapping[str, Any]
"""Requested values of a configuration, by domain name."""

_Value = tuple[str, type, Any]
"""A domain's name and one of its values; the type tells 1 from true."""


@dataclass
class Coverage:
    """The pairs of values that configurations have covered so far."""

    space: Space
    left_out: list[str] = field(default_factory=list)
    """Names of choices of which only ``WIDEST_CHOICE`` values are paired."""
    uncovered: int = 0
    """Number of pairs that no configuration has, once ``points`` has ended."""

    def points(self) -> Iterator[dict[str, Any]]:
        """Yield points of the space, by domain name, that together have every compatible pair of values."""
        uncovered, wishes = self._pairs()
        if not wishes:
            self.left_out.clear()  # nothing else varies
        made = 0
        for pair, wish in wishes:
            if pair not in uncovered:
                continue
            if made == MOST_CONFIGURATIONS:
                break
            point = self.space.point(_Chooser(wish, uncovered))
            values = [_value(name, value) for name, value in point.items()]
            uncovered.difference_update(frozenset(pair_values) for pair_values in combinations(values, 2))
            uncovered.discard(pair)  # the space may never reach one of the two, whatever is requested
            made += 1
            yield point
        self.uncovered = len(uncovered)

    def _pairs(self) -> tuple[set[frozenset[_Value]], list[tuple[frozenset[_Value], Wish]]]:
        picks: list[tuple[_Value, Wish]] = []
        for variant in self.space.bases:
            picks += self._picks(self.space.tree, {} if variant is None else {VARIANT: variant})
        wishes: dict[frozenset[_Value], Wish] = {}
        for (first_value, first), (second_value, second) in combinations(picks, 2):
            if first_value[0] != second_value[0] and all(
                first[name] == second[name] for name in first.keys() & second.keys()
            ):
                wishes.setdefault(frozenset((first_value, second_value)), {**first, **second})
        return set(wishes), list(wishes.items())

    def _picks(self, tree: Tree, context: Wish) -> list[tuple[_Value, Wish]]:
        """Yield each value to pair, with the choices that lead to its branch."""
        picks: list[tuple[_Value, Wish]] = []
        match tree:
            case Fixed():
                pass
            case Group(children):
                for child in children.values():
                    picks += self._picks(child, context)
            case Varied(name, domain):
                paired = _paired(domain)
                if domain.kind == "categorical" and len(paired) < len(domain.choices) and name not in self.left_out:
                    self.left_out.append(name)
                for value in paired:
                    wish = {**context, name: value}
                    picks.append((_value(name, value), wish))
                    if domain.kind == "categorical":
                        picks += self._picks(tree.option(value), wish)
        return picks


class _Chooser:
    """Choice of the requested values, and of the value with the most uncovered pairs in every other domain."""

    def __init__(self, wish: Wish, uncovered: set[frozenset[_Value]]) -> None:
        self._wish = wish
        self._uncovered = uncovered
        self._chosen = [_value(name, value) for name, value in wish.items()]

    def __call__(self, name: str, domain: Domain) -> Any:
        if name in self._wish:
            return self._wish[name]
        value = max(_paired(domain), key=lambda candidate: self._gain(_value(name, candidate)))
        self._chosen.append(_value(name, value))
        return value

    def _gain(self, value: _Value) -> int:
        return sum(frozenset((value, chosen)) in self._uncovered for chosen in self._chosen)


def _paired(domain: Domain) -> Sequence[Any]:
    """Return the values of a domain to pair: both ends of a range, or evenly spaced ones of a long choice."""
    if domain.kind != "categorical":
        return tuple(dict.fromkeys((domain.low, domain.high)))
    stride = max(1, -(-len(domain.choices) // WIDEST_CHOICE))
    return domain.choices[::stride]


def _value(name: str, value: Any) -> _Value:
    return name, type(value), value
