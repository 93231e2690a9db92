"""``search.start``: configurations that are tried before the search proposes its own, as points of the space."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from agr_core.errors import ConfigError, InputError
from orchestrator.spec.domains import Domain
from orchestrator.spec.merge import Node, read
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.paths import ConfigPath
from orchestrator.spec.source import DocPath, Source
from orchestrator.spec.space import VARIANT, Fixed, Group, Space, Tree, Varied
from orchestrator.spec.stages import STAGES

Point = Mapping[str, Any]
"""Values by domain name. A domain that is missing is drawn by the search."""


class _OutsideError(Exception):
    """A configuration is not of the space."""

    def __init__(self, path: ConfigPath, origin: DocPath, reason: str) -> None:
        super().__init__(f"{'.'.join(path)}: {reason}" if path else reason)
        self.path, self.origin, self.reason = path, origin, reason


def check_start(spec: SweepSpec, space: Space, source: Source) -> tuple[Point, ...]:
    """The points of ``search.start``; what does not lie in the space is noted in ``source``.

    Trial IDs are left out here: what they stand for lies in a storage (``orchestrator.warm_start``).
    """
    search = spec.search
    if search is None or not search.start:
        return ()
    where: DocPath = ("search", "start")
    if search.algorithm == "grid":
        source.add(where, "grid tries every point once, whatever comes first; leave start out, or use random or tpe.")
        return ()
    if search.trials is not None and len(search.start) > search.trials:
        source.add(where, f"{len(search.start)} configurations to start with, but search.trials is {search.trials}.")
    points = []
    for index, entry in enumerate(search.start):
        if isinstance(entry, str):
            continue
        try:
            points.append(_point(space, read(entry, (*where, index))))
        except _OutsideError as error:
            source.add(error.origin, f"{error.reason} A start must lie in the space.")
        except ConfigError as error:
            source.add((*where, index), str(error))
    return tuple(points)


def start_of_trial(space: Space, config: Mapping[str, Any], variant: str | None) -> dict[str, Any]:
    """What of a trial's complete configuration this space varies, as an entry of ``search.start``.

    Raises:
        InputError: If a value of it lies outside the space.
    """
    point = point_of_trial(space, config, variant)
    found: dict[str, Any] = {VARIANT: variant} if space.variants else {}
    for path, value in space.assemble(_choose(point)).params.items():
        *parents, last = path.split(".")
        inner = found
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return found


def point_of_trial(space: Space, config: Mapping[str, Any], variant: str | None) -> Point:
    """The point of the space that gives what a trial's complete configuration has where the space varies.

    Raises:
        InputError: If a value of it lies outside the space.
    """
    if (STAGES,) in space.varied_paths():
        raise InputError("the space varies `stages`, which cannot be read off a trial; write the configuration out.")
    label = {VARIANT: Node(variant, ())} if space.variants else {}
    entry = Node({**read(dict(config), ()).value, **label}, ())
    try:
        return _match(space, entry)
    except _OutsideError as error:
        raise InputError(f"it lies outside the space: {error}") from error


def config_at(space: Space, point: Point) -> dict[str, Any]:
    """The complete configuration at a point of the space.

    Raises:
        ConfigError: If its values do not go together.
    """
    return space.build(_choose(point)).config.to_document()


def _point(space: Space, entry: Node) -> Point:
    """The point that an entry names.

    Raises:
        _OutsideError: If it says something that the space does not give.
        ConfigError: If its values do not go together.
    """
    if not entry.value:
        raise _OutsideError((), entry.origin, "{} given, which says nothing.")
    point = _match(space, entry)
    config = space.build(_choose(point)).config.to_document()
    for path, said in _leaves(entry, ()):
        if path == (VARIANT,) and space.variants:
            continue
        given: Any = config
        there = True
        for key in path:
            there = isinstance(given, dict) and key in given
            given = given[key] if there else None
        if not there or given != said.value:
            rule = f"is {given!r} in this sweep and does not vary so" if there else "is no field of this configuration"
            raise _OutsideError(path, said.origin, f"{said.value!r} given, but {'.'.join(path)} {rule}.")
    return point


def _match(space: Space, entry: Node) -> Point:
    point: dict[str, Any] = {}
    variant = entry.child(VARIANT)
    if space.variants and variant is not None:
        if variant.value not in space.variants:
            known = ", ".join(space.variants)
            raise _OutsideError((VARIANT,), variant.origin, f"{variant.value!r} is no variant; there are {known}.")
        point[VARIANT] = variant.value
    return {**point, **_values(space.tree, entry, ())}


def _values(tree: Tree, entry: Node, path: ConfigPath) -> dict[str, Any]:
    """Values of the domains of ``tree`` for which it gives ``entry``, as far as ``entry`` says."""
    match tree:
        case Fixed(node):
            for below, fixed in _leaves(node, path):
                said = _at(entry, below[len(path) :])
                if said is not None and said.plain() != fixed.value:
                    raise _OutsideError(below, said.origin, f"{said.plain()!r} given, where it is {fixed.value!r}.")
            return {}
        case Group(children):
            if not isinstance(entry.value, dict):
                raise _OutsideError(path, entry.origin, f"{entry.value!r} given, where fields vary.")
            found: dict[str, Any] = {}
            for key, child in children.items():
                said = entry.child(key)
                found |= {} if said is None else _values(child, said, (*path, key))
            return found
        case Varied(name, domain) if domain.kind == "categorical":
            return _option(tree, entry, path)
        case Varied(name, domain):
            try:
                return {name: domain.value(entry.value)}
            except ConfigError as error:
                raise _OutsideError(path, entry.origin, str(error)) from error


def _option(tree: Varied, entry: Node, path: ConfigPath) -> dict[str, Any]:
    """The first option that gives ``entry``; of those that do not, the nearest one says why."""
    nearest: _OutsideError | None = None
    for label, option in zip(tree.domain.choices, tree.options, strict=True):
        try:
            return {tree.name: label, **_values(option, entry, path)}
        except _OutsideError as error:
            said_name = error.path[-1:] and error.path[-1] in ("name", "encoding")
            if not said_name and len(error.path) > len(path):
                nearest = nearest or error
    if nearest is not None:
        raise nearest
    shown = entry.child("name") or entry.child("encoding") or entry
    raise _OutsideError(path, entry.origin, f"{shown.plain()!r} is no value of {tree.domain.describe()}.")


def _at(node: Node, path: ConfigPath) -> Node | None:
    found: Node | None = node
    for key in path:
        found = None if found is None else found.child(key)
    return found


def _leaves(node: Node, path: ConfigPath) -> Iterator[tuple[ConfigPath, Node]]:
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            yield from _leaves(child, (*path, key))
    else:
        yield path, node


def _choose(point: Point) -> Any:
    def choose(name: str, domain: Domain) -> Any:
        return point[name] if name in point else domain.choices[0] if domain.kind == "categorical" else domain.low

    return choose
