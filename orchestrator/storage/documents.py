"""Read JSON documents of a storage, validated by their models; errors name the document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from agr_core.identity import digest
from orchestrator.errors import DamagedError
from orchestrator.storage.base import Storage

ModelT = TypeVar("ModelT", bound=BaseModel)

_SHA256 = "sha256"
"""Field of a document with the digest of all others."""


def parse_object(data: bytes, name: str) -> dict[str, Any]:
    """Parse ``data`` as a JSON object; ``name`` is its address, for the error.

    Raises:
        DamagedError: If ``data`` is not a JSON object, nests too deep, or holds NaN or an infinity.
    """
    try:
        document = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{name} is damaged: it is not JSON ({error}).") from error
    if not isinstance(document, dict):
        raise DamagedError(f"{name} is damaged: it is not a JSON object but a {type(document).__name__}.")
    return document


def read_object(storage: Storage, key: str) -> dict[str, Any]:
    """Return the JSON object stored under ``key``.

    Raises:
        NotFoundError: If there is no such object.
        DamagedError: As ``parse_object``.
    """
    return parse_object(storage.read(key), f"{storage.uri}/{key}")


def read_model(storage: Storage, key: str, model: type[ModelT]) -> ModelT:
    """Return the document stored under ``key``, validated by ``model``.

    Raises:
        NotFoundError: If there is no such object.
        DamagedError: If it is not JSON, or not a document of this kind.
    """
    name = f"{storage.uri}/{key}"
    data = storage.read(key)
    parse_object(data, name)
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise DamagedError(f"{name} is damaged: {first_problem(error)}.") from error


def with_digest(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document with one more field, ``sha256``: the digest of all its other fields."""
    return {**document, _SHA256: digest(dict(document))}


def without_digest(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the document without its digest, which is checked; ``name`` is its address.

    Documents of earlier versions have no digest.

    Raises:
        DamagedError: If the digest is not that of the other fields.
    """
    fields = {key: value for key, value in document.items() if key != _SHA256}
    if _SHA256 in document and document[_SHA256] != digest(fields):
        raise DamagedError(f"{name} is damaged: {_SHA256} does not match the other fields, so one of them was changed.")
    return fields


def first_problem(error: ValidationError) -> str:
    """Return the first problem as one line, with its path in the document."""
    first = error.errors()[0]
    path = ".".join(map(str, first["loc"]))
    return f"{path}: {first['msg']}" if path else str(first["msg"])


def _refuse_constant(text: str) -> float:
    raise ValueError(f"{text} is not a number in JSON")
