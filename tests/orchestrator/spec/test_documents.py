"""The examples in docs/sweeps.md are sweeps, and what it says of them is so."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from orchestrator.spec.load import load_sweep, sweep_from_document
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.source import parse_value

DOCUMENT = (Path(__file__).parents[3] / "docs/sweeps.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", DOCUMENT, flags=re.DOTALL)
REQUIRED: dict[str, Any] = {"name": "x", "objective": {"metric": "val/age_mae", "direction": "minimize"}}
RANDOM: dict[str, Any] = {"search": {"algorithm": "random", "trials": 2}}


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_of_the_document_are_right(example: str, tmp_path: Path) -> None:
    document = parse_value(example, file="docs/sweeps.md")
    if "extends" in document:
        _check_layers(example, document, tmp_path)
        return
    if "start" in document.get("search", {}):
        _check_start(document)
        return
    search = RANDOM if "space" in document else {}
    assert sweep_from_document(REQUIRED | search | document).warnings == ()


def _check_start(document: dict[str, Any]) -> None:
    *written, trial = document["search"]["start"]
    assert re.fullmatch(r"[0-9a-f]{8}", trial), "a trial stands for its configuration, which only a storage knows"
    varies = {"space": {"optimizer": [{"name": "nadam", "lr": {"loguniform": [1e-4, 1e-2]}}, "adam"]}}
    varies["variants"] = {"plain": {}, "light": {"augment": "light"}}
    search = {"search": document["search"] | {"start": written}}
    assert sweep_from_document(REQUIRED | varies | search).warnings == ()


def _check_layers(example: str, document: dict[str, Any], folder: Path) -> None:
    varies = {"space": {"batch_size": {"randint": [8, 64]}, "augment": ["none", "light"]}}
    trial = {"schedule": {"name": "constant", "epochs": 9}}
    (folder / "base.yaml").write_text(json.dumps(REQUIRED | RANDOM | varies | {"trial": trial}))
    (folder / "mine").mkdir()
    (folder / "mine/sweep.yaml").write_text(example)
    for profile in (None, *document["profiles"]):
        assert load_sweep(folder / "mine/sweep.yaml", profile=profile).warnings == ()


def test_the_names_of_domains_are_those_of_the_document() -> None:
    document = parse_value(next(example for example in EXAMPLES if "bare word" in example), file="docs/sweeps.md")
    names = {varied.name for varied in sweep_from_document(REQUIRED | RANDOM | document).space.domains()}
    assert {"optimizer[sgd].lr", "age[onehot|ordinal].bins"} <= names


def test_the_document_has_every_field_of_a_sweep() -> None:
    table = DOCUMENT.partition("## The fields")[2].partition("## Domains")[0]
    named = set(re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines() if "|" in line)))
    assert named == set(SweepSpec.model_fields)
