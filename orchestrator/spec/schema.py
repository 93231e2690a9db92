"""The JSON Schema of a sweep file, for editors: completion, descriptions, inline errors.

It is derived from SweepSpec and TrialConfig, and more permissive than ``agr validate``: it covers neither the merging
of ``space`` nor rules between fields.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from agr_core import plugins
from agr_core.config import OWN_MODELS, TrialConfig
from orchestrator.spec.model import SweepSpec

Schema = dict[str, Any]

_REF = "#/$defs/"
_SPACE = "Space"

_NUMBERS: Schema = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
_WHOLE: Schema = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2}
_NULL: Schema = {"type": "null"}
_STAGES: Schema = {
    "description": "Successive trainings, each a change of the trial; the last is the trial itself.",
    "anyOf": [{"type": "array", "items": {"$ref": _REF + "Stage"}}, _NULL],
}
_VARIED: Schema = {"description": _STAGES["description"], "anyOf": [*_STAGES["anyOf"], {"$ref": _REF + "Domain"}]}
_ABOVE_ZERO: Schema = {"exclusiveMinimum": 0}


def sweep_schema() -> Schema:
    """Return the JSON Schema (draft 2020-12) of a sweep file."""
    sweep = _loosened(SweepSpec, "")
    trial = _loosened(TrialConfig, "")
    space = _loosened(TrialConfig, _SPACE)
    variant = _copied_with_from(trial["TrialConfig"])
    stage = _stage(trial["TrialConfig"])
    for partial, lists in (
        (trial["TrialConfig"], _STAGES),
        (variant, _STAGES),
        (space[f"{_SPACE}TrialConfig"], _VARIED),
    ):
        partial["properties"] = {**partial["properties"], "stages": lists}
    root = sweep.pop("SweepSpec")
    for name, definition in (("trial", "TrialConfig"), ("space", f"{_SPACE}TrialConfig")):
        root["properties"][name]["anyOf"][0] = {"$ref": _REF + definition}
    variants, profiles = (root["properties"][name]["anyOf"][0] for name in ("variants", "profiles"))
    variants["additionalProperties"] = {"anyOf": [{"$ref": _REF + "Variant"}, _NULL]}  # null removes it
    profiles["additionalProperties"] = {"$ref": _REF + "Profile"}
    profile = _profile(root)
    required = [name for name, field in SweepSpec.model_fields.items() if field.is_required()]
    root["anyOf"] = [{"required": required}, {"required": ["extends"]}]  # the base may have the required fields
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A sweep file of agr",
        **root,
        "$defs": dict(
            sorted(
                {
                    **sweep,
                    **trial,
                    **space,
                    "Variant": variant,
                    "Stage": stage,
                    "Profile": profile,
                    "Domain": _domain(),
                }.items()
            )
        ),
    }


def _profile(root: Schema) -> Schema:
    """Return the schema of a profile: everything a file may hold, except further layers."""
    properties = {name: value for name, value in root["properties"].items() if name not in ("extends", "profiles")}
    return {
        "type": "object",
        "title": "Profile",
        "description": "Changes under --profile LABEL.",
        "properties": properties,
        "additionalProperties": False,
    }


def _domain() -> Schema:
    def alternative(name: str, value: Schema, description: str, step: Schema | None = None) -> Schema:
        properties = {name: {**value, "description": description}}
        if step is not None:
            properties["step"] = {**step, "description": "Distance between neighbouring values; it divides the range."}
        return {"type": "object", "properties": properties, "required": [name], "additionalProperties": False}

    log_numbers = {**_NUMBERS, "items": {"type": "number", **_ABOVE_ZERO}}
    log_whole = {**_WHOLE, "items": {"type": "integer", **_ABOVE_ZERO}}
    return {
        "description": "Allowed values of a field; ranges include both ends.",
        "oneOf": [
            alternative("choice", {"type": "array", "minItems": 1}, "One of the listed values."),
            alternative("uniform", _NUMBERS, "[lowest, highest].", {"type": "number", **_ABOVE_ZERO}),
            alternative("loguniform", log_numbers, "[lowest, highest], on a logarithmic scale."),
            alternative("randint", _WHOLE, "[lowest, highest], whole numbers.", {"type": "integer", **_ABOVE_ZERO}),
            alternative("lograndint", log_whole, "[lowest, highest], whole numbers on a logarithmic scale."),
        ],
    }


def _loosened(model: type[BaseModel], prefix: str) -> dict[str, Schema]:
    """Return the definitions of ``model`` and its parts, by ``prefix`` and name.

    The parts are merged over others: bare words abbreviate components, nothing is required, and null removes a field.
    With a prefix, every field also takes a domain.
    """
    document = model.model_json_schema()
    definitions: dict[str, Schema] = document.pop("$defs", {})
    definitions.setdefault(model.__name__, document)  # it is there already where it refers to itself
    return {
        prefix + name: _loosened_object(definition, definitions, prefix) for name, definition in definitions.items()
    }


def _loosened_object(definition: Schema, definitions: dict[str, Schema], prefix: str) -> Schema:
    loose = {key: value for key, value in definition.items() if key != "required"}
    loose["properties"] = {
        name: _loosened_property(value, definitions, prefix) for name, value in definition["properties"].items()
    }
    return loose


def _loosened_property(schema: Schema, definitions: dict[str, Schema], prefix: str) -> Schema:
    about: Schema = {key: schema[key] for key in ("title", "description", "default") if key in schema}
    if "$ref" in schema:  # pydantic leaves out a description that is the part's own
        about.setdefault("description", definitions[schema["$ref"].removeprefix(_REF)]["description"])
    value = _renamed({key: item for key, item in schema.items() if key not in about}, prefix)
    bare = _bare_words(schema, definitions)
    if bare is not None:
        value = {"anyOf": [bare, *_members(value)]}
    if prefix:
        # A choice of names (or encodings) goes beyond the alternative that this field's own value stands for.
        item = {"type": "string"} if "const" in value else {"anyOf": [value, {"$ref": _REF + "Domain"}]}
        choice = {"type": "array", "items": item, "minItems": 1}
        value = {"anyOf": [value, {"$ref": _REF + "Domain"}, choice]}
    return {**about, "anyOf": [*_members(value), *([] if _NULL in _members(value) else [_NULL])]}


def _members(schema: Schema) -> list[Schema]:
    return list(schema.get("anyOf", [schema]))


def _renamed(value: Any, prefix: str) -> Any:
    """Return ``value`` with references to the prefixed definitions, and with overlapping alternatives allowed.

    A part without its name fits several alternatives, so ``oneOf`` would refuse it.
    """
    if isinstance(value, list):
        return [_renamed(item, prefix) for item in value]
    if not isinstance(value, dict):
        return value
    renamed = {}
    for key, item in value.items():
        if key == "$ref":
            renamed[key] = _REF + prefix + item.removeprefix(_REF)
        elif key == "oneOf":
            renamed["anyOf"] = _renamed(item, prefix)
        elif key != "discriminator":
            renamed[key] = _renamed(item, prefix)
    return renamed


def _bare_words(schema: Schema, definitions: dict[str, Schema]) -> Schema | None:
    """Return the words that abbreviate the component ``schema``; None if it is none."""
    names = [definitions[reference]["properties"].get("name") for reference in _references(schema)]
    if not names or None in names:
        return None
    words = [word for name in names if name for word in ([name["const"]] if "const" in name else name.get("enum", []))]
    if all(name and ("const" in name or "enum" in name) for name in names):
        return {"enum": words}
    return {
        "type": "string",
        "examples": [*OWN_MODELS, *plugins.names(plugins.BACKBONES), "resnet18", "efficientnetv2_s"],
    }


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].removeprefix(_REF)
        for key, item in value.items():
            if key != "discriminator":
                yield from _references(item)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item)


def _stage(trial: Schema) -> Schema:
    """Return the schema of a stage: a partial trial with a name and a starting point."""
    own = {
        "id": {"type": "string", "description": "ID of the stage."},
        "init": {
            "anyOf": [{"type": "string"}, _NULL],
            "description": "ID of the stage whose best weights this one starts from; default: the one before it.",
        },
        "objective": {
            "$ref": _REF + "StageObjective",
            "description": "Objective that selects its best epoch; default: val/loss.",
        },
    }
    return {**trial, "title": "Stage", "properties": {**trial["properties"], **own}, "required": ["id"]}


def _copied_with_from(trial: Schema) -> Schema:
    base = {"type": "string", "description": "Label of the variant this one builds on; default: the trial."}
    return {**trial, "title": "Variant", "properties": {"from": base, **trial["properties"]}}
