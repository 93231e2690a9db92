"""Domains as other tools write them: the message holds the line to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import SpecError
from orchestrator.spec.load import load_sweep

SWEEP = """\
name: other-tools
trial: {{data: {{source: synthetic}}, tasks: [age]}}
space:
  optimizer: {{name: sgd, lr: {lr}}}
search: {{algorithm: random, trials: 2}}
objective: {{metric: val/age_mae, direction: minimize}}
"""


def problem_of(folder: Path, lr: str) -> str:
    file = folder / "sweep.yaml"
    file.write_text(SWEEP.format(lr=lr), encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load_sweep(file)
    (problem,) = caught.value.problems
    assert (problem.line, problem.path) == (4, "space.optimizer.lr")
    return problem.message


@pytest.mark.parametrize(
    ("given", "instead"),
    [
        ("{min: 1.0e-4, max: 1.0e-2}", "{uniform: [0.0001, 0.01]}"),
        ("{distribution: log_uniform_values, min: 1.0e-4, max: 1.0e-2}", "{loguniform: [0.0001, 0.01]}"),
        ("{distribution: int_uniform, min: 1, max: 8}", "{randint: [1, 8]}"),
        ("{distribution: q_uniform, min: 0.0, max: 1.0, q: 0.25}", "{uniform: [0.0, 1.0], step: 0.25}"),
        ("{distribution: normal, mu: 0, sigma: 1}", "{uniform: [lowest, highest]}"),
        ("{values: [0.1, 0.01]}", "[0.1, 0.01]"),
        ("{value: 0.1}", "0.1"),
        ("{_type: choice, _value: [0.1, 0.01]}", "[0.1, 0.01]"),
        ("{_type: loguniform, _value: [0.001, 0.1]}", "{loguniform: [0.001, 0.1]}"),
        ("{_type: quniform, _value: [0.0, 1.0, 0.5]}", "{uniform: [0.0, 1.0], step: 0.5}"),
        ("{_type: randint, _value: [1, 9]}", "{randint: [1, 8]}"),  # NNI leaves the upper end out
        ("{_type: {a: b}, _value: [1, 9]}", "{uniform: [lowest, highest]}"),
        ("{grid_search: [0.1, 0.01]}", "[0.1, 0.01]"),
        ("{low: 1.0e-4, high: 1.0e-2, log: true}", "{loguniform: [0.0001, 0.01]}"),
    ],
)
def test_the_line_to_write_is_named(tmp_path: Path, given: str, instead: str) -> None:
    assert problem_of(tmp_path, given) == f"this is another tool's notation of a domain; write {instead}."


@pytest.mark.parametrize("instead", ["{uniform: [0.0001, 0.01]}", "{loguniform: [0.001, 0.1]}", "[0.1, 0.01]", "0.1"])
def test_what_is_written_instead_is_a_sweep(tmp_path: Path, instead: str) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP.format(lr=instead), encoding="utf-8")
    assert load_sweep(file).spec.name == "other-tools"


def test_fields_of_the_configuration_are_no_dialect(tmp_path: Path) -> None:
    """``scheduler`` and other parts may have fields that another tool uses as words."""
    assert "another tool" not in problem_of(tmp_path, "{mean: 0.1}")


def test_a_number_in_quotes_is_named(tmp_path: Path) -> None:
    file = tmp_path / "sweep.yaml"
    file.write_text(SWEEP.format(lr='{loguniform: ["1e-4", 1.0e-2]}'), encoding="utf-8")
    with pytest.raises(SpecError, match=r"loguniform takes numbers\. Write it without quotes\."):
        load_sweep(file)
