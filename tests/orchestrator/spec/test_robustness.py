"""Whatever stands in a sweep file, it loads or is refused in words."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import Problem, SpecError
from orchestrator.spec.load import load_sweep, sweep_from_document

SWEEPS = sorted((Path(__file__).parents[3] / "sweeps").glob("*.yaml"))
PIECES: tuple[Any, ...] = (
    *(None, True, -1, 0, 3, 2.5, 10**15, "", "adam", "none", "val/loss"),
    *([], [[]], [1, 1.0], ["adam", "adam"], [{"name": "sgd"}, {"name": ["sgd", "adam"]}]),
    *({}, {"name": None}, {"name": {"choice": ["sgd"]}}, {"from": "base"}, {"from": {}}, {"stages": []}),
    *({"data": [{"test": 1}, 3]}, {"optimizer": {"lr": {"uniform": [0.1, 0.2]}}}),
    *({"choice": []}, {"choice": [[1], [2]]}, [{"uniform": [0, 1]}, {"uniform": [0, 1]}]),
    *({"uniform": [1, 0]}, {"uniform": [0, 1], "step": 1e-9}, {"uniform": [-1e308, 1e308], "step": 1e-300}),
    *({"loguniform": [1e-300, 1e300]}, {"randint": [0, 10**18]}, {"lograndint": [1, 2], "step": None}),
)
"""Legal things in places where they are not, and things that are legal nowhere."""

EXTRA = ("extra", "name", "encoding", "step", "uniform", "from", "choice")


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([path] if path else []), *(place for key, item in items for place in places(item, (*path, key)))]


def problems(document: dict[str, Any]) -> tuple[Problem, ...]:
    try:
        sweep_from_document(document)
    except SpecError as error:
        return error.problems
    return ()


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_a_damaged_sweep_loads_or_is_refused_in_lines_of_words(file: Path) -> None:
    whole = load_sweep(file).document
    generator = random.Random(file.stem)
    for _ in range(50):
        document = copy.deepcopy(whole)
        for _ in range(generator.randint(1, 3)):
            *parents, last = generator.choice(places(document))
            at = document
            for part in parents:
                at = at[part]
            key = generator.choice([last, last, *EXTRA]) if isinstance(at, dict) else last
            at[key] = copy.deepcopy(generator.choice(PIECES))
        for problem in problems(document):
            assert problem.message
            assert "\n" not in problem.render("f")


@pytest.mark.parametrize("extra", [("name",), ("encoding",), ("name", "encoding")])
def test_a_name_where_nothing_has_one_is_an_unknown_field(extra: tuple[str, ...]) -> None:
    document = {**load_sweep(SWEEPS[0]).document, "trial": dict.fromkeys(extra, "adam")}
    assert [problem.path for problem in problems(document)] == sorted(f"trial.{name}" for name in extra)
