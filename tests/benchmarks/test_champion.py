"""The statistics of ``champion.py``; the comparison itself needs the real faces and the package's own environment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

sys.path.insert(0, str(Path(__file__).parent))
from champion import Answers, compare, is_better, within_chance

IMAGES = 400


def answers(rng: np.random.Generator, truth: tuple[Any, Any], *, years: float, wrong: float) -> Answers:
    """Answers whose ages are off by ``years`` on average, and whose genders are wrong with a probability."""
    age, gender = truth
    given = np.clip(age + rng.laplace(scale=years, size=len(age)), 0, 116)
    return Answers(age, given, gender, np.where(rng.random(len(age)) < wrong, 1 - gender, gender))


def truth(rng: np.random.Generator) -> tuple[Any, Any]:
    return rng.integers(1, 90, size=IMAGES).astype(float), rng.integers(0, 2, size=IMAGES)


def test_the_figures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    one = answers(rng, truth(rng), years=8, wrong=0.1)
    mae, accurate, f1 = one.figures(np.arange(IMAGES))
    edges = [3, 7, 15, 31, 41, 66]
    assert mae == pytest.approx(np.abs(one.age - one.age_given).mean())
    assert accurate == pytest.approx((one.gender == one.gender_given).mean())
    rounded = np.floor(one.age_given + 0.5)
    assert f1 == pytest.approx(f1_score(np.digitize(one.age, edges), np.digitize(rounded, edges), average="macro"))


def test_a_better_model_is_called_better_and_its_differences_leave_zero_out() -> None:
    rng = np.random.default_rng(2)
    true = truth(rng)
    ours = [answers(rng, true, years=3, wrong=0.03) for _ in range(3)]
    table = compare(ours, {"theirs": answers(rng, true, years=8, wrong=0.2)}, draws=60)
    difference = table["ours - theirs"]
    assert is_better(difference)
    assert (difference[0] < 0).all()
    assert (difference[1:] > 0).all()
    assert not is_better(-difference)
    assert not any(within_chance(each) for each in difference)


def test_one_figure_that_is_worse_is_not_better() -> None:
    rng = np.random.default_rng(3)
    true = truth(rng)
    table = compare(
        [answers(rng, true, years=3, wrong=0.3)], {"theirs": answers(rng, true, years=8, wrong=0.1)}, draws=20
    )
    assert not is_better(table["ours - theirs"])


def test_a_model_against_itself_differs_by_nothing_however_images_are_drawn() -> None:
    rng = np.random.default_rng(4)
    one = answers(rng, truth(rng), years=5, wrong=0.1)
    table = compare([one], {"itself": one}, draws=50)
    assert not table["ours - itself"].any()
    assert all(within_chance(each) for each in table["ours - itself"])
    assert not is_better(table["ours - itself"])


def test_intervals_cover_the_figure_of_the_whole_population() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(20):
        one = answers(rng, truth(rng), years=6, wrong=0.1)
        _, low, high = compare([one], {}, draws=60)["ours"][1]
        covered += low <= 0.9 <= high
    assert 16 <= covered <= 20
