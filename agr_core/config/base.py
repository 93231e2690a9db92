"""What every part of a configuration is built from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Label = Literal["age", "gender", "race"]
"""What an image has one of."""

Task = Literal["age", "gender", "race", "attributes"]
"""What can be predicted: the labels, and the attributes an image may have any number of."""

Probability = Annotated[float, Field(ge=0, le=1)]
DropoutRate = Annotated[float, Field(ge=0, lt=1)]


class StrictModel(BaseModel):
    """Base of every config: unknown keys, silent coercion, NaN and later mutation are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def bare_name(value: Any) -> Any:
    """A word stands for the component of that name."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, Mapping):
        # What a before-validator returns is validated as Python, no longer as JSON, and strict tuples refuse lists.
        return {key: tuple(item) if isinstance(item, list) else item for key, item in value.items()}
    return value
