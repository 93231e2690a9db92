"""``--set a.b=c``: edit the document before any check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from orchestrator.errors import Problem, SpecError
from orchestrator.spec.explain import given
from orchestrator.spec.layers import EXTENDS, PROFILES
from orchestrator.spec.merge import expand_bare_word
from orchestrator.spec.paths import ConfigPath
from orchestrator.spec.source import DocPath, Source, parse_value, render_path
from orchestrator.spec.space import Space


def apply_overrides(source: Source, overrides: Sequence[str]) -> None:
    """Edit the document of ``source``; paths count from its root, items of lists by number from 0.

    An override that cannot be applied is noted in ``source``.
    """
    for text in overrides:
        name, equals, value = text.partition("=")
        if not name or not equals:
            _note(source, "--set", f"{text!r} given; write --set path=value, such as --set search.trials=10.")
            continue
        try:
            parsed = parse_value(value, file=f"--set {name}")
        except SpecError as error:
            _note(source, name, f"the value of --set is not YAML: {error.problems[0].message}")
            continue
        if name.split(".")[0] in (EXTENDS, PROFILES):
            _note(source, name, "--set applies after base files and profiles; set the field itself.")
        elif isinstance(source.document, dict):  # else the whole file is refused anyway
            try:
                source.replace(_reach(source.document, name), parsed, name)
            except LookupError as error:
                _note(source, name, str(error.args[0]))


def refuse_ineffective(source: Source, space: Space) -> None:
    """Note each override of the fixed part whose value the space replaces."""
    for path, value in source.overrides():
        below = _config_path(path)
        if below is None:
            continue
        leaves = list(_leaves(value, below))
        replaced = sorted(
            varied_path
            for varied_path in space.varied_paths()
            if any(leaf[: len(varied_path)] == varied_path for leaf in leaves)
        )
        if replaced:
            names = ", ".join(".".join(varied_path) for varied_path in replaced)
            where = render_path(("space", *replaced[0]))
            source.add(path, f"`space` varies {names}, so this has no effect; set {where} instead.")
            source.settle(path)


def _reach(document: dict[str, Any], name: str) -> DocPath:
    """Return the path of ``name`` in ``document``, creating missing mappings.

    Raises:
        LookupError: If a value on the path has no fields.
    """
    at: Any = document
    path: DocPath = ()
    *parents, last = name.split(".")
    for part in parents:
        key = _key(at, part, path)
        path = (*path, key)
        if isinstance(at, dict):
            at.setdefault(key, {})
        at[key] = _opened(at[key], path)
        at = at[key]
    return (*path, _key(at, last, path))


def _key(at: Any, part: str, path: DocPath) -> str | int:
    if isinstance(at, dict):
        return part
    if not isinstance(at, list):
        raise LookupError(
            f"{render_path(path)} is {given(at)}, so there is no {part!r} in it; set {render_path(path)}."
        )
    if not part.isdecimal() or int(part) >= len(at):
        raise LookupError(f"{render_path(path)} has {len(at)} items, counted from 0; there is no item {part!r}.")
    return int(part)


def _opened(value: Any, path: DocPath) -> Any:
    """Return a bare word as the mapping it abbreviates, so that a field can be set in it; null as an empty mapping."""
    if path == ("scheduler",) and isinstance(value, str):
        return {"name": value}
    below = _config_path(path)
    return value if below is None else expand_bare_word(value, below)


def _config_path(path: DocPath) -> ConfigPath | None:
    """Return the TrialConfig path of a document path below ``trial`` or a variant; None elsewhere."""
    match path:
        case ("trial", *rest) | ("variants", str(), *rest):
            return tuple(str(part) for part in rest)
        case _:
            return None


def _leaves(value: Any, path: ConfigPath) -> Iterator[ConfigPath]:
    value = expand_bare_word(value, path)
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    else:
        yield path


def _note(source: Source, name: str, message: str) -> None:
    source.problems.append(Problem(0, 0, name, message))
