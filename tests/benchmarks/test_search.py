"""The replay of recorded learning curves, over a few seeds; the whole of it is ``search.py`` and docs/search.md."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from replay.ours import Ours
from replay.table import Curves, columns
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


@pytest.mark.parametrize("scheduler", ["asha", "hyperband"])
def test_a_sweep_stopped_and_resumed_again_and_again_proposes_the_same_as_one_left_alone(
    curves: Curves, scheduler: str
) -> None:
    sweep = sweep_of(f"scheduler.name={scheduler}")
    with Ours(sweep, workers=1) as alone, Disturbed(sweep, workers=1) as disturbed:
        disturbed.stops = {7: "agr stop", 41: "signal", 42: "kill", 66: "agr stop"}
        calm = simulate(alone, curves, workers=1, epochs=90)
        assert simulate(disturbed, curves, workers=1, epochs=90) == calm
        assert len(alone.configurations()) > 10
        assert disturbed.configurations() == alone.configurations()
        assert disturbed.run.counts == alone.run.counts
        assert disturbed.run.best == alone.run.best


def test_the_search_is_ahead_of_random_search_that_had_twice_its_epochs(curves: Curves) -> None:
    """Of the whole benchmark what takes seconds: a quarter of its epochs for us, half of them for random search."""

    def best(*overrides: str, epochs: int) -> float:
        found = []
        for seed in range(100, 106):
            with Ours(sweep_of(f"search.seed={seed}", *overrides), workers=4) as contender:
                found.append(simulate(contender, curves, workers=4, epochs=epochs)[-1])
        return median(found)

    assert best(epochs=135) < best("search.algorithm=random", "scheduler=none", epochs=270)


def test_every_point_of_the_recorded_grid_is_in_the_table(curves: Curves) -> None:
    """Trials of ``curves.yaml`` and of ``replay.yaml`` are told apart by the same columns."""
    space = load_sweep(HERE / "curves.yaml").space
    found = set()
    for point in space.points():
        where = columns(space.build(lambda name, _, point=point: point[name]).config.to_document())
        found.add(id(curves.at(where)))
        assert curves.at({**where, "lr": where["lr"] * 1.5}) is curves.at(where)
    assert len(found) == curves.count == 288
