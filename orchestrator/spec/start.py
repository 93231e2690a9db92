"""``search.start``: configurations to try before the search's own proposals, as points of the space."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agr_core.errors import ConfigError, InputError
from agr_core.registry import did_you_mean
from orchestrator.spec.domains import Domain
from orchestrator.spec.merge import Node, expand_bare_word, read
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.paths import IDENTITIES, ConfigPath
from orchestrator.spec.source import DocPath, Source
from orchestrator.spec.space import VARIANT, Fixed, Group, Space, Tree, Varied
from orchestrator.spec.stages import STAGES

Point = Mapping[str, Any]
"""Values by domain name. A domain that is missing is drawn by the search."""


class _OutsideError(Exception):
    """A configuration is outside the space."""

    def __init__(self, path: ConfigPath, origin: DocPath, reason: str) -> None:
        super().__init__(f"{'.'.join(path)}: {reason}" if path else reason)
        self.path, self.origin, self.reason = path, origin, reason


def check_start(spec: SweepSpec, space: Space, source: Source) -> tuple[Point, ...]:
    """Return the points of ``search.start``; entries outside the space are noted in ``source``.

    Trial IDs are left out here, because their configurations are in a storage (``orchestrator.search.warm_start``).
    """
    search = spec.search
    if search is None or not search.start:
        return ()
    where: DocPath = ("search", "start")
    if search.algorithm == "grid":
        source.add(where, "grid tries every point once, so start has no effect; leave it out, or use random or tpe.")
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
            source.add(error.origin, f"{error.reason} A start must be inside the space.")
        except ConfigError as error:
            source.add((*where, index), str(error))
    return tuple(points)


def start_of_trial(space: Space, config: Mapping[str, Any], variant: str | None) -> dict[str, Any]:
    """Return the part of a trial's configuration that this space varies, as an entry of ``search.start``.

    Raises:
        InputError: If one of its values is outside the space.
    """
    point = point_of_trial(space, config, variant)
    entry: dict[str, Any] = {VARIANT: variant} if space.variants else {}
    for path, value in space.assemble(_choose(point)).params.items():
        *parents, last = path.split(".")
        inner = entry
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return entry


def point_of_trial(space: Space, config: Mapping[str, Any], variant: str | None) -> Point:
    """Return the point of the space that equals a trial's complete configuration where the space varies.

    Raises:
        InputError: If one of its values is outside the space.
    """
    if (STAGES,) in space.varied_paths():
        raise InputError("the space varies `stages`, which a trial does not determine; write the configuration out.")
    label = {VARIANT: Node(variant, ())} if space.variants else {}
    entry = Node({**read(dict(config), ()).value, **label}, ())
    try:
        # Options that overlap give the same configuration.
        return _matches(space, entry)[0]
    except _OutsideError as error:
        raise InputError(f"it is outside the space: {error}") from error


def point_of_entry(space: Space, entry: Mapping[str, Any]) -> Point:
    """Return the point of a partial TrialConfig; the search draws the missing values.

    Raises:
        InputError: If it is outside the space, fits several branches, or has incompatible values.
    """
    try:
        return _point(space, read(dict(entry), ()))
    except _OutsideError as error:
        path = ".".join(error.path)
        raise InputError(f"{path}: {error.reason}" if path else error.reason.format("nothing is")) from error


def entry_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a partial TrialConfig from values by dotted path.

    Raises:
        InputError: If one path leads through another's value.
    """
    entry: dict[str, Any] = {}
    for path, value in values.items():
        *parents, last = path.split(".")
        inner: Any = entry
        for depth, part in enumerate(parents, start=1):
            below = expand_bare_word(inner.setdefault(part, {}), tuple(parents[:depth]))
            if not isinstance(below, dict):
                raise InputError(
                    f"{path}: {'.'.join(parents[:depth])} is {below!r}, so it has no {path.split('.', depth)[-1]}."
                )
            inner[part] = below
            inner = below
        inner[last] = value
    return entry


def config_at(space: Space, point: Point) -> dict[str, Any]:
    """Return the complete configuration at a point of the space.

    Raises:
        ConfigError: If its values are incompatible.
    """
    return space.build(_choose(point)).config.to_document()


def _point(space: Space, entry: Node) -> Point:
    """Return the point of an entry.

    It need not name a branch if it sets a field that only this branch has.

    Raises:
        _OutsideError: If it sets a value that the space does not contain.
        ConfigError: If its values are incompatible, or several branches contain them.
    """
    if not entry.value:
        raise _OutsideError((), entry.origin, "{} given, which says nothing.")
    fitting: dict[tuple[tuple[str, Any], ...], Point] = {}
    reason: _OutsideError | ConfigError | None = None
    for point in _matches(space, entry):
        try:
            branches = _branches(space, entry, point)
        except (_OutsideError, ConfigError) as error:
            reason = reason or error
        else:
            fitting.setdefault(branches, point)  # of options that overlap the first
    if not fitting:
        assert reason is not None, "an entry without a match was refused"
        raise reason
    if len(fitting) > 1:
        raise _ambiguous(entry, fitting)
    return next(iter(fitting.values()))


def _branches(space: Space, entry: Node, point: Point) -> tuple[tuple[str, Any], ...]:
    """Return the component names at a point, by path, if its configuration matches the entry.

    Raises:
        _OutsideError: If it is not.
        ConfigError: If its values are incompatible.
    """
    proposal = space.build(_choose(point))
    config = proposal.config.to_document()
    names = tuple((path, name) for path, name in proposal.params.items() if path.rsplit(".", 1)[-1] in IDENTITIES)
    for path, node in _leaves(entry, ()):
        if path == (VARIANT,) and space.variants:
            continue
        given: Any = config
        for depth, key in enumerate(path):
            fields = given if isinstance(given, dict) else {}
            if key not in fields:
                owner = next((fields[identity] for identity in IDENTITIES if identity in fields), "this configuration")
                raise _OutsideError(
                    path,
                    node.origin,
                    f"{node.value!r} given, but {'.'.join(path[: depth + 1])} is not a field of {owner}."
                    f"{did_you_mean(key, fields)}",
                )
            given = fields[key]
        if given != node.value:
            raise _OutsideError(
                path,
                node.origin,
                f"{node.value!r} given, but {'.'.join(path)} is {given!r} in this sweep and does not take that value.",
            )
    return names


def _ambiguous(entry: Node, fitting: Iterable[tuple[tuple[str, Any], ...]]) -> ConfigError:
    """Return the error of an entry that fits several points; ``fitting``: the names of each point, by path."""
    names: dict[str, dict[Any, None]] = {}
    for branches in fitting:
        for path, name in branches:
            names.setdefault(path, {})[name] = None
    path, several = next((path, several) for path, several in names.items() if len(several) > 1)
    *where, key = path.split(".")
    node = _at(entry, tuple(where))
    given = "nothing" if node is None else node.plain()
    shown = " and ".join(map(str, several))
    return ConfigError(
        f"{'.'.join(where)}: {given} given, which fits {shown}; select one, such as {key}: {next(iter(several))}."
    )


def _matches(space: Space, entry: Node) -> list[Point]:
    """Yield every point that fits the entry, one for each choice of branches that it leaves open."""
    variant = entry.child(VARIANT)
    label: Point = {}
    if space.variants and variant is not None:
        if variant.value not in space.variants:
            labels = ", ".join(space.variants)
            raise _OutsideError((VARIANT,), variant.origin, f"{variant.value!r} is not a variant; there are {labels}.")
        label = {VARIANT: variant.value}
    return [{**label, **values} for values in _values(space.tree, entry, ())]


def _values(tree: Tree, entry: Node, path: ConfigPath) -> list[dict[str, Any]]:
    """Return each set of values of the domains of ``tree`` that matches ``entry``; at least one."""
    match tree:
        case Fixed(node):
            for below, fixed in _leaves(node, path):
                value = _at(entry, below[len(path) :])
                if value is not None and value.plain() != fixed.value:
                    raise _OutsideError(
                        below, value.origin, f"{value.plain()!r} given, but it is fixed at {fixed.value!r}."
                    )
            return [{}]
        case Group(children):
            if not isinstance(entry.value, dict):
                raise _OutsideError(path, entry.origin, f"{entry.value!r} given, but its fields vary.")
            combinations: list[dict[str, Any]] = [{}]
            for key, child in children.items():
                child_node = entry.child(key)
                if child_node is not None:
                    inner = _values(child, child_node, (*path, key))
                    combinations = [{**values, **inner_values} for values in combinations for inner_values in inner]
            return combinations
        case Varied(name, domain) if domain.kind == "categorical":
            return _options(tree, entry, path)
        case Varied(name, domain):
            try:
                return [{name: domain.value(entry.value)}]
            except ConfigError as error:
                raise _OutsideError(path, entry.origin, str(error)) from error


def _options(tree: Varied, entry: Node, path: ConfigPath) -> list[dict[str, Any]]:
    """Return the values for each option that matches ``entry``; without one, raise the error of the nearest."""
    combinations: list[dict[str, Any]] = []
    nearest: _OutsideError | None = None
    for label, option in zip(tree.domain.choices, tree.options, strict=True):
        try:
            combinations += [{tree.name: label, **values} for values in _values(option, entry, path)]
        except _OutsideError as error:
            said_name = error.path[-1:] and error.path[-1] in IDENTITIES
            if not said_name and len(error.path) > len(path):
                nearest = nearest or error
    if combinations:
        return combinations
    if nearest is not None:
        raise nearest
    shown = entry.child("name") or entry.child("encoding") or entry
    raise _OutsideError(path, entry.origin, f"{shown.plain()!r} is not a value of {tree.domain.describe()}.")


def _at(node: Node, path: ConfigPath) -> Node | None:
    current: Node | None = node
    for key in path:
        current = None if current is None else current.child(key)
    return current


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
