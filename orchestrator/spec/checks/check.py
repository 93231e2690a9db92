"""Check a sweep's configurations before training: every value of every domain, on its branch.

Valid parts do not make a valid configuration. Complete configurations are therefore assembled, each with one probed
value (two, for rules between two fields), and validated by TrialConfig.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import ValidationError

from agr_core import plugins
from agr_core.config import TrialConfig
from agr_core.errors import ConfigError
from orchestrator.spec.checks.metrics_checks import reported, unknown_metric, watched
from orchestrator.spec.checks.pairs import MOST_CONFIGURATIONS, WIDEST_CHOICE, Coverage, Wish
from orchestrator.spec.domains import Domain
from orchestrator.spec.explain import Explained, explain
from orchestrator.spec.merge import Node, origin_of
from orchestrator.spec.paths import ConfigPath
from orchestrator.spec.source import DocPath, Source
from orchestrator.spec.space import VARIANT, Fixed, Group, Proposal, Space, Tree, Varied
from orchestrator.spec.stages import lay_over

_EXHAUSTIVE = 500
"""Maximum number of points of a space that is checked point by point."""

_INNER = 100
"""Number of probed values between the ends of a range."""

_MENDED_FIRST = {"space": 0, "variants": 1}


@dataclass(frozen=True)
class Checked:
    """Valid assembled configurations, and the values and pairs that were not checked."""

    proposals: list[Proposal]
    warnings: tuple[str, ...]


def check_configurations(trial: Node, space: Space, source: Source) -> Checked:
    """Note every value that TrialConfig refuses, and every pair of incompatible values."""
    checker = _Checker(space, source)
    checker.check_fixed(trial)
    for variant, base in space.bases.items():
        checker.check_fixed(base)
        checker.check_each_value({} if variant is None else {VARIANT: variant})
    if not source.problems:  # rules between fields apply to valid fields only
        checker.check_together()
    return Checked(checker.proposals, tuple(checker.warnings))


@dataclass(frozen=True)
class _Pick:
    """One value of one domain, and the choices that lead to its branch."""

    varied: Varied
    value: Any
    wish: Wish


class _Checker:
    def __init__(self, space: Space, source: Source) -> None:
        self.proposals: list[Proposal] = []
        self.warnings: list[str] = []
        self._space = space
        self._source = source
        self._noted: set[DocPath] = set()

    def check_each_value(self, context: Wish) -> None:
        """Check every value of every domain with the first values of all others; long ranges by ends and samples."""
        self._check(context)
        for ends in (True, False):
            for pick in _picks(self._space.tree, context, ends=ends):
                if ends or not self._is_broken(pick.varied):
                    self._check(pick.wish)

    def check_together(self) -> None:
        """Check every point of a small space, or every pair of values of a larger one."""
        size = self._space.size()
        if size is not None and size <= _EXHAUSTIVE:
            for point in self._space.points():
                self._check(point)
            return
        coverage = Coverage(self._space)
        for point in coverage.points():
            self._check(point)
        self.warnings += _coverage_warnings(coverage)

    def check_fixed(self, base: Node) -> None:
        """Check the fixed part below the space, even if the space always replaces it."""
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
        assembly = self._space.assemble(partial(_chosen, wish))
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
        if explained.at_key:  # the key itself is invalid
            origin = origin[: len(origin) - origin[::-1].index(explained.path[-1])]
        if explained.about:
            origins = [origin_of(node, path) for path in explained.about]
            written = [origin_path for origin_path in origins if self._source.has(origin_path)] or [origin]
            # Varied values before fixed ones: a rule violated by both together is fixed in `space`.
            origin = min(written, key=lambda origin_path: _MENDED_FIRST.get(str(origin_path[0]), len(_MENDED_FIRST)))
            if origin in self._noted:  # the same rule, violated by another value
                return
        self._noted.add(origin)
        self._source.add(origin, explained.message, key=explained.at_key)


def _watched(config: TrialConfig) -> Iterator[tuple[ConfigPath, str, frozenset[str]]]:
    """Yield the metrics that the training and its stages monitor: path, name, and the metrics reported there."""
    reports = reported(config)
    for path, metric, _ in watched(config):
        yield path, metric, reports
    if config.init is not None:
        below = config.init
        yield ("init", "objective", "metric"), below.objective.metric, reported(below.config)
        for path, metric, reports in _watched(below.config):
            yield ("init", "config", *path), metric, reports


def _picks(tree: Tree, context: Wish, *, ends: bool) -> Iterator[_Pick]:
    """Yield each value to probe; with ``ends`` every choice and both ends of each range, without the values between."""
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


def probed(space: Space) -> Iterator[Proposal]:
    """Return configurations in which every choice and both ends of every range occur once.

    Incompatible combinations are left out; their values were checked in others when the file was loaded.
    """
    for variant in space.bases:
        context: Wish = {} if variant is None else {VARIANT: variant}
        for wish in (context, *(pick.wish for pick in _picks(space.tree, context, ends=True))):
            choose = partial(_chosen, wish)
            with suppress(ConfigError):
                yield space.build(choose)


def _chosen(wish: Wish, name: str, domain: Domain) -> Any:
    return wish.get(name, _first(domain))


def packages_of(space: Space) -> dict[str, str]:
    """Return the versions of the packages whose plug-ins a sweep's configurations use, by the package's name."""
    if not any(plugins.names(group) for group in plugins.GROUPS):
        return {}
    used: dict[str, str] = {}
    for proposal in probed(space):
        used |= proposal.config.packages
    return dict(sorted(used.items()))


def _coverage_warnings(coverage: Coverage) -> list[str]:
    warnings = [
        f"{name} has too many values to check all pairs: {WIDEST_CHOICE} of them were checked together with other "
        "choices, the others only on their own."
        for name in coverage.left_out
    ]
    if coverage.uncovered:
        warnings.append(
            f"{coverage.uncovered:,} pairs of values were not checked, because {MOST_CONFIGURATIONS:,} "
            "configurations are the limit; an invalid combination is refused when it is drawn."
        )
    return warnings


def _first(domain: Domain) -> Any:
    return domain.choices[0] if domain.kind == "categorical" else domain.low
