"""``search.start``: configurations that are tried before the search proposes its own, as points of the space."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agr_core.errors import ConfigError, InputError
from orchestrator.spec.domains import Domain
from orchestrator.spec.merge import Node, read
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.paths import IDENTITIES, ConfigPath
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
        # Options that overlap give the same configuration.
        return _matches(space, entry)[0]
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

    On a branch that it does not name it may say what only one branch has.

    Raises:
        _OutsideError: If it says something that the space does not give.
        ConfigError: If its values do not go together, or several branches give them.
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
    """The names at a point by path, where the configuration there is as the entry says.

    Raises:
        _OutsideError: If it is not.
        ConfigError: If its values do not go together.
    """
    proposal = space.build(_choose(point))
    config = proposal.config.to_document()
    names = tuple((path, name) for path, name in proposal.params.items() if path.rsplit(".", 1)[-1] in IDENTITIES)
    for path, said in _leaves(entry, ()):
        if path == (VARIANT,) and space.variants:
            continue
        given: Any = config
        for depth, key in enumerate(path):
            fields = given if isinstance(given, dict) else {}
            if key not in fields:
                owner = next((fields[each] for each in IDENTITIES if each in fields), "this configuration")
                raise _OutsideError(
                    path,
                    said.origin,
                    f"{said.value!r} given, but {'.'.join(path[: depth + 1])} is no field of {owner}.",
                )
            given = fields[key]
        if given != said.value:
            raise _OutsideError(
                path,
                said.origin,
                f"{said.value!r} given, but {'.'.join(path)} is {given!r} in this sweep and does not vary so.",
            )
    return names


def _ambiguous(entry: Node, fitting: Iterable[tuple[tuple[str, Any], ...]]) -> ConfigError:
    """``fitting``: the names by path of each point that the entry fits."""
    names: dict[str, dict[Any, None]] = {}
    for branches in fitting:
        for path, name in branches:
            names.setdefault(path, {})[name] = None
    path, several = next((path, several) for path, several in names.items() if len(several) > 1)
    *where, key = path.split(".")
    said = _at(entry, tuple(where))
    given = "nothing" if said is None else said.plain()
    shown = " and ".join(map(str, several))
    return ConfigError(
        f"{'.'.join(where)}: {given} given, which fits {shown}; say which, as {key}: {next(iter(several))}."
    )


def _matches(space: Space, entry: Node) -> list[Point]:
    """Every point of which the entry says something, one for each choice of branches that it leaves open."""
    variant = entry.child(VARIANT)
    label: Point = {}
    if space.variants and variant is not None:
        if variant.value not in space.variants:
            known = ", ".join(space.variants)
            raise _OutsideError((VARIANT,), variant.origin, f"{variant.value!r} is no variant; there are {known}.")
        label = {VARIANT: variant.value}
    return [{**label, **values} for values in _values(space.tree, entry, ())]


def _values(tree: Tree, entry: Node, path: ConfigPath) -> list[dict[str, Any]]:
    """Values of the domains of ``tree`` for which it gives ``entry``, as far as ``entry`` says; at least one set."""
    match tree:
        case Fixed(node):
            for below, fixed in _leaves(node, path):
                said = _at(entry, below[len(path) :])
                if said is not None and said.plain() != fixed.value:
                    raise _OutsideError(below, said.origin, f"{said.plain()!r} given, where it is {fixed.value!r}.")
            return [{}]
        case Group(children):
            if not isinstance(entry.value, dict):
                raise _OutsideError(path, entry.origin, f"{entry.value!r} given, where fields vary.")
            found: list[dict[str, Any]] = [{}]
            for key, child in children.items():
                said = entry.child(key)
                if said is not None:
                    inner = _values(child, said, (*path, key))
                    found = [{**one, **other} for one in found for other in inner]
            return found
        case Varied(name, domain) if domain.kind == "categorical":
            return _options(tree, entry, path)
        case Varied(name, domain):
            try:
                return [{name: domain.value(entry.value)}]
            except ConfigError as error:
                raise _OutsideError(path, entry.origin, str(error)) from error


def _options(tree: Varied, entry: Node, path: ConfigPath) -> list[dict[str, Any]]:
    """What each option that gives ``entry`` makes of it; where none does, the nearest one says why."""
    found: list[dict[str, Any]] = []
    nearest: _OutsideError | None = None
    for label, option in zip(tree.domain.choices, tree.options, strict=True):
        try:
            found += [{tree.name: label, **values} for values in _values(option, entry, path)]
        except _OutsideError as error:
            said_name = error.path[-1:] and error.path[-1] in IDENTITIES
            if not said_name and len(error.path) > len(path):
                nearest = nearest or error
    if found:
        return found
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
