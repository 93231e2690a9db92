"""Parse the ``space`` of a sweep file into a tree of domains; grammar errors are noted in the source."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from orchestrator.spec.dialects import translation
from orchestrator.spec.domains import Domain, Label
from orchestrator.spec.explain import DOMAIN_NAMES, given
from orchestrator.spec.merge import expand_bare_word, read
from orchestrator.spec.paths import IDENTITIES, ConfigPath, shape_at
from orchestrator.spec.source import DocPath, Source
from orchestrator.spec.space import Fixed, Group, Tree, Varied
from orchestrator.spec.stages import stage_ids

STEP = "step"

_MOST_STEPS = 1_000_000


def parse_space(value: Any, origin: DocPath, source: Source) -> Tree:
    """Return the tree of the mapping ``value`` at ``origin``."""
    return _Parser(source).tree(value, (), origin, "")


class _Parser:
    def __init__(self, source: Source) -> None:
        self._source = source

    def tree(self, value: Any, path: ConfigPath, origin: DocPath, name: str) -> Tree:
        """Return the tree of the value at ``path``; ``name`` is the name of a domain at this position."""
        if isinstance(value, Mapping):
            if _domain_keys(value):
                return self._domain(value, path, origin, name)
            instead = None if _is_part(value, path) else translation(value)
            if instead is not None:
                message = f"this is another tool's notation of a domain; write {instead}."
                return self._refuse(origin, message, origin)
            children = {
                key: self.tree(item, (*path, key), (*origin, key), f"{name}.{key}" if name else key)
                for key, item in value.items()
            }
            return Group(children, origin)
        if isinstance(value, list) and not shape_at(path).list_is_value(value):
            return self._choice(value, path, origin, name)
        if isinstance(value, list):
            self._check_list_value(value, origin)
        return Fixed(read(value, origin, path))

    def _check_list_value(self, items: Sequence[Any], origin: DocPath) -> None:
        """Note a list that is a field's value and contains values of the field or domains."""
        if items and all(isinstance(item, list) for item in items):
            message = "this field's value is itself a list; vary it as {choice: [[...], [...]]}."
        elif any(isinstance(item, Mapping) and _domain_keys(item) for item in items):
            message = "a domain is not allowed inside a list; vary the whole list as {choice: [[...], [...]]}."
        else:
            return
        self._source.add(origin, message)
        self._source.settle(origin)

    def _domain(self, value: Mapping[str, Any], path: ConfigPath, origin: DocPath, name: str) -> Tree:
        kinds = _domain_keys(value)
        strange = [key for key in value if key not in (*kinds, STEP)]
        if len(kinds) > 1 or strange:
            also = strange[0] if strange else kinds[1]
            return self._refuse(
                (*origin, also),
                f"{kinds[0]} and {also} exclude each other: a domain has one of "
                f"{', '.join(DOMAIN_NAMES)}, and step for a range.",
                origin,
                key=True,
            )
        kind = kinds[0]
        if kind == "choice":
            if STEP in value:
                return self._refuse((*origin, STEP), "a choice has no step; list its values.", origin, key=True)
            return self._choice(value[kind], path, (*origin, kind), name)
        return self._range(kind, value, origin, name)

    def _choice(self, items: Any, path: ConfigPath, origin: DocPath, name: str) -> Tree:
        if not isinstance(items, list) or not items:
            shown = "an empty list" if items == [] else given(items)
            return self._refuse(origin, f"{shown} given; a choice is a list of at least one value.", origin)
        labels = _labels(items)
        options: dict[Label, Tree] = {}
        first: dict[str, int] = {}
        for index, item in enumerate(items):
            here = (*origin, index)
            earlier = first.setdefault(_identity(item, path), index)
            if earlier != index:
                self._source.add(
                    here,
                    f"{_shown(item)} is listed twice in this choice (items {earlier + 1} and {index + 1}); "
                    "give each value once.",
                )
                continue  # its own problems are those of the earlier one
            options[labels[index]] = self._option(item, path, here, f"{name}[{labels[index]}]")
        return Varied(name, Domain("categorical", tuple(options)), origin, tuple(options.values()))

    def _option(self, item: Any, path: ConfigPath, origin: DocPath, name: str) -> Tree:
        if isinstance(item, list):
            if shape_at(path).takes_list:
                return Fixed(read(item, origin, path))
            return self._refuse(
                origin, "a list inside a choice is no value of this field; list its items directly.", origin
            )
        if isinstance(item, Mapping) and "choice" in _domain_keys(item):
            return self._refuse(origin, "a choice directly inside a choice; list its values in the outer one.", origin)
        return self.tree(item, path, origin, name)

    def _range(self, kind: str, value: Mapping[str, Any], origin: DocPath, name: str) -> Tree:
        """Return a numeric domain. Both ends are included."""
        here = (*origin, kind)
        ends = value[kind]
        integer = kind.endswith("randint")
        if not isinstance(ends, list) or len(ends) != 2:
            return self._refuse(here, f"{given(ends)} given; {kind} takes [lowest, highest].", origin)
        wrong = [index for index, end in enumerate(ends) if not _is_number(end, integer=integer)]
        for index in wrong:
            rule = f"{kind} takes {'whole numbers' if integer else 'numbers'}"
            quotes = " Write it without quotes." if _is_quoted_number(ends[index]) else ""
            self._source.add((*here, index), f"{given(ends[index])} given; {rule}.{quotes}")
        if wrong:
            return self._stand_in(origin)
        low, high = ends
        log = kind.startswith("log")
        if low > high:
            return self._refuse(here, f"{given(ends)} is reversed; write [{high}, {low}].", origin)
        if log and low <= 0:
            return self._refuse((*here, 0), f"{given(low)} given; a logarithmic range must begin above 0.", origin)
        step = value.get(STEP)
        if STEP in value and not self._step_fits(kind, low, high, step, (*origin, STEP)):
            return self._stand_in(origin)
        return Varied(name, Domain("int" if integer else "float", (), low, high, step, log), here)

    def _step_fits(self, kind: str, low: float, high: float, step: Any, origin: DocPath) -> bool:
        integer = kind.endswith("randint")
        if kind.startswith("log"):
            other = "randint" if integer else "uniform"
            message = (
                f"{kind} takes no step, because equal steps are unequal on a logarithmic scale; use {other} or a "
                "choice."
            )
        elif not _is_number(step, integer=integer) or step <= 0:
            message = f"{given(step)} given; step must be a {'whole ' if integer else ''}number above 0."
        elif (high - low) / step > _MOST_STEPS:
            message = f"step {step} makes more than {_MOST_STEPS:,} steps from {low} to {high}; leave it out."
        elif (Decimal(repr(high)) - Decimal(repr(low))) % Decimal(repr(step)) != 0:
            message = f"step {step} does not divide the range from {low} to {high}; choose one that does."
        else:
            return True
        self._source.add(origin, message)
        return False

    def _refuse(self, path: DocPath, message: str, origin: DocPath, *, key: bool = False) -> Tree:
        """Note a problem at ``path``, within the domain at ``origin``."""
        self._source.add(path, message, key=key)
        return self._stand_in(origin)

    def _stand_in(self, origin: DocPath) -> Tree:
        """Return a substitute for the invalid domain at ``origin``, whose further problems are suppressed."""
        self._source.settle(origin)
        return Fixed(read(None, origin))


def _domain_keys(value: Mapping[str, Any]) -> list[str]:
    return [key for key in value if key in DOMAIN_NAMES]


def _is_number(value: Any, *, integer: bool) -> bool:
    return isinstance(value, int if integer else int | float) and not isinstance(value, bool)


def _is_part(value: Mapping[str, Any], path: ConfigPath) -> bool:
    """Return whether the mapping is a part of the configuration, by the names of its fields."""
    return any(key in model.model_fields for model in shape_at(path).models for key in value)


def _is_quoted_number(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[-+.\deE_]+", value) is not None


def _identity(item: Any, path: ConfigPath) -> str:
    """Return a key that is equal for equal options; 1, 1.0 and true are equal to a search algorithm."""

    def plain(value: Any) -> Any:
        match value:
            case dict():
                return {key: plain(item) for key, item in value.items()}
            case list():
                return [plain(item) for item in value]
            case bool() | float():
                return int(value) if value == int(value) else value
            case _:
                return value

    return json.dumps(plain(expand_bare_word(item, path)), sort_keys=True)


def _labels(items: Sequence[Any]) -> tuple[Label, ...]:
    """Return a unique label for each item: scalars as they are, mappings by name, with the item's number if needed."""
    labels: dict[Label, None] = {}
    for number, item in enumerate(items, start=1):
        label = (
            _mapping_label(item) if isinstance(item, Mapping) else _list_label(item) if isinstance(item, list) else item
        )
        labels[f"{label}#{number}" if label in labels or label == "" else label] = None
    return tuple(labels)


def _list_label(item: list[Any]) -> str:
    if item and all(isinstance(stage, Mapping) and "id" in stage for stage in item):
        return stage_ids(item)
    return json.dumps(item)


def _shown(item: Any) -> str:
    return (isinstance(item, Mapping) and _mapping_label(item)) or given(item)


def _mapping_label(item: Mapping[str, Any]) -> str:
    """Return its domain, name or encoding; empty without one."""
    kinds = _domain_keys(item)
    identity = kinds[0] if kinds else next((item[key] for key in IDENTITIES if key in item), "")
    return "|".join(map(str, identity)) if isinstance(identity, list) else str(identity)
