"""Checks of a sweep's configurations before anything is trained: every value of every domain, on its branch.

No configuration is trusted because its parts look right: complete configurations are put together, each with one probed
value (or two, for the rules that join two fields), and TrialConfig itself judges them.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from pydantic import ValidationError

from agr_core.config import TrialConfig
from orchestrator.spec.domains import Domain
from orchestrator.spec.explain import Explained, explain
from orchestrator.spec.merge import Node, origin_of
from orchestrator.spec.metrics_checks import reported, unknown_metric, watched
from orchestrator.spec.paths import ConfigPath
from orchestrator.spec.source import DocPath, Source
from orchestrator.spec.space import VARIANT, Fixed, Group, Proposal, Space, Tree, Varied
from orchestrator.spec.stages import lay_over

_EXHAUSTIVE = 500
"""Spaces of at most so many points are checked point by point."""

_PAIRS = 500
"""Pairs of values that are checked together in a larger space."""

_INNER = 100
"""Values between the ends of a range that are checked."""

_MENDED_FIRST = {"space": 0, "variants": 1}

Wish = Mapping[str, Any]
"""Values that a configuration shall have, by domain name; every other domain gives its first."""


def check_configurations(trial: Node, space: Space, source: Source) -> list[Proposal]:
    """Note every value that no TrialConfig takes; returns the configurations that were put together and are right."""
    checker = _Checker(space, source)
    checker.check_fixed(trial)
    for variant, base in space.bases.items():
        checker.check_fixed(base)
        checker.check_each_value({} if variant is None else {VARIANT: variant})
    if not source.problems:  # the rules between fields are judged where the fields are right
        checker.check_together()
    return checker.proposals


@dataclass(frozen=True)
class _Pick:
    """One value of one domain, and the choices that lead to its branch."""

    varied: Varied
    value: Any
    wish: Wish


class _Checker:
    def __init__(self, space: Space, source: Source) -> None:
        self.proposals: list[Proposal] = []
        self._space = space
        self._source = source
        self._noted: set[DocPath] = set()

    def check_each_value(self, context: Wish) -> None:
        """Every value of every domain with the first values of all others; of long ranges the ends and some between."""
        self._check(context)
        for ends in (True, False):
            for pick in _picks(self._space.tree, context, ends=ends):
                if ends or not self._is_broken(pick.varied):
                    self._check(pick.wish)

    def check_together(self) -> None:
        """Every point of a small space; of a larger one every pair of values, or a fixed sample of the pairs."""
        for wish in _wishes(self._space):
            self._check(wish)

    def check_fixed(self, base: Node) -> None:
        """What stands below the space, even where the space always replaces it."""
        complete = lay_over(base, Node({}, base.origin))
        try:
            TrialConfig.from_document(complete.plain())
        except ValidationError as error:
            for explained in explain(error, TrialConfig):
                if not explained.open:
                    self._note(explained, complete)

    def _is_broken(self, varied: Varied) -> bool:
        return any(origin[: len(varied.origin)] == varied.origin for origin in self._noted)

    def _check(self, wish: Wish) -> None:
        assembly = self._space.assemble(lambda name, domain: wish.get(name, _first(domain)))
        try:
            config = TrialConfig.from_document(assembly.node.plain())
        except ValidationError as error:
            for explained in explain(error, TrialConfig):
                self._note(explained, assembly.node)
            return
        self.proposals.append(Proposal(config, assembly.params, assembly.variant))
        for path, metric, reports in _watched(config):
            if metric not in reports:
                self._note(Explained(path, unknown_metric(metric, reports)), assembly.node)

    def _note(self, explained: Explained, node: Node) -> None:
        origin = origin_of(node, explained.path)
        if explained.at_key:  # the key is wrong, however its values are written
            origin = origin[: len(origin) - origin[::-1].index(explained.path[-1])]
        if explained.about:
            origins = [origin_of(node, path) for path in explained.about]
            written = [each for each in origins if self._source.has(each)] or [origin]
            # What varies is named before what is fixed: a rule broken between both is mended there.
            origin = min(written, key=lambda each: _MENDED_FIRST.get(str(each[0]), len(_MENDED_FIRST)))
            if origin in self._noted:  # the same rule, broken by another value
                return
        self._noted.add(origin)
        self._source.add(origin, explained.message, key=explained.at_key)


def _watched(config: TrialConfig) -> Iterator[tuple[ConfigPath, str, frozenset[str]]]:
    """Metrics that the training and its stages look at: path, name, and what is reported there."""
    reports = reported(config)
    for path, metric, _ in watched(config):
        yield path, metric, reports
    if config.init is not None:
        below = config.init
        yield ("init", "objective", "metric"), below.objective.metric, reported(below.config)
        for path, metric, reports in _watched(below.config):
            yield ("init", "config", *path), metric, reports


def _picks(tree: Tree, context: Wish, *, ends: bool) -> Iterator[_Pick]:
    """Each value to probe; with ``ends`` every choice and both ends of each range, without the values between."""
    match tree:
        case Fixed():
            return
        case Group(children):
            for child in children.values():
                yield from _picks(child, context, ends=ends)
        case Varied(name, domain) if domain.kind == "categorical":
            for value, option in zip(domain.choices, tree.options, strict=True):
                wish = {**context, name: value}
                if ends:
                    yield _Pick(tree, value, wish)
                yield from _picks(option, wish, ends=ends)
        case Varied(name, domain):
            for value in dict.fromkeys((domain.low, domain.high)) if ends else _between(domain):
                yield _Pick(tree, value, {**context, name: value})


def _between(domain: Domain) -> Iterable[Any]:
    if domain.size is None:
        return ()
    stride = max(1, domain.size // _INNER)
    return map(domain.nth, range(stride, domain.size - 1, stride))


def _wishes(space: Space) -> Iterator[Wish]:
    size = space.size()
    if size is not None and size <= _EXHAUSTIVE:
        yield from space.points()
        return
    picks = [
        pick.wish
        for variant in space.bases
        for pick in _picks(space.tree, {} if variant is None else {VARIANT: variant}, ends=True)
    ]
    pairs = [
        {**one, **other}
        for one, other in combinations(picks, 2)
        if all(one[name] == other[name] for name in one.keys() & other.keys())
    ]
    yield from pairs if len(pairs) <= _PAIRS else random.Random(0).sample(pairs, _PAIRS)  # noqa: S311 - a fixed sample


def _first(domain: Domain) -> Any:
    return domain.choices[0] if domain.kind == "categorical" else domain.low
