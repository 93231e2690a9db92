"""Importance of settings: what decides is named, branches and stopped trials count, few trials say nothing."""

from __future__ import annotations

import math
import random

from orchestrator.search.importance import FEWEST, MOST, RESAMPLES, Tried, importance


def trials(count: int, *, complete: bool = True) -> list[Tried]:
    """Trials whose value is the distance of the learning rate from 0.01, and half a unit for model b."""
    source = random.Random(1)
    found = []
    for number in range(count):
        params = {"model": source.choice(["a", "b"]), "lr": 10 ** source.uniform(-4, -1), "same": 3}
        if params["model"] == "a":
            params["depth"] = source.randint(1, 5)
        value = abs(math.log10(params["lr"]) + 2) + (0.5 if params["model"] == "b" else 0.0)
        stopped = not complete and number % 4 > 0
        epochs = [(epoch, value + 1 / epoch) for epoch in range(1, 2 if stopped else 5)]
        found.append(Tried(params, epochs, "pruned" if stopped else "completed"))
    return found


def test_the_setting_that_decides_comes_first_and_constants_are_absent() -> None:
    judged = importance(trials(200), "minimize")
    assert [each.path for each in judged.settings][:2] == ["lr", "model"]
    assert {each.path for each in judged.settings} == {"lr", "model", "depth"}
    assert math.isclose(sum(each.share for each in judged.settings), 1)
    assert all(each.low <= each.share <= each.high for each in judged.settings)
    assert judged.settings[0].share > judged.settings[1].high


def test_stopped_trials_count_by_their_predicted_ends() -> None:
    judged = importance(trials(200, complete=False), "minimize")
    assert (judged.trials, judged.predicted) == (200, 150)
    assert judged.settings[0].path == "lr"


def test_the_direction_says_which_trials_are_the_best() -> None:
    """A high x makes the lowest values, and a high y the highest."""
    source = random.Random(2)
    tried = []
    for _ in range(200):
        x, y = source.random(), source.random()
        value = source.random() / 10 + (1 if y > 0.75 else 0) - (1 if x > 0.75 else 0)
        tried.append(Tried({"x": x, "y": y}, [(1, value)], "completed"))
    assert importance(tried, "minimize").settings[0].path == "x"
    assert importance(tried, "maximize").settings[0].path == "y"


def test_a_setting_of_two_trials_may_be_absent_from_a_sample() -> None:
    rare = [Tried({"model": "c", "lr": 0.01, "rare": value}, [(1, value)], "completed") for value in (0.1, 0.2)]
    judged = importance([*trials(12), *rare], "minimize")
    assert "rare" in {each.path for each in judged.settings}
    assert all(0 <= each.low <= each.high <= 1 for each in judged.settings)


def test_few_trials_and_diverged_ones_say_nothing() -> None:
    assert importance(trials(FEWEST - 1), "minimize").settings == ()
    diverged = [Tried(trial.params, trial.epochs, "diverged") for trial in trials(50)]
    assert importance(diverged, "minimize").trials == 0
    assert importance([], "minimize").trials == 0


def test_many_trials_are_bounded_and_results_repeat() -> None:
    many = trials(3 * MOST)
    first = importance(many, "minimize")
    assert first.trials <= MOST
    assert first == importance(many, "minimize")
    assert RESAMPLES > 1
