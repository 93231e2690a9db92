"""What docs/sweeps.md says of its examples is so; tests/docs checks that they are valid."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from orchestrator.spec.load import sweep_from_document
from orchestrator.spec.model import SweepSpec
from orchestrator.spec.source import parse_value

DOCUMENT = (Path(__file__).parents[3] / "docs/sweeps.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", DOCUMENT, flags=re.DOTALL)
REQUIRED: dict[str, Any] = {"name": "x", "objective": {"metric": "val/age_mae", "direction": "minimize"}}
RANDOM: dict[str, Any] = {"search": {"algorithm": "random", "trials": 2}}


def test_the_names_of_domains_are_those_of_the_document() -> None:
    document = parse_value(next(example for example in EXAMPLES if "bare word" in example), file="docs/sweeps.md")
    names = {varied.name for varied in sweep_from_document(REQUIRED | RANDOM | document).space.domains()}
    assert {"optimizer[sgd].lr", "age[onehot|ordinal].bins"} <= names


def test_the_document_has_every_field_of_a_sweep() -> None:
    table = DOCUMENT.partition("## The fields")[2].partition("## Domains")[0]
    named = set(re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines() if "|" in line)))
    assert named == set(SweepSpec.model_fields)
