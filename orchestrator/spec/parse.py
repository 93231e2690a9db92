"""From the ``space`` of a sweep file to the tree of what varies; every breach of the grammar is noted in the source."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

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
    """The tree of the mapping ``value``, which stands at ``origin``."""
    return _Parser(source).tree(value, (), origin, "")


class _Parser:
    def __init__(self, source: Source) -> None:
        self._source = source

    def tree(self, value: Any, path: ConfigPath, origin: DocPath, name: str) -> Tree:
        """The tree of what ``space`` says at ``path``; ``name`` is what a domain standing here is called."""
        if isinstance(value, Mapping):
            if _domain_keys(value):
                return self._domain(value, path, origin, name)
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
        """A list that is a field's value holds neither values of the field nor domains."""
        if items and all(isinstance(item, list) for item in items):
            message = "this field's value is itself a list; vary it as {choice: [[...], [...]]}."
        elif any(isinstance(item, Mapping) and _domain_keys(item) for item in items):
            message = "a domain cannot stand inside a list; vary the whole list as {choice: [[...], [...]]}."
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
                f"{kinds[0]} and {also} cannot stand together: a domain is one of "
                f"{', '.join(DOMAIN_NAMES)}, and step where it fits.",
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
        options = []
        for index, item in enumerate(items):
            here = (*origin, index)
            earlier = next((other for other in range(index) if _equal(items[other], item, path)), None)
            if earlier is not None:
                self._source.add(
                    here,
                    f"{_shown(item)} stands twice in this choice (items {earlier + 1} and {index + 1}); "
                    "give each value once.",
                )
            options.append(self._option(item, path, here, f"{name}[{labels[index]}]"))
        return Varied(name, Domain("categorical", labels), origin, tuple(options))

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
        """A numeric domain. Both ends are values of it."""
        here = (*origin, kind)
        ends = value[kind]
        whole = kind.endswith("randint")
        if not isinstance(ends, list) or len(ends) != 2:
            return self._refuse(here, f"{given(ends)} given; {kind} takes [lowest, highest].", origin)
        wrong = [index for index, end in enumerate(ends) if not _is_number(end, whole=whole)]
        for index in wrong:
            rule = f"{kind} takes {'whole numbers' if whole else 'numbers'}"
            self._source.add((*here, index), f"{given(ends[index])} given; {rule}.")
        if wrong:
            return self._stand_in(origin)
        low, high = ends
        log = kind.startswith("log")
        if low > high:
            return self._refuse(here, f"{given(ends)} is upside down; write [{high}, {low}].", origin)
        if log and low <= 0:
            return self._refuse((*here, 0), f"{given(low)} given; a logarithmic range must begin above 0.", origin)
        step = value.get(STEP)
        if STEP in value and not self._step_fits(kind, low, high, step, (*origin, STEP)):
            return self._stand_in(origin)
        return Varied(name, Domain("int" if whole else "float", (), low, high, step, log), here)

    def _step_fits(self, kind: str, low: float, high: float, step: Any, origin: DocPath) -> bool:
        whole = kind.endswith("randint")
        if kind.startswith("log"):
            other = "randint" if whole else "uniform"
            message = (
                f"{kind} takes no step, since even steps are not even on a logarithmic scale; use {other} or a choice."
            )
        elif not _is_number(step, whole=whole) or step <= 0:
            message = f"{given(step)} given; step must be a {'whole ' if whole else ''}number above 0."
        elif (high - low) / step > _MOST_STEPS:
            message = f"step {step} makes more than {_MOST_STEPS:,} steps from {low} to {high}; leave it out."
        elif (Decimal(repr(high)) - Decimal(repr(low))) % Decimal(repr(step)) != 0:
            message = f"step {step} does not lead from {low} to {high}; choose one that divides the range."
        else:
            return True
        self._source.add(origin, message)
        return False

    def _refuse(self, path: DocPath, message: str, origin: DocPath, *, key: bool = False) -> Tree:
        """Note what is wrong at ``path``, within the domain at ``origin``."""
        self._source.add(path, message, key=key)
        return self._stand_in(origin)

    def _stand_in(self, origin: DocPath) -> Tree:
        """What takes the place of the broken domain at ``origin``, of which no more is said."""
        self._source.settle(origin)
        return Fixed(read(None, origin))


def _domain_keys(value: Mapping[str, Any]) -> list[str]:
    return [key for key in value if key in DOMAIN_NAMES]


def _is_number(value: Any, *, whole: bool) -> bool:
    return isinstance(value, int if whole else int | float) and not isinstance(value, bool)


def _equal(one: Any, other: Any, path: ConfigPath) -> bool:
    """Whether two options are the same value; 1 and 1.0 and true are, for whoever searches."""
    return bool(expand_bare_word(one, path) == expand_bare_word(other, path))


def _labels(items: Sequence[Any]) -> tuple[Label, ...]:
    """A label for each item: scalars as they are, mappings by name; unique, with the item's number where needed."""
    labels: list[Label] = []
    for number, item in enumerate(items, start=1):
        label = (
            _mapping_label(item) if isinstance(item, Mapping) else _list_label(item) if isinstance(item, list) else item
        )
        labels.append(f"{label}#{number}" if label in labels or label == "" else label)
    return tuple(labels)


def _list_label(item: list[Any]) -> str:
    if item and all(isinstance(stage, Mapping) and "id" in stage for stage in item):
        return stage_ids(item)
    return json.dumps(item)


def _shown(item: Any) -> str:
    return (isinstance(item, Mapping) and _mapping_label(item)) or given(item)


def _mapping_label(item: Mapping[str, Any]) -> str:
    """Its domain, name or encoding; nothing without one."""
    kinds = _domain_keys(item)
    identity = kinds[0] if kinds else next((item[key] for key in IDENTITIES if key in item), "")
    return "|".join(map(str, identity)) if isinstance(identity, list) else str(identity)
