"""The schema of TrialConfig by path: the allowed contents of a sweep file.

It is derived from the pydantic models, so that a field added to TrialConfig, or a component added by an installed
package, extends the grammar.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from agr_core.config import TrialConfig
from agr_core.config.extension import Extension

ConfigPath = tuple[str, ...]
"""Position of a value in a TrialConfig: field names from the root."""

IDENTITIES = ("name", "encoding")
"""Fields that select one of several alternatives of a mapping."""


SEVERAL = "several"
"""Tag of the list alternative of a field that takes one item or a list."""


@dataclass(frozen=True)
class Shape:
    """The values that a field accepts. A field of a part with alternatives has the shapes of all of them."""

    models: tuple[type[BaseModel], ...]
    """Mappings it takes, one model for each alternative."""

    plain: tuple[Any, ...]
    """Types of the values it takes that are not mappings."""

    @property
    def component(self) -> bool:
        """Whether its mapping has a ``name``, so that a bare word abbreviates it."""
        return any("name" in model.model_fields for model in self.models)

    @property
    def takes_list(self) -> bool:
        """Whether a list can be its value."""
        return any(get_origin(kind) is tuple for kind in self.plain)

    def list_is_value(self, items: Sequence[Any]) -> bool:
        """Return whether the list ``items`` is the field's value rather than a choice of values.

        Where the field takes lists and other things too (``bins``), a list of values of the field is a choice.
        """
        only_lists = all(get_origin(kind) is tuple for kind in self.plain)
        return self.takes_list and (only_lists or not any(_fits(kind, item) for item in items for kind in self.plain))


@lru_cache(maxsize=1024)
def shape_at(path: ConfigPath, root: type[BaseModel] = TrialConfig) -> Shape:
    """Return the shape of the field at ``path`` (numbers are list items); an empty shape if there is no such field."""
    shape = Shape((root,), ())
    for part in path:
        shape = _items(shape) if part.isdigit() else _below(part, shape.models)
    return shape


@lru_cache(maxsize=1024)
def _below(part: str, models: tuple[type[BaseModel], ...]) -> Shape:
    if part == "stages" and TrialConfig in models:  # of the grammar alone; see ``stages``
        return Shape((), (tuple[dict[str, Any], ...],))
    fields = [model.model_fields[part] for model in models if part in model.model_fields]
    opened = [each for field in fields for each in field.metadata if isinstance(each, Extension)]
    of_packages = dict.fromkeys(member for extension in opened for member in extension.members())
    return _shape([*(field.annotation for field in fields), *of_packages])


@lru_cache(maxsize=1024)
def _items(shape: Shape) -> Shape:
    """Return the shape of the items of its lists."""
    return _shape([get_args(kind)[0] for kind in shape.plain if get_origin(kind) is tuple])


def _shape(annotations: Sequence[Any]) -> Shape:
    kinds = dict.fromkeys(kind for annotation in annotations for kind in _alternatives(annotation))
    return Shape(tuple(kind for kind in kinds if _is_model(kind)), tuple(kind for kind in kinds if not _is_model(kind)))


def locate(
    loc: Sequence[str | int], root: type[BaseModel]
) -> tuple[tuple[str | int, ...], tuple[type[BaseModel], ...]]:
    """Return the document path of a pydantic error's location, and the models that read the mapping there.

    The location has the tags of unions between the fields; they are no part of the path, but choose among the models.
    A last part that is no field (an unknown key) is left out.
    """
    path: list[str | int] = []
    shape = Shape((root,), ())
    for part in loc:
        if isinstance(part, int):
            path.append(part)
            shape = _items(shape)
        elif any(part in model.model_fields for model in shape.models):
            path.append(part)
            shape = _below(part, shape.models)
        elif part == SEVERAL and shape.takes_list:
            shape = Shape((), shape.plain)
        elif len(shape.plain) > 1 and part in ("str", "dict[str,float]"):  # pydantic's tags of its alternatives
            shape = Shape((), tuple(kind for kind in shape.plain if get_origin(kind) is dict))
        elif any(get_origin(kind) is dict for kind in shape.plain):
            path.append(part)
            shape = _shape([get_args(kind)[1] for kind in shape.plain if get_origin(kind) is dict])
        else:
            shape = Shape(_tagged(part, shape.models) or shape.models, ())
    return tuple(path), shape.models


@lru_cache(maxsize=1024)
def _tagged(tag: str, models: tuple[type[BaseModel], ...]) -> tuple[type[BaseModel], ...]:
    exact = tuple(model for model in models if tag in tags_of(model))
    return exact or tuple(model for model in models if not tags_of(model))


@lru_cache(maxsize=256)
def tags_of(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the names (or encodings) by which a file selects ``model``; none if its name is free text."""
    for key in IDENTITIES:
        if key in model.model_fields and get_origin(model.model_fields[key].annotation) is Literal:
            return get_args(model.model_fields[key].annotation)
    return ()


def _alternatives(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from _alternatives(member)
    else:
        yield annotation


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _fits(kind: Any, value: Any) -> bool:
    try:
        _adapter(kind).validate_python(tuple(value) if isinstance(value, list) else value)
    except ValidationError:
        return False
    return True


@lru_cache(maxsize=256)
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind, config=ConfigDict(strict=True))
