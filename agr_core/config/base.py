"""Base class and shared types of all configuration sections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Label = Literal["age", "gender", "race"]
"""A label with one class per image."""

Task = Literal["age", "gender", "race", "attributes"]
"""A task to predict: one of the labels, or the attributes, of which an image may have several."""

Probability = Annotated[float, Field(ge=0, le=1)]
DropoutRate = Annotated[float, Field(ge=0, lt=1)]


class StrictModel(BaseModel):
    """Base of all configuration models: unknown keys, silent coercion, NaN and mutation are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def bare_name(value: Any) -> Any:
    """Convert a bare word to the component of that name."""
    return {"name": value} if isinstance(value, str) else lists_as_tuples(value)


def lists_as_tuples(value: Any) -> Any:
    """Convert the lists in a mapping to tuples.

    Behind a validator function, input is validated as Python and not as JSON, and strict tuples refuse lists.
    """
    if isinstance(value, Mapping):
        return {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
    return value
