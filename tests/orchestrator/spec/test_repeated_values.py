"""A value written thousands of times, as by a program that writes sweep files, is refused within two seconds."""

from __future__ import annotations

import time
from typing import Any

import pytest

from orchestrator.errors import MOST_SHOWN, SpecError
from orchestrator.spec.load import sweep_from_document

LIMIT_S = 2.0
SEARCHED: dict[str, Any] = {"name": "repeated", "search": {"algorithm": "random", "trials": 3}}
MAE = {"metric": "val/age_mae", "direction": "minimize"}


def refused(document: dict[str, Any]) -> tuple[SpecError, float]:
    began = time.process_time()
    with pytest.raises(SpecError) as error:
        sweep_from_document(document)
    return error.value, time.process_time() - began


def test_a_choice_of_one_part_two_thousand_times_is_refused_at_once() -> None:
    part = [{"randint": [1, 4]}, {"randint": [2, 5]}, 3, 4, 5]
    space = {"model": [{"name": "basic_cnn", "conv_layers": part * 2000}]}
    sweep_from_document({**SEARCHED, "objective": MAE, "space": {"model": [{"name": "basic_cnn"}]}})  # imports all

    error, seconds = refused({**SEARCHED, "objective": MAE, "space": space})

    assert len(error.problems) == 5 * 2000 - 5
    assert error.problems[0].message.startswith("randint is listed twice in this choice (items 1 and ")
    assert seconds < LIMIT_S


def test_four_thousand_objectives_are_compared_by_their_formula_at_once() -> None:
    error, seconds = refused({**SEARCHED, "objective": [MAE] * 4000})

    assert sum("val/age_mae is already objective 1." in each.message for each in error.problems) == 3999
    assert seconds < LIMIT_S


def test_the_text_of_many_problems_ends_with_their_number() -> None:
    error, _ = refused({**SEARCHED, "objective": [MAE] * 200})

    lines = str(error).splitlines()
    assert len(lines) == MOST_SHOWN + 1
    assert lines[-1] == f"and {len(error.problems) - MOST_SHOWN} further problems; mend these first."
