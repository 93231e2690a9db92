"""Fifty schedules of faults break no rule; a seed gives the same schedule again; planted bugs are found."""

from __future__ import annotations

import pytest

from orchestrator.journal.segments import read_events
from orchestrator.simulation.__main__ import run_seed, run_seeds
from orchestrator.simulation.bugs import PLANTED
from orchestrator.simulation.schedule import run_schedule


@pytest.mark.slow
def test_fifty_schedules_break_no_rule() -> None:
    found, tried = run_seeds(range(50), processes=1)
    assert found == {}
    assert sum(tried.values()) > 300, "faults and commands"


def test_a_seed_gives_the_same_schedule_again() -> None:
    first, second = run_schedule("27"), run_schedule("27")
    assert first.world.happened == second.world.happened
    assert len(first.world.happened) > 20
    journals = [
        [event for event in read_events(each.storage, each.started.sweep_id)[0] if event.kind != "driver_started"]
        for each in (first, second)
    ]
    assert journals[0] == journals[1]


BROKEN_ONCE = {
    343: "the simulated driver compared trials by their number, and not by their configuration",
    416: "the driver was killed between two reports of a resumed checkpoint, and lacked the weights of the first",
    874: "the tracker made a run half a minute after its creation had been given up",
    1417: "a worker removed the weights that a later attempt was copying",
}


@pytest.mark.parametrize("seed", BROKEN_ONCE)
def test_a_schedule_that_once_broke_a_rule_breaks_none(seed: int) -> None:
    assert run_seed(seed)[1] == []


def seeds_until_found(bug: str) -> int | None:
    with PLANTED[bug]():
        return next((seed for seed in range(200) if run_seed(seed)[1]), None)


@pytest.mark.slow
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found_within_200_seeds(bug: str) -> None:
    assert seeds_until_found(bug) is not None
