"""Tune's halving as it is told of trials by a journal."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from agr_core.objective import Objective
from orchestrator.ray_tune.adapters import PolledHalving
from orchestrator.spec.model import HyperbandSpec
from orchestrator.sweep_run import SweepRun

HYPERBAND = HyperbandSpec(name="hyperband", grace_epochs=1, reduction_factor=2)
RUN: Any = SimpleNamespace(objective=Objective(metric="val/loss", direction="minimize"))


def halving(brackets: dict[int, int]) -> PolledHalving:
    return PolledHalving(cast(SweepRun, RUN), HYPERBAND, max_epochs=4, bracket_of=brackets.__getitem__)


def test_a_trial_is_compared_within_its_bracket_only() -> None:
    scheduler = halving({0: 0, 1: 1, 2: 0})
    for number in (0, 1, 2):
        scheduler.added(f"t{number}", number)
    assert not scheduler.reported("t0", 1, 0.1)
    assert not scheduler.reported("t1", 1, 0.9), "bracket 1 has its first rung at 2"
    assert scheduler.reported("t2", 1, 0.9), "worse than t0 of the same bracket"
    assert not scheduler.reported("t1", 2, 0.9), "the first of its bracket at its first rung"


def test_the_last_bracket_stops_nothing() -> None:
    scheduler = halving({0: 2, 1: 2})
    for number in (0, 1):
        scheduler.added(f"t{number}", number)
    for epoch in (1, 2, 3):
        assert not scheduler.reported("t0", epoch, 0.1)
        assert not scheduler.reported("t1", epoch, 0.9)


def test_a_trial_of_no_bracket_is_never_stopped_and_nobody_is_held_against_it() -> None:
    brackets: dict[int, Any] = {0: 0, 1: None, 2: 0}
    scheduler = halving(brackets)
    for number in (0, 1, 2):
        scheduler.added(f"t{number}", number)
    assert not scheduler.reported("t0", 1, 0.5)
    assert not scheduler.reported("t1", 1, 0.1), "a confirmation"
    assert not scheduler.reported("t1", 2, 99.0)
    scheduler.ended("t1", 3, 99.0)
    assert not scheduler.reported("t2", 1, 0.4), "better than t0; t1 does not count"
