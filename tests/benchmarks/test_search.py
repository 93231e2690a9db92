"""The replay of recorded learning curves, over a few seeds; the whole of it is ``search.py`` and docs/search.md."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from replay.figures import Summary, verdict
from replay.ours import Ours
from replay.table import NAMES, Curve, Curves, columns
from replay.workers import simulate

from orchestrator.spec.load import load_sweep

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def curves() -> Curves:
    return Curves()


def sweep_of(*overrides: str) -> Any:
    return load_sweep(HERE / "replay.yaml", overrides=overrides)


class Disturbed(Ours):
    """Stopped after some epochs, each time in its way, and each time resumed from its journal alone."""

    stops: Mapping[int, str] = {}
    told = 0

    def tell(self, trial: str, epoch: int, value: float, *, last: bool) -> bool:
        goes_on = super().tell(trial, epoch, value, last=last)
        self.told += 1
        if self.told in self.stops:
            self.resume(after=self.stops[self.told])
            assert (trial in self.run.live) == goes_on
        return goes_on


@pytest.mark.parametrize(("algorithm", "scheduler"), [("tpe", "asha"), ("tpe", "hyperband"), ("branched_gp", "asha")])
def test_a_sweep_stopped_and_resumed_again_and_again_proposes_the_same_as_one_left_alone(
    curves: Curves, algorithm: str, scheduler: str
) -> None:
    sweep = sweep_of(f"search.algorithm={algorithm}", "search.trials=200", f"scheduler.name={scheduler}")
    with Ours(sweep, workers=1) as alone, Disturbed(sweep, workers=1) as disturbed:
        disturbed.stops = {7: "agr stop", 101: "signal", 102: "kill", 150: "agr stop"}
        calm = simulate(alone, curves, workers=1, epochs=180)
        assert simulate(disturbed, curves, workers=1, epochs=180) == calm
        assert len(alone.configurations()) > 10
        assert disturbed.configurations() == alone.configurations()
        assert disturbed.run.counts == alone.run.counts
        assert disturbed.run.best == alone.run.best


def test_the_search_is_ahead_of_random_search_without_stopping_at_a_quarter_of_the_epochs(curves: Curves) -> None:
    """Of the whole benchmark what takes seconds: its 60 seeds have 8.901 years against 9.205 there."""

    def best(*overrides: str) -> float:
        found = []
        for seed in range(100, 112):
            with Ours(sweep_of(f"search.seed={seed}", *overrides), workers=4) as contender:
                found.append(simulate(contender, curves, workers=4, epochs=270)[-1])
        return median(found)

    assert best() < best("search.algorithm=random", "scheduler=none")


def test_every_point_of_the_recorded_grid_is_in_the_table(curves: Curves) -> None:
    """Trials of ``curves.yaml`` and of ``replay.yaml`` are told apart by the same columns."""
    space = load_sweep(HERE / "curves.yaml").space
    found = set()
    for point in space.points():
        where = columns(space.build(lambda name, _, point=point: point[name]).config.to_document())
        found.add(id(curves.at(where)))
    assert len(found) == curves.count == 288


def test_between_two_recorded_learning_rates_a_curve_lies_between_theirs(curves: Curves) -> None:
    def at(lr: float, age: str = "onehot") -> Curve:
        where = {"model": "basic_cnn", "conv_layers": "2", "optimizer": "adamw", "sampler": "shuffle", "age": age}
        return curves.at({**where, "lr": lr})

    low, high, halfway = at(1.0e-3), at(3.16e-3), at((1.0e-3 * 3.16e-3) ** 0.5)
    assert halfway.values == pytest.approx([(a + b) / 2 for a, b in zip(low.values, high.values, strict=True)])
    nearer_low = at(1.2e-3)
    assert abs(nearer_low.values[-1] - low.values[-1]) < abs(nearer_low.values[-1] - high.values[-1])
    assert at(0.056) is at(3.16e-2)  # beyond the outermost


def test_beside_a_curve_that_diverged_the_nearer_one_counts() -> None:
    grid = Curves(HERE / "curves.csv")
    diverged = [key for key, rates in grid._of.items() if any(curve.diverged for curve in rates.values())]
    for key in diverged:
        rates = grid._of[key]
        worst = min(rate for rate, curve in rates.items() if curve.diverged)
        sound = max((rate for rate in rates if rate < worst), default=None)
        if sound is not None:
            where = dict(zip(NAMES, key, strict=True))
            assert grid.at({**where, "lr": sound * 1.2}) is rates[sound]
            assert grid.at({**where, "lr": worst / 1.2}) is rates[worst]
    assert diverged


def test_the_verdict_names_whoever_is_ahead_beyond_chance_and_nobody_else() -> None:
    """Ten seeds each."""

    def reaching(*epochs: int) -> list[list[float]]:
        return [[1.0 if epoch >= at else 2.0 for epoch in range(1, 51)] for at in epochs]

    traces = {
        "ours": reaching(19, 20, 21, 22, 23, 24, 25, 26, 27, 28),
        "as good": reaching(17, 21, 20, 22, 24, 23, 25, 27, 26, 28),
        "ahead": reaching(4, 5, 6, 7, 8, 4, 5, 6, 7, 8),
        "random": [[2.0] * 99 + [1.0]] * 10,
    }
    summary = Summary.of(traces, goal=1.0, epochs=100)
    assert summary.ahead("ours", "ahead")[0] == pytest.approx(6.0 - 23.5)
    (missed,) = verdict(summary, "ours", share=0.25, random="random")
    assert "behind ahead: by 18 ± 2 epochs" in missed
    del traces["ahead"]
    assert verdict(Summary.of(traces, goal=1.0, epochs=100), "ours", share=0.25, random="random") == []
    (missed,) = verdict(Summary.of(traces, goal=1.0, epochs=100), "ours", share=0.2, random="random")
    assert "more than 20 epochs" in missed
