"""Narrow a running sweep's search space: smaller ranges and choices from ``agr narrow``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from agr_core.errors import ConfigError, InputError
from agr_core.registry import did_you_mean
from orchestrator.errors import SpecError
from orchestrator.spec.domains import Domain, Label
from orchestrator.spec.parse import parse_space
from orchestrator.spec.source import from_document, parse_value
from orchestrator.spec.space import Fixed, Group, Space, Tree, Varied

_BRANCH = re.compile(r"\[[^\]]*\]")


def assignments(texts: Sequence[str], *, example: str) -> dict[str, Any]:
    """Parse arguments such as ``optimizer.lr=3e-4`` into values by path; a value is YAML.

    Raises:
        InputError: If one is not of that form, or its value is not YAML; or a path is given twice.
    """
    values: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise InputError(f"{text!r} given; write PATH=VALUE, such as {example}.")
        if name in values:
            raise InputError(f"{name} is given twice; give it once.")
        try:
            values[name] = parse_value(value, file=name)
        except SpecError as error:
            raise InputError(f"{name}: the value is not YAML: {error.problems[0].message}") from error
    return values


def narrowed(space: Space, domains: Mapping[str, Any]) -> Space:
    """Return the space with smaller domains.

    Args:
        space: The space so far.
        domains: By path (``optimizer.lr``, on every branch that has it) or by name (``optimizer[sgd].lr``), a domain as
            a sweep file has it; a single value leaves only that value.

    Raises:
        InputError: If nothing varies there, or a domain is not inside the current one.
    """
    by_name = {varied.name: varied for varied in space.domains()}
    replaced: dict[str, Domain] = {}
    for path, value in domains.items():
        names = [name for name in by_name if path in (name, _BRANCH.sub("", name))]
        if not names:
            paths = sorted({_BRANCH.sub("", name) for name in by_name})
            raise InputError(
                f"{path} does not vary in this sweep.{did_you_mean(path, paths)} Varied: {', '.join(paths)}."
            )
        for name in names:
            replaced[name] = _inside(by_name[name], path, value, several=len(names) > 1)
    return replace(space, tree=_with(space.tree, replaced))


def _inside(varied: Varied, path: str, value: Any, *, several: bool) -> Domain:
    old = varied.domain
    alone = f" To narrow one branch only, name it: {varied.name}=..." if several else ""
    new = _domain(_BRANCH.sub("", path), value)
    if old.kind == "categorical":
        wanted: Sequence[Label] = new.choices if isinstance(new, Domain) else (new,)
        if isinstance(new, Domain) and new.kind != "categorical":
            raise InputError(f"{path}: {new.describe()} given for {old.describe()}; list some of its values.{alone}")
        for label in wanted:
            try:
                old.value(label)
            except ConfigError as error:
                raise InputError(f"{path}: {error}{alone}") from error
        return replace(old, choices=tuple(label for label in old.choices if label in wanted))
    if not isinstance(new, Domain):
        try:
            only = old.value(new)
        except ConfigError as error:
            raise InputError(f"{path}: {error}{alone}") from error
        return replace(old, low=only, high=only)
    if (new.kind, new.log) != (old.kind, old.log):
        raise InputError(
            f"{path}: {new.describe()} given for {old.describe()}; give a narrower domain of the same kind.{alone}"
        )
    for end in (new.low, new.high):
        try:
            old.value(end)
        except ConfigError as error:
            raise InputError(f"{path}: {error}{alone}") from error
    return replace(old, low=new.low, high=new.high)


def _domain(path: str, value: Any) -> Any:
    """Return the domain that a sweep file writes as ``value`` at a path of TrialConfig; else the value itself."""
    nested = value
    for part in reversed(path.split(".")):
        nested = {part: nested}
    source = from_document({"space": nested}, file=path)
    tree: Tree = parse_space(nested, ("space",), source)
    if source.problems:
        raise InputError(f"{path}: {source.problems[0].message}")
    for part in path.split("."):
        if not isinstance(tree, Group):
            break
        tree = tree.children[part]
    match tree:
        case Varied(_, domain):
            return domain
        case Fixed(node):
            plain = node.plain()
            return plain.get("name", plain) if isinstance(plain, dict) else plain
    return value


def _with(tree: Tree, domains: Mapping[str, Domain]) -> Tree:
    """Return the tree with some of its domains replaced, by name."""
    match tree:
        case Group(children, origin):
            return Group({key: _with(child, domains) for key, child in children.items()}, origin)
        case Varied(name, old, origin, options):
            domain = domains.get(name, old)
            if old.kind != "categorical":
                return Varied(name, domain, origin)
            kept = [_with(options[old.choices.index(label)], domains) for label in domain.choices]
            return Varied(name, domain, origin, tuple(kept))
    return tree
