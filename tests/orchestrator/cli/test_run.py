"""``agr stop`` and ``agr kill``: what is asked of a driver, and what is refused since nobody would hear it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from orchestrator import control

Recorder = Callable[..., Any]


def commands(sweep: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(each.name, dict(each.arguments)) for each in control.pending(sweep.storage, sweep.sweep_id, obeyed=set())]


def test_stop_and_kill_leave_a_command_for_the_driver(record_sweep: Recorder, agr: Callable[..., Result]) -> None:
    sweep = record_sweep()
    trial = sweep.create(0)
    sweep.start(trial)

    agr("kill", trial)
    agr("stop", "faces")

    assert commands(sweep) == [("kill", {"trial_id": trial}), ("stop", {})]


@pytest.mark.parametrize("status", ["completed", "stopped", "failed", "interrupted"])
def test_a_sweep_without_a_driver_is_not_stopped(
    record_sweep: Recorder, agr: Callable[..., Result], status: str
) -> None:
    sweep = record_sweep()
    sweep.trial(0, [9.0])
    sweep.end(status)

    said = agr("stop", "faces", code=2).stderr

    assert f"is {status}: no driver runs it" in said
    assert commands(sweep) == []


@pytest.mark.parametrize("outcome", ["completed", "pruned"])
def test_a_trial_that_has_ended_is_not_killed(record_sweep: Recorder, agr: Callable[..., Result], outcome: str) -> None:
    sweep = record_sweep()
    trial = sweep.trial(0, [9.0], outcome)

    said = agr("kill", trial, code=2).stderr

    assert f"is {outcome}: there is nothing to end" in said
    assert commands(sweep) == []
