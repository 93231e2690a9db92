"""``extends`` and ``profiles``: layered sweep files, in which each part keeps the file of its origin.

Mappings merge, and everything else is replaced: a choice, a domain, the weights of an objective, and a component whose
``name`` or ``encoding`` changes. Stages merge by their ``id``. ``null`` removes the value of the layer below, unless
null is a value of the field.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from agr_core.errors import InputError
from agr_core.registry import did_you_mean
from orchestrator.errors import Problem, SpecError
from orchestrator.spec.explain import DOMAIN_NAMES, given
from orchestrator.spec.merge import expand_bare_word
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.paths import IDENTITIES, ConfigPath, shape_at
from orchestrator.spec.source import NOWHERE, DocPath, Mark, Source, read_file

EXTENDS = "extends"
PROFILES = "profiles"


def read_layers(path: Path) -> Source:
    """Return the source of a sweep file merged over its chain of base files; problems are noted in it.

    Raises:
        InputError: If the file itself cannot be read.
        SpecError: If it, or one that it extends, is not YAML.
    """
    return _over_its_base(read_file(path), path, (path,))


def apply_profile(source: Source, profile: str | None) -> tuple[Source, tuple[str, ...]]:
    """Return the source with ``profile`` applied and removed, and the labels of all its profiles.

    A missing or malformed profile is noted in the source.
    """
    if not isinstance(source.document, dict):
        return source, ()
    profiles = source.document.get(PROFILES, {})
    if not isinstance(profiles, dict):
        source.add((PROFILES,), f"{given(profiles)} given; profiles are written as {{label: {{what changes}}}}.")
        profiles = {}
    result = source
    if profile is not None and profile not in profiles:
        has = f"it has {', '.join(profiles)}" if profiles else "it has none"
        hint = did_you_mean(profile, profiles)
        source.problems.append(Problem(0, 0, "--profile", f"the file has no profile {profile!r}; {has}.{hint}"))
    elif profile is not None:
        result = _under(source, (PROFILES, profile))
    result.document.pop(PROFILES, None)
    return result, tuple(profiles)


def _under(source: Source, path: DocPath) -> Source:
    """Return the source with the profile at ``path`` applied."""
    profile = _part(source, path)
    if not isinstance(profile.document, dict):
        source.add(path, f"{given(profile.document)} given; a profile is a mapping of what changes.")
        return source
    for key in (EXTENDS, PROFILES):
        if key in profile.document:
            source.add((*path, key), f"a profile cannot have `{key}`; write it at the root of the file.", key=True)
            del profile.document[key]
    laid = _lay(source, profile)
    laid.from_profile = tuple(path for path in _leaves(profile.document, ()) if laid.has(path))
    return laid


def _part(source: Source, path: DocPath) -> Source:
    """Return the value at ``path`` as a document of its own."""

    def below(marks: dict[DocPath, Mark]) -> dict[DocPath, Mark]:
        return {mark_path[len(path) :]: mark for mark_path, mark in marks.items() if mark_path[: len(path)] == path}

    document = copy.deepcopy(source.at(path))
    return Source(source.file, document, key_marks=below(source.key_marks), value_marks=below(source.value_marks))


def _over_its_base(source: Source, path: Path, chain: tuple[Path, ...]) -> Source:
    if not isinstance(source.document, dict) or EXTENDS not in source.document:
        return source
    base = _read_base(source, path, chain)
    del source.document[EXTENDS]
    if base is None or not isinstance(base.document, dict):
        return source
    return _lay(_in_its_file(base), source)


def _read_base(source: Source, path: Path, chain: tuple[Path, ...]) -> Source | None:
    """Return the source that ``source`` extends; None, with a problem noted, if there is none."""
    named = source.document[EXTENDS]
    if not isinstance(named, str) or not named:
        message = f"{given(named)} given; it must be the path of a sweep file, relative to this one."
        source.add((EXTENDS,), message)
        return None
    file = Path(os.path.normpath(path.parent / named))
    try:
        resolved, is_other = file.resolve(), file.exists() and not file.is_file()
    except (OSError, ValueError) as error:  # too long a name, or a character that no path has
        reason = error.strerror if isinstance(error, OSError) else str(error)
        source.add((EXTENDS,), f"{given(named)} is not a path ({reason}); give the path of a sweep file.")
        return None
    if resolved in [ancestor.resolve() for ancestor in chain]:
        shown = " -> ".join(map(str, (*chain, file)))
        source.add((EXTENDS,), f"the file extends itself: {shown}; drop one `extends`.")
        return None
    if is_other:
        source.add((EXTENDS,), f"{file} is not a file; give the path of a sweep file, relative to this one.")
        return None
    try:
        base = read_file(file)
    except SpecError:  # not YAML: the error names that file and its lines
        raise
    except InputError as error:
        source.add((EXTENDS,), f"{error} Paths are relative to this file.")
        return None
    if not isinstance(base.document, dict):
        source.add((EXTENDS,), f"{file} is not a sweep file: it holds no mapping.")
    return _over_its_base(base, file, (*chain, file))


def _in_its_file(source: Source) -> Source:
    """Return the source with its file's name in every mark and problem that has none."""

    def named(marks: dict[DocPath, Mark]) -> dict[DocPath, Mark]:
        return {path: mark if mark.file else replace(mark, file=source.file) for path, mark in marks.items()}

    problems = [problem if problem.file else replace(problem, file=source.file) for problem in source.problems]
    return replace(source, problems=problems, key_marks=named(source.key_marks), value_marks=named(source.value_marks))


def _lay(under: Source, over: Source) -> Source:
    """Return ``over`` merged over ``under``, both mappings; problems are noted in the result."""
    result = replace(
        under,
        file=over.file,
        document=copy.deepcopy(under.document),
        problems=[*under.problems, *over.problems],
        key_marks=dict(under.key_marks),
        value_marks={**under.value_marks, (): over.value_marks.get((), NOWHERE)},
        _settled=under._settled | over._settled,
    )
    _lay_mapping(result, result.document, over, over.document, ())
    return result


def _lay_mapping(result: Source, below: dict[str, Any], over: Source, above: dict[str, Any], path: DocPath) -> None:
    for key, value in above.items():
        here = (*path, key)
        if value is None and not _is_value(here, key in below):
            if key in below:
                del below[key]
                _forget(result, here)
            else:
                mark = over.mark(here, key=True)
                message = "null removes a value of the layer below, and there is none; drop the key."
                result.problems.append(Problem(mark.line, mark.column, ".".join(map(str, here)), message, mark.file))
            continue
        if _are_known_stages(below.get(key), value, here):
            _lay_stages(result, below[key], over, value, here)
            continue
        first, second = (_opened(layer_value, here) for layer_value in (below.get(key), value))
        if isinstance(first, dict) and isinstance(second, dict) and _merges(first, second, here):
            below[key] = first
            _take_marks(result, over, here, subtree=False)
            _lay_mapping(result, first, over, second, here)
        else:
            below[key] = copy.deepcopy(value)
            _forget(result, here)
            _take_marks(result, over, here, subtree=True)


def _are_known_stages(below: Any, above: Any, path: DocPath) -> bool:
    """Return whether ``above`` only changes stages of the list ``below``; else it replaces the list."""
    match path:
        case ("profiles", _, *rest) if rest:
            return _are_known_stages(below, above, tuple(rest))
        case ("trial", "stages") | ("variants", _, "stages"):
            lists = [below, above]
            named = all(
                isinstance(stage_list, list) and all(_is_named(item) for item in stage_list) for stage_list in lists
            )
            return named and {item["id"] for item in above} <= {item["id"] for item in below}
        case _:
            return False


def _is_named(stage: Any) -> bool:
    return isinstance(stage, dict) and isinstance(stage.get("id"), str)


def _lay_stages(result: Source, below: list[Any], over: Source, above: list[Any], path: DocPath) -> None:
    for index, stage in enumerate(above):
        base_index = next(
            base_index for base_index, base_stage in enumerate(below) if base_stage.get("id") == stage.get("id")
        )
        here = (*path, base_index)
        laid = _lay(_as_trial(_part(result, here)), _as_trial(_part(over, (*path, index))))
        below[base_index] = laid.document["trial"]
        _forget(result, here)
        for mine, theirs in ((result.key_marks, laid.key_marks), (result.value_marks, laid.value_marks)):
            mine.update(
                {(*here, *mark_path[1:]): mark for mark_path, mark in theirs.items() if mark_path[:1] == ("trial",)}
            )
        result.problems += laid.problems


def _as_trial(source: Source) -> Source:
    """Return a stage's content as a document of the trial, for which the same rules hold."""

    def below(marks: dict[DocPath, Mark]) -> dict[DocPath, Mark]:
        return {("trial", *mark_path): mark for mark_path, mark in marks.items()}

    document = {"trial": source.document}
    return Source(source.file, document, key_marks=below(source.key_marks), value_marks=below(source.value_marks))


def _is_value(path: DocPath, present: bool) -> bool:
    """Return whether null at ``path`` is a value rather than a deletion of the present value (``present``)."""
    match path:
        case ("profiles", *_):
            return True  # it removes a value when the profile is applied
        case ("space", *rest):
            return not present and type(None) in shape_at(_names(rest)).plain
        case ("trial", *rest) | ("variants", _, *rest) if rest:
            return type(None) in shape_at(_names(rest)).plain
        case _:
            return type(None) in shape_at(_names(path), SweepSpec).plain


def _merges(first: dict[str, Any], second: dict[str, Any], path: DocPath) -> bool:
    """Return whether two mappings are merged, or the second replaces the first."""
    match path:
        case ("profiles", _, *rest) if rest:
            return _merges(first, second, tuple(rest))
        case ("objective", "metric") | ("keep", _, "metric"):
            return False
        case ("space", *_) if any(key in mapping for mapping in (first, second) for key in DOMAIN_NAMES):
            return False
        case ("trial" | "space" | "scheduler", *_) | ("variants", _, *_):
            return all(first[key] == second[key] for key in IDENTITIES if key in first and key in second)
        case _:
            return True


def _opened(value: Any, path: DocPath) -> Any:
    """Return a bare word as the mapping it abbreviates."""
    match path:
        case ("profiles", _, *rest) if rest:
            return _opened(value, tuple(rest))
        case ("scheduler",):
            return {"name": value} if isinstance(value, str) else value
        case ("trial" | "space", *rest) | ("variants", _, *rest):
            return expand_bare_word(value, _names(rest))
        case _:
            return value


def _take_marks(result: Source, over: Source, path: DocPath, *, subtree: bool) -> None:
    for mine, theirs in ((result.key_marks, over.key_marks), (result.value_marks, over.value_marks)):
        mine.update(
            {
                mark_path: mark
                for mark_path, mark in theirs.items()
                if mark_path == path or (subtree and mark_path[: len(path)] == path)
            }
        )


def _forget(source: Source, path: DocPath) -> None:
    for marks in (source.key_marks, source.value_marks):
        for mark_path in [mark_path for mark_path in marks if mark_path[: len(path)] == path]:
            del marks[mark_path]


def _leaves(value: Any, path: DocPath) -> Iterator[DocPath]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    else:
        yield path


def _names(path: DocPath | list[str | int]) -> ConfigPath:
    return tuple(map(str, path))
