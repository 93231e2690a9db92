from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML

from orchestrator.spec.schema import sweep_schema

SWEEPS = Path(__file__).parents[3] / "sweeps"
MINIMAL: dict[str, Any] = {"name": "x", "objective": {"metric": "val/age_mae", "direction": "minimize"}}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = sweep_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_schema_in_the_repository_is_current() -> None:
    assert json.loads((SWEEPS / "schema.json").read_text()) == sweep_schema(), "write it again with `agr schema`"


@pytest.mark.parametrize("file", sorted(SWEEPS.glob("**/*.yaml")), ids=lambda file: file.stem)
def test_every_sweep_of_the_repository_fits_the_schema(file: Path, validator: jsonschema.Draft202012Validator) -> None:
    validator.validate(YAML(typ="safe", pure=True).load(file))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"scheduler": "none"},
        {"scheduler": {"name": "asha", "grace_epochs": 2}},
        {"budget": {"wall": "1h30m"}},
        {"budget": {"wall": 90}},
        {"trial": {"optimizer": "adam", "model": "resnet18", "schedule": {"epochs": 3}}},
        {"trial": {"early_stopping": None}},
        {"variants": {"base": {}, "big": {"from": "base", "image": {"size": 96}}}},
        {"variants": {"big": {}, "small": {}}, "profiles": {"cpu": {"variants": {"big": None}}}},
        {"space": {"optimizer": {"lr": {"loguniform": [1e-4, 1e-2]}}}},
        {"space": {"optimizer": ["adam", {"name": "sgd", "momentum": [0.8, {"uniform": [0.9, 0.99], "step": 0.01}]}]}},
        {"space": {"age": {"encoding": ["onehot", "ordinal"], "bins": ["utk7", [0, 13, 20]]}}},
        {"space": {"age": {"encoding": "onehot", "bins": [0, 13, 20]}}},
        {"space": {"tasks": {"choice": [["age"], ["age", "race"]]}, "batch_size": {"randint": [16, 64], "step": 16}}},
        {"space": {"data": [{"fraction": 0.5}, {"split": {"seed": [1, 2]}}]}},
    ],
    ids=json.dumps,
)
def test_what_the_grammar_allows_fits_the_schema(
    more: dict[str, Any], validator: jsonschema.Draft202012Validator
) -> None:
    validator.validate({**MINIMAL, **more})


@pytest.mark.parametrize(
    "more",
    [
        {"serch": {}},
        {"name": 3},
        {"search": {"algorithm": "bayes"}},
        {"scheduler": "ahsa"},
        {"scheduler": {"name": "asha", "grace_epochs": 0}},
        {"trial": {"batchsize": 3}},
        {"trial": {"batch_size": [16, 32]}},
        {"trial": {"batch_size": {"randint": [16, 32]}}},
        {"trial": {"optimizer": {"name": "adam", "momentum": 0.9}}},
        {"trial": {"schedule": "cosin"}},
        {"variants": {"a": {"optimzer": "adam"}}},
        {"space": {"batch_size": {"randint": [16]}}},
        {"space": {"batch_size": {"randint": [16, 32], "stride": 4}}},
        {"space": {"optimizer": {"name": "adam", "lr": {"loguniform": [0, 0.1]}}}},
        {"space": {"optimizer": {"name": "adam", "lr": {"loguniform": [0.01, 0.1], "step": 0.01}}}},
        {"space": {"image": {"color": ["rgb", "gray"]}}},
    ],
    ids=json.dumps,
)
def test_what_the_grammar_refuses_is_marked(more: dict[str, Any], validator: jsonschema.Draft202012Validator) -> None:
    assert not validator.is_valid({**MINIMAL, **more})


def test_every_field_is_described() -> None:
    def properties(schema: Any, where: str) -> list[str]:
        if isinstance(schema, list):
            return [name for item in schema for name in properties(item, where)]
        if not isinstance(schema, dict):
            return []
        missing = [
            f"{where}.{name}"
            for name, value in schema.get("properties", {}).items()
            if name not in ("name", "encoding") and "description" not in value
        ]
        return missing + [name for key, item in schema.items() for name in properties(item, key)]

    assert properties(sweep_schema(), "") == []
