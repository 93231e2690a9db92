"""Fronts against a brute force and Optuna's own, crowding against figures worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import create_trial

from agr_core.objective import Direction
from orchestrator.stats.pareto import crowding, fronts, ordering

BOTH_LESS: tuple[Direction, ...] = ("minimize", "minimize")

# Few different values, so that ties and equal points are common.
points_of_three = st.lists(st.tuples(*[st.integers(0, 4).map(float)] * 3), max_size=25)
directions_of_three = st.tuples(*[st.sampled_from(["minimize", "maximize"])] * 3)


def worse_nowhere_better_somewhere(one: tuple[float, ...], other: tuple[float, ...], signs: list[int]) -> bool:
    pairs = [(sign * mine, sign * theirs) for mine, theirs, sign in zip(one, other, signs, strict=True)]
    return not any(mine > theirs for mine, theirs in pairs) and any(mine < theirs for mine, theirs in pairs)


def peeled(points: list[tuple[float, ...]], signs: list[int]) -> list[int]:
    """Take away whom nobody left dominates, and again, and again."""
    left, found, front = set(range(len(points))), [0] * len(points), 0
    while left:
        front += 1
        free = {
            index
            for index in left
            if not any(worse_nowhere_better_somewhere(points[other], points[index], signs) for other in left)
        }
        for index in free:
            found[index] = front
        left -= free
    return found


@given(points_of_three, directions_of_three)
def test_fronts_are_those_that_peeling_gives(
    points: list[tuple[float, ...]], directions: tuple[Direction, ...]
) -> None:
    signs = [1 if direction == "minimize" else -1 for direction in directions]
    assert fronts(points, directions) == peeled(points, signs)


@pytest.mark.parametrize("directions", [BOTH_LESS, ("minimize", "maximize"), ("maximize", "maximize")])
def test_the_first_front_is_what_optuna_calls_the_best_trials(directions: tuple[Direction, ...]) -> None:
    values = np.random.default_rng(3).normal(size=(200, 2)).round(1).tolist()
    study = optuna.create_study(directions=directions)
    study.add_trials([create_trial(values=each) for each in values])

    ours = [number for number, front in enumerate(fronts(values, directions)) if front == 1]

    assert ours == [trial.number for trial in study.best_trials]


def test_equal_points_are_in_one_front_and_the_first_objective_orders_it() -> None:
    points = [(2.0, 1.0), (1.0, 2.0), (2.0, 1.0), (2.0, 2.0)]
    assert fronts(points, BOTH_LESS) == [1, 1, 1, 2]
    assert sorted(points, key=lambda point: ordering(point, BOTH_LESS)) == [points[1], points[0], points[2], points[3]]
    assert sorted(points, key=lambda point: ordering(point, ("maximize", "minimize")))[-1] == points[1]


def test_with_one_objective_fronts_are_ranks() -> None:
    assert fronts([(3.0,), (1.0,), (2.0,), (1.0,)], ("minimize",)) == [3, 1, 2, 1]
    assert fronts([], BOTH_LESS) == []


def test_crowding_is_the_neighbours_distance_as_a_share_of_the_range() -> None:
    points = [(0.0, 10.0), (1.0, 6.0), (3.0, 5.0), (4.0, 0.0)]
    assert crowding(points) == [math.inf, 3 / 4 + 5 / 10, 3 / 4 + 6 / 10, math.inf]
    assert crowding([(1.0, 7.0), (2.0, 7.0), (4.0, 7.0)]) == [math.inf, 1.0, math.inf]
    assert crowding([(1.0, 1.0)]) == [0.0]
    assert crowding([]) == []
