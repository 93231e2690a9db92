"""The search space: its domains, and the assembly of chosen values into a complete TrialConfig.

The varied part is a tree over the fields of TrialConfig. Each domain has a name with its branch,
``optimizer[nadam].lr``, so that the same field on two branches is two search parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from agr_core.config import TrialConfig
from agr_core.errors import ConfigError
from orchestrator.spec.domains import Domain, Label
from orchestrator.spec.explain import explain
from orchestrator.spec.merge import Node
from orchestrator.spec.paths import ConfigPath
from orchestrator.spec.source import DocPath
from orchestrator.spec.stages import STAGES, lay_over, stage_ids

__all__ = ["VARIANT", "Choose", "Domain", "Fixed", "Group", "Label", "Proposal", "Space", "Tree", "Varied"]

VARIANT = "variant"
"""Name of the domain of variants."""

Choose = Callable[[str, Domain], Any]
"""Function of a domain's name and the domain that returns one of its values."""


@dataclass(frozen=True)
class Fixed:
    """A part of the space that does not vary."""

    node: Node


@dataclass(frozen=True)
class Group:
    """A mapping whose fields may vary independently."""

    children: Mapping[str, Tree]
    origin: DocPath


@dataclass(frozen=True)
class Varied:
    """A domain. ``options`` maps each value of a categorical one to its content.

    ``origin`` is the position of the list of its values or of its two ends.
    """

    name: str
    domain: Domain
    origin: DocPath
    options: tuple[Tree, ...] = ()

    def option(self, value: Label) -> Tree:
        """Return the content of the categorical ``value``."""
        return self.options[self.domain.index_of(value)]


Tree = Fixed | Group | Varied


@dataclass(frozen=True)
class Proposal:
    """A complete configuration and its varying values: ``params`` by flat dotted TrialConfig path."""

    config: TrialConfig
    params: dict[str, Any]
    variant: str | None


@dataclass(frozen=True)
class Assembly:
    """An assembled configuration that is not validated yet."""

    node: Node
    params: dict[str, Any]
    variant: str | None


@dataclass(frozen=True)
class Space:
    """Every configuration of a sweep: ``tree`` over one of ``bases``, which are by variant (None: no variants)."""

    bases: Mapping[str | None, Node]
    tree: Tree = field(default_factory=lambda: Group({}, ()))

    @property
    def variants(self) -> tuple[str, ...]:
        """Labels of the variants, in the file's order."""
        return tuple(label for label in self.bases if label is not None)

    def build(self, choose: Choose) -> Proposal:
        """Return the configuration chosen by ``choose``, which is called for each reached domain, the variant first.

        Raises:
            ConfigError: If a value is not in its domain, or the values are incompatible.
        """
        assembly = self.assemble(choose)
        try:
            config = TrialConfig.from_document(assembly.node.plain())
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, explained.path)) or 'the configuration'}: {explained.message}"
                for explained in explain(error, TrialConfig)
            )
            raise ConfigError(f"{problems} (with {assembly.params})") from error
        return Proposal(config, assembly.params, assembly.variant)

    def assemble(self, choose: Choose) -> Assembly:
        """Assemble like ``build``, without validating the configuration."""
        variant = choose(VARIANT, Domain("categorical", self.variants)) if self.variants else None
        if variant not in self.bases:
            raise ConfigError(f"{variant!r} is not a variant; there are {', '.join(self.variants)}.")
        params: dict[str, Any] = {}
        layer = _resolve(self.tree, choose, (), params, varied=False)
        if STAGES in params:
            params[STAGES] = stage_ids(params[STAGES] or ())
        return Assembly(lay_over(self.bases[variant], layer), params, variant)

    def points(self) -> Iterator[dict[str, Any]]:
        """Yield every point once, the last domain fastest: the value of each domain on its branch, by name.

        Raises:
            ConfigError: If a domain is infinite.
        """
        for variant in self.bases:
            for point in _points(self.tree):
                yield point if variant is None else {VARIANT: variant, **point}

    def point(self, choose: Choose) -> dict[str, Any]:
        """Return the value of each domain for which ``build`` would call ``choose``, by name."""
        variant = {VARIANT: choose(VARIANT, Domain("categorical", self.variants))} if self.variants else {}
        return {**variant, **_point(self.tree, choose)}

    def size(self) -> int | None:
        """Return the number of points; None if infinite."""
        size = _size(self.tree)
        return None if size is None else size * len(self.bases)

    def domains(self) -> Iterator[Varied]:
        """Yield every domain, outer ones before those on their branches."""
        return _domains(self.tree)

    def varied_paths(self) -> frozenset[ConfigPath]:
        """Return the TrialConfig paths of all domains."""
        return frozenset(_varied_paths(self.tree, ()))


def _resolve(tree: Tree, choose: Choose, path: ConfigPath, params: dict[str, Any], *, varied: bool) -> Node:
    match tree:
        case Fixed(node):
            if varied:
                params.update(_leaves(node, path))
            return node
        case Group(children, origin):
            resolved = {
                key: _resolve(child, choose, (*path, key), params, varied=varied) for key, child in children.items()
            }
            return Node(resolved, origin)
        case Varied(name, domain, origin):
            value = domain.value(choose(name, domain))
            if domain.kind == "categorical":
                return _resolve(tree.option(value), choose, path, params, varied=True)
            params[".".join(path)] = value
            end = {domain.low: 0, domain.high: 1}.get(value)
            return Node(value, origin if end is None else (*origin, end))


def _leaves(node: Node, path: ConfigPath) -> Iterator[tuple[str, Any]]:
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            yield from _leaves(child, (*path, key))
    else:
        yield ".".join(path), node.value


def _points(tree: Tree) -> Iterator[dict[str, Any]]:
    match tree:
        case Fixed():
            yield {}
        case Group(children):
            yield from _product(tuple(children.values()))
        case Varied(name, domain):
            for value in domain.values():
                inner = _points(tree.option(value)) if domain.kind == "categorical" else iter(({},))
                for point in inner:
                    yield {name: value, **point}


def _product(trees: Sequence[Tree]) -> Iterator[dict[str, Any]]:
    if not trees:
        yield {}
        return
    for head in _points(trees[0]):
        for tail in _product(trees[1:]):
            yield {**head, **tail}


def _point(tree: Tree, choose: Choose) -> dict[str, Any]:
    match tree:
        case Group(children):
            return {name: value for child in children.values() for name, value in _point(child, choose).items()}
        case Varied(name, domain):
            value = choose(name, domain)
            inner = _point(tree.option(value), choose) if domain.kind == "categorical" else {}
            return {name: value, **inner}
    return {}


def _size(tree: Tree) -> int | None:
    match tree:
        case Fixed():
            return 1
        case Group(children):
            size = 1
            for child in children.values():
                factor = _size(child)
                if factor is None:
                    return None
                size *= factor
            return size
        case Varied(_, domain) if domain.kind == "categorical":
            sizes = [_size(option) for option in tree.options]
            return None if None in sizes else sum(size for size in sizes if size is not None)
        case Varied(_, domain):
            return domain.size


def _domains(tree: Tree) -> Iterator[Varied]:
    match tree:
        case Group(children):
            for child in children.values():
                yield from _domains(child)
        case Varied():
            yield tree
            for option in tree.options:
                yield from _domains(option)


def _varied_paths(tree: Tree, path: ConfigPath) -> Iterator[ConfigPath]:
    match tree:
        case Group(children):
            for key, child in children.items():
                yield from _varied_paths(child, (*path, key))
        case Varied():
            yield path
            for option in tree.options:
                yield from _varied_paths(option, path)
