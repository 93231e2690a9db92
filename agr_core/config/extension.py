"""Unions of configurations to which installed packages add members through entry points.

A plug-in is a configuration class: its fields are the plug-in's options, its ``name`` (or ``encoding``) is the name of
its entry point, and a method makes the component. Packages are imported when the first configuration is validated, not
when this package is imported, so that a plug-in's module can import ``agr_core.config`` itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema, to_json

from agr_core import plugins
from agr_core.errors import InputError

Member = type[BaseModel]


@dataclass(frozen=True)
class Extension:
    """Annotation that opens a union of configurations to the plug-ins of one group of entry points."""

    group: str
    base: Member
    """Class from which the plug-ins derive."""
    key: str
    """Field whose value selects a member: ``name`` or ``encoding``."""
    extended: Callable[[tuple[Member, ...]], Any]
    """Given the plug-ins, the annotation of the whole union."""
    taken: Callable[[], Collection[str]]
    """Returns the names that plug-ins cannot have."""

    def members(self) -> tuple[Member, ...]:
        """Return the classes of all installed plug-ins of the group, by name.

        Raises:
            InputError: If a package cannot be imported, or its object does not fit; the message names the package.
        """
        return _members(self)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate by the union with all plug-ins; serialize each member by its own class."""
        return core_schema.no_info_wrap_validator_function(
            self._validate, handler(source), serialization=core_schema.simple_ser_schema("any")
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Return the JSON Schema of the union with all plug-ins."""
        return handler(_adapter(self).core_schema if self.members() else schema)

    def _validate(self, value: Any, built_in: Callable[[Any], Any]) -> Any:
        if not self.members():
            return built_in(value)
        adapter = _adapter(self)
        # As JSON: strict Python input would refuse a plug-in's nested tuples where a file has lists.
        return adapter.validate_json(to_json(value)) if isinstance(value, Mapping) else adapter.validate_python(value)


@lru_cache(maxsize=16)
def _members(extension: Extension) -> tuple[Member, ...]:
    return tuple(_checked(extension, name, each) for name, each in plugins.load(extension.group).items())


@lru_cache(maxsize=16)
def _adapter(extension: Extension) -> TypeAdapter[Any]:
    return TypeAdapter(extension.extended(extension.members()))


def _checked(extension: Extension, name: str, loaded: Any) -> Member:
    """Return the class of a plug-in.

    Raises:
        InputError: If it is none that a configuration can use.
    """
    base, key = extension.base, extension.key
    if not (isinstance(loaded, type) and issubclass(loaded, base)):
        problem = f"is {loaded!r} and no class derived from agr_core.config.{base.__name__}"
    elif inspect.isabstract(loaded):
        problem = f"lacks {', '.join(sorted(loaded.__abstractmethods__))}, which {base.__name__} asks for"
    elif tag_of(loaded, key) != name:
        problem = f'must declare {key}: Literal["{name}"], the name of its entry point'
    elif name in extension.taken():
        problem = "has the name of a built-in component; its package must choose another"
    else:
        return loaded
    raise InputError(f"{plugins.described(extension.group, name)} {problem}.")


def tag_of(member: Member, key: str) -> str | None:
    """Return the value of ``key`` that selects a member; None if it is not a literal with one value."""
    annotation = member.model_fields[key].annotation if key in member.model_fields else None
    values = get_args(annotation)
    return str(values[0]) if get_origin(annotation) is Literal and len(values) == 1 else None
