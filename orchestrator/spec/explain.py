"""Explain pydantic's errors: value, rule, way out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from agr_core.config import TrialConfig
from agr_core.registry import did_you_mean
from orchestrator.spec.paths import IDENTITIES, ConfigPath, locate, shape_at, tags_of
from orchestrator.spec.source import DocPath

DOMAIN_NAMES = ("choice", "uniform", "loguniform", "randint", "lograndint")

_TYPES = {
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list",
    "model_attributes_type": "a mapping",
    "model_type": "a mapping",
    "string_type": "text",
    "tuple_type": "a list",
}

_LIMITS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}

Details = Mapping[str, Any]
"""One error as pydantic reports it: ``type``, ``loc``, ``input``, ``msg``, ``ctx``."""

_SHOWN = 60
_ASSIGNMENT = re.compile(r"(?<![a-z_.])([a-z_]+(?:\.[a-z_]+)*)=")


@dataclass(frozen=True)
class Explained:
    """One error of a document.

    ``path``: its position; ``at_key``: the key itself is invalid; ``open``: a layer merged over the document may fix
    it; ``about``: paths of the fields of a rule between several fields.
    """

    path: DocPath
    message: str
    at_key: bool = False
    open: bool = False
    about: tuple[ConfigPath, ...] = ()


def explain(error: ValidationError, root: type[BaseModel]) -> tuple[Explained, ...]:
    """Return every error that ``root`` found in a document, explained."""
    by_path: dict[DocPath, list[Details]] = {}
    for details in error.errors(include_url=False):
        path, _ = locate(details["loc"], root)
        if details["type"] == "extra_forbidden":
            path = (*path, details["loc"][-1])
        elif details["type"].startswith("union_tag_"):
            path = (*path, details["ctx"]["discriminator"].strip("'"))
        by_path.setdefault(path, []).append(details)
    above = {path[:end] for path in by_path for end in range(len(path))}
    return tuple(
        _explain_all(path, several, root)
        for path, several in by_path.items()
        if not _follows_from_another(path, several, by_path, above)
    )


def given(value: Any) -> str:
    """Return a value in short form, for messages."""
    if isinstance(value, Mapping):
        return "a mapping"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else ("a list" if isinstance(value, list | tuple) else text[:_SHOWN] + "...")


def _follows_from_another(
    path: DocPath, several: list[Details], by_path: Mapping[DocPath, list[Details]], above: Set[DocPath]
) -> bool:
    """Return whether the errors at ``path`` vanish once another one is fixed.

    One invalid item of a list makes a field of text or list invalid in both ways; pydantic reports a list with invalid
    items as too short; and the fields of a component with an unknown name cannot be checked.
    ``above``: paths with an error below them.
    """
    types = {details["type"] for details in several}
    if types <= {*_TYPES, "too_short"}:
        return path in above
    if types == {"extra_forbidden"}:
        identities = [details for key in IDENTITIES for details in by_path.get((*path[:-1], key), ())]
        return any(details["type"] != "extra_forbidden" for details in identities)
    return False


def _explain_all(path: DocPath, several: list[Details], root: type[BaseModel]) -> Explained:
    details = several[0]
    if all(details["type"] in _TYPES for details in several):
        rule = " or ".join(dict.fromkeys(_TYPES[details["type"]] for details in several))
        return Explained(path, f"{given(details['input'])} given; it must be {rule}.{_type_hint(path, details, root)}")
    match details["type"]:
        case "extra_forbidden":
            return Explained(path, _unknown_field(details, root), at_key=True)
        case "missing":
            return Explained(path, _missing(details, root), open=True)
        case "union_tag_invalid":
            return Explained(path, _unknown_word(details["ctx"]["tag"], _words(details["ctx"]["expected_tags"])))
        case "union_tag_not_found":
            key = path[-1]
            models = shape_at(_names(path[:-1]), root).models
            tags = ", ".join(tag for model in models for tag in tags_of(model))
            return Explained(path, f"missing; `{key}` selects the alternative. Known: {tags}.", open=True)
        case "literal_error":
            return Explained(path, _unknown_word(details["input"], _words(details["ctx"]["expected"])))
        case "too_short" | "too_long":
            return Explained(path, _wrong_length(details))
        case "value_error":
            message = str(details["ctx"]["error"])
            if not isinstance(details["input"], Mapping):
                return Explained(path, message)
            about = tuple((*_names(path), *match.split(".")) for match in _ASSIGNMENT.findall(message))
            return Explained(path, message, open=True, about=about)
        case limit if limit in _LIMITS:
            key, words = _LIMITS[limit]
            return Explained(path, f"{given(details['input'])} given; it must be {words} {details['ctx'][key]:g}.")
        case _:
            return Explained(path, f"{given(details['input'])} given; {details['msg'][0].lower()}{details['msg'][1:]}.")


def _type_hint(path: DocPath, details: Details, root: type[BaseModel]) -> str:
    value, kind = details["input"], details["type"]
    if isinstance(value, Mapping) and any(name in value for name in DOMAIN_NAMES):
        return " Varied values belong under `space`."
    if isinstance(value, list | tuple) and kind in ("int_type", "float_type", "bool_type", "string_type"):
        return " A list is a choice only under `space`."
    if isinstance(value, str) and kind in ("int_type", "float_type") and re.fullmatch(r"[-+.\deE_]+", value):
        return " Write it without quotes."
    if isinstance(value, float) and kind == "int_type":
        return " Use randint or lograndint for whole numbers."
    if isinstance(value, str) and kind in ("dict_type", "model_type", "model_attributes_type"):
        models = shape_at(_names(path), root).models
        meant = [key for key in IDENTITIES for model in models if key in model.model_fields and value in tags_of(model)]
        return f" Write {{{meant[0]}: {value}}}." if meant else " Write its fields as `key: value`."
    return ""


def _unknown_field(details: Details, root: type[BaseModel]) -> str:
    *loc, key = details["loc"]
    path, models = locate(loc, root)
    fields = list(dict.fromkeys(name for model in models for name in model.model_fields))
    if TrialConfig in models:
        fields.append("stages")  # of the grammar alone, as in ``paths``
    elsewhere = [
        tag
        for model in shape_at(_names(path), root).models
        if model not in models and key in model.model_fields
        for tag in tags_of(model)
    ]
    if key in DOMAIN_NAMES:
        return f"a domain is not allowed here; write it under `space`, as {{{key}: [...]}} for the value of a field."
    whose = " or ".join(tag for model in models for tag in tags_of(model))
    hint = f" It is a field of {', '.join(elsewhere)}." if elsewhere else did_you_mean(str(key), fields)
    return f"unknown field{f' of {whose}' if whose else ''}.{hint} Known: {', '.join(fields)}."


def _missing(details: Details, root: type[BaseModel]) -> str:
    *loc, key = details["loc"]
    if isinstance(key, int):
        return f"{given(details['input'])} given; the list is too short, it needs an item {key + 1}."
    _, models = locate(loc, root)
    about = next((model.model_fields[key].description for model in models if key in model.model_fields), None)
    return f"missing; this field is required. {about or ''}".rstrip()


def _wrong_length(details: Details) -> str:
    context = details["ctx"]
    least, most = context.get("min_length"), context.get("max_length")
    rule = f"at least {least}" if details["type"] == "too_short" else f"at most {most}"
    return f"{given(details['input'])} given; it must have {rule} items."


def _unknown_word(value: Any, words: list[str]) -> str:
    hint = did_you_mean(value, words) if isinstance(value, str) else ""
    return f"{given(value)} is not known here.{hint} Known: {', '.join(words)}."


def _names(path: DocPath) -> ConfigPath:
    return tuple(str(part) for part in path)


def _words(text: str) -> list[str]:
    """Return the items of pydantic's ``"'a', 'b' or 'c'"``."""
    return [word.strip().strip("'") for word in re.split(r",| or ", text)]
