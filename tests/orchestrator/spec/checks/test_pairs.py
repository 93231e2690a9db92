"""Every pair of values that can stand together is tried in a complete configuration before a sweep starts."""

from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import SpecError
from orchestrator.spec.checks.pairs import WIDEST_CHOICE, Coverage
from orchestrator.spec.domains import Domain
from orchestrator.spec.load import Sweep, load_sweep

SPACE = """\
name: pairs
trial: {data: {source: synthetic}, tasks: [age], image: {size: 48}}
space:
  batch_size: {lograndint: [8, 512]}
  image: {color: [rgb, grey]}
  augment: [none, light, agecnn]
  sampler: [shuffle, {name: weighted, by: age}]
  model:
    - {name: basic_cnn, conv_layers: {randint: [2, 4]}, kernel_size: [3, 5], activation: [relu, tanh]}
    - {name: [resnet10t, resnet18, mobilenetv3_small_050]}
  optimizer:
    - {name: nadam, lr: {loguniform: [1.0e-4, 1.0e-2]}}
    - {name: sgd, lr: {loguniform: [1.0e-3, 1.0e-1]}, momentum: {uniform: [0.8, 0.99]}}
  schedule:
    - {name: constant, epochs: EPOCHS}
    - {name: cosine, epochs: 8}
  averaging: [none, {name: swa, start_epoch: 5}]
search: {algorithm: random, trials: 100}
objective: {metric: val/age_mae, direction: minimize}
"""


def sweep_of(folder: Path, text: str) -> Sweep:
    file = folder / "sweep.yaml"
    file.write_text(text, encoding="utf-8")
    return load_sweep(file)


def ends(name: str, domain: Domain, generator: random.Random) -> Any:
    return generator.choice(domain.choices if domain.kind == "categorical" else (domain.low, domain.high))


def test_the_points_have_every_pair_that_chance_draws(tmp_path: Path) -> None:
    space = sweep_of(tmp_path, SPACE.replace("EPOCHS", "8")).space
    coverage = Coverage(space)
    points = list(coverage.points())
    generator = random.Random(0)
    drawn = [space.point(lambda name, domain: ends(name, domain, generator)) for _ in range(5000)]

    had = {frozenset(pair) for point in points for pair in combinations(point.items(), 2)}
    assert {frozenset(pair) for point in drawn for pair in combinations(point.items(), 2)} <= had
    assert coverage.uncovered == 0
    assert len(points) < 60


def test_a_pair_that_cannot_stand_together_is_refused_before_the_sweep_starts(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"averaging.start_epoch=5 is never reached in schedule.epochs=3"):
        sweep_of(tmp_path, SPACE.replace("EPOCHS", "3"))


def test_a_long_choice_is_reported_as_paired_in_part(tmp_path: Path) -> None:
    many = ", ".join(str(size) for size in range(1, 3 * WIDEST_CHOICE))
    text = SPACE.replace("EPOCHS", "8").replace("{lograndint: [8, 512]}", f"[{many}]")
    warnings = sweep_of(tmp_path, text).warnings
    assert [warning for warning in warnings if warning.startswith("batch_size has too many values")]
