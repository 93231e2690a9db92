"""Searches of several objectives: what they find, what breaks them not, and that a restored one goes on alike."""

from __future__ import annotations

import json
import math
import random
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import create_trial

sys.path.insert(0, str(Path(__file__).parent))
from orchestrator.journal.outcome import Outcome
from orchestrator.search.nsga2 import BranchedNsga2, population_for
from orchestrator.search.search import Search
from orchestrator.spec.load import Sweep
from tests.parts.sweeps import small_sweep

SPACE: dict[str, Any] = {
    "model": [{"name": "basic_cnn", "conv_layers": {"randint": [2, 4]}}, {"name": "resnet10t"}],
    "optimizer": [
        {"name": "nadam", "lr": {"loguniform": [1.0e-5, 1.0e-1]}, "weight_decay": {"uniform": [0, 0.9]}},
        {"name": "sgd", "lr": {"loguniform": [1.0e-4, 1.0]}, "momentum": {"uniform": [0.5, 0.99]}},
        {"name": "adam", "lr": {"loguniform": [1.0e-5, 1.0e-1]}},
    ],
}

Log = list[tuple[Any, ...]]


def branched_sweep() -> Sweep:
    return small_sweep(space=SPACE, scheduler="none", search={"algorithm": "random", "trials": 30, "seed": 1})


def make(sweep: Sweep, algorithm: str = "nsga2", seed: int = 7, limit: int = 100, **more: Any) -> Search:
    directions = ("minimize", "maximize")
    return Search(sweep.space, algorithm=algorithm, seed=seed, directions=directions, limit=limit, **more)


def trade_off(config: dict[str, Any]) -> tuple[float, float]:
    """An error to be small and a speed to be large; what serves the one harms the other."""
    optimizer, model = config["optimizer"], config["model"]
    best = {"nadam": -3.0, "sgd": -1.0, "adam": -2.5}[optimizer["name"]]
    off = math.log10(optimizer["lr"]) - best
    error = off**2 + {"nadam": 0.0, "sgd": 0.3, "adam": 0.5}[optimizer["name"]]
    error += 2 * (optimizer.get("weight_decay", 0.2) - 0.2) ** 2 + 10 * (optimizer.get("momentum", 0.9) - 0.9) ** 2
    layers = model["conv_layers"] if model["name"] == "basic_cnn" else 5
    return error + 1 - layers / 5, 2 - layers / 5 - 0.3 * abs(off - 0.7)


def hypervolume(points: Sequence[tuple[float, float]]) -> float:
    """Area of errors below 3 and speeds above 0 that is no better than some point."""
    area, fastest = 0.0, 0.0
    for error, speed in sorted(points):
        if error < 3.0 and speed > fastest:
            area += (3.0 - error) * (speed - fastest)
            fastest = speed
    return area


def found(algorithm: str, seed: int, trials: int) -> float:
    search = make(branched_sweep(), algorithm, seed, trials)
    points = []
    for number in range(trials):
        points.append(trade_off(search.propose(number).proposal.config.to_document()))
        search.finish(number, "completed", points[-1])
    return hypervolume(points)


def test_nsga2_finds_a_better_front_than_chance_on_every_branch() -> None:
    by_chance = [found("random", seed, 100) for seed in range(3)]
    bred = [found("nsga2", seed, 100) for seed in range(3)]
    assert statistics.median(bred) > max(by_chance)


def with_workers(search: Search, trials: int, workers: int, log: Log) -> list[dict[str, Any]]:
    """Proposals while so many trials run at once, which end in some order in many a way; ``log`` has what happened."""
    chance = random.Random(5)
    running: dict[int, dict[str, Any]] = {}
    proposed, number = [], 0
    while number < trials or running:
        if number < trials and len(running) < workers:
            suggestion = search.propose(number)
            proposed.append(suggestion.proposal.config.to_document())
            log.append(("proposed", number, json.loads(json.dumps(suggestion.record))))
            running[number] = proposed[-1]
            number += 1
            continue
        ended = chance.choice(sorted(running))
        outcome: Outcome = chance.choices(("completed", "failed", "diverged", "interrupted"), (7, 1, 1, 1))[0]
        values = trade_off(running.pop(ended)) if outcome in ("completed", "interrupted") else ()
        search.report(ended, 1, 1.0)
        search.finish(ended, outcome, values)
        log.append(("ended", ended, outcome, values))
    return proposed


def told_again(search: Search, log: Log) -> int:
    """Replay; returns how many had been proposed."""
    proposed = 0
    for what, number, *rest in log:
        if what == "proposed":
            search.restore(number, rest[0])
            proposed = number + 1
        else:
            search.report(number, 1, 1.0)
            search.finish(number, *rest)
    return proposed


@pytest.mark.parametrize(("algorithm", "workers"), [("random", 5), ("tpe", 5), ("nsga2", 1), ("nsga2", 5)])
def test_a_restored_search_of_several_objectives_proposes_the_same(algorithm: str, workers: int) -> None:
    sweep = branched_sweep()
    log: Log = []
    whole = with_workers(make(sweep, algorithm, population=6), 32, workers, log)
    assert len({json.dumps(config, sort_keys=True) for config in whole}) == 32

    for cut in (len(log) // 3, len(log) - 8):
        restored = make(sweep, algorithm, population=6)
        number = told_again(restored, log[:cut])
        for what, ended, *rest in log[cut:]:
            if what == "ended":
                restored.finish(ended, *rest)
                continue
            assert restored.propose(number).proposal.config.to_document() == whole[number]
            number += 1


def test_trials_that_all_fail_leave_nsga2_drawing() -> None:
    search = make(branched_sweep(), population=4)
    seen = set()
    for number in range(20):
        seen.add(json.dumps(search.propose(number).proposal.config.to_document(), sort_keys=True))
        search.finish(number, "failed" if number % 2 else "diverged", ())
    assert len(seen) == 20


def test_a_child_takes_a_branch_with_what_its_parent_has_there() -> None:
    """Children of two parents on two branches: each has the learning rate of its own optimizer's parent."""
    space = {"optimizer": [SPACE["optimizer"][0], SPACE["optimizer"][1]]}
    search = make(small_sweep(space=space, scheduler="none"), population=2)
    rates: dict[str, float] = {}
    # Only these two are of the first generation: nobody else has completed.
    number = 0
    while len(rates) < 2:
        optimizer = search.propose(number).proposal.config.to_document()["optimizer"]
        if optimizer["name"] not in rates:
            rates[optimizer["name"]] = optimizer["lr"]
            search.finish(number, "completed", (1.0, float(len(rates))))
        else:
            search.finish(number, "failed", ())
        number += 1
    children = [search.propose(number + each).proposal.config.to_document()["optimizer"] for each in range(40)]

    inherited = [child["lr"] == pytest.approx(rates[child["name"]]) for child in children]

    assert {child["name"] for child in children} == {"nadam", "sgd"}
    assert sum(inherited) > 8  # most are mutated, since a child that is its parent again is not taken


def test_what_is_known_is_not_bred_again_while_there_is_something_new() -> None:
    space = {"batch_size": [8, 16, 32, 64, 128], "sampler": ["shuffle", "balanced"], "augment": ["none", "light"]}
    space["sampler"] = ["shuffle", {"name": "weighted", "by": ["age", "race"]}]
    search = make(small_sweep(space=space, scheduler="none"), population=4)
    seen = []
    for number in range(24):
        config = search.propose(number).proposal.config.to_document()
        seen.append(json.dumps(config, sort_keys=True))
        search.finish(number, "completed", (config["batch_size"], number))
    by_chance = 30 * (1 - (29 / 30) ** 24)
    assert len(set(seen)) > by_chance


@pytest.mark.parametrize(
    ("distribution", "values"),
    [
        (FloatDistribution(0.5, 0.99), (0.5, 0.99)),
        (FloatDistribution(1e-5, 1e-1, log=True), (1e-5, 3e-2)),
        (FloatDistribution(0.0, 0.5, step=0.1), (0.1, 0.4)),
        (IntDistribution(2, 4), (2, 4)),
        (IntDistribution(2, 20, step=6), (2, 14)),
        (IntDistribution(8, 512, log=True), (8, 100)),
        (IntDistribution(3, 3), (3, 3)),
        (CategoricalDistribution(("a", None, 3)), ("a", 3)),
        (CategoricalDistribution(("only",)), ("only", "only")),
    ],
    ids=str,
)
def test_what_is_bred_and_mutated_is_of_the_domain_and_both_ends_are_reached(
    distribution: Any, values: tuple[Any, Any]
) -> None:
    sampler = BranchedNsga2(population=4, seed=1)
    study = optuna.create_study(directions=["minimize", "maximize"])
    parents = [
        create_trial(values=[1.0, number], params={"x": value}, distributions={"x": distribution})
        for number, value in enumerate(values)
    ]
    children = [sampler._bred(study, {"x": distribution}, parents)["x"] for _ in range(300)]

    assert all(distribution._contains(distribution.to_internal_repr(child)) for child in children)
    if not isinstance(distribution, FloatDistribution) or distribution.step:
        whole = {parents[0].params["x"], parents[1].params["x"]}
        assert whole <= set(children)


def test_a_generation_is_a_tenth_of_the_sweep_within_bounds() -> None:
    assert [population_for(trials) for trials in (20, 200, 1000, None)] == [10, 20, 50, 50]
