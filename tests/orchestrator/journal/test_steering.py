"""What commands have changed of a sweep, by its journal."""

from __future__ import annotations

from typing import Any

from orchestrator.journal.events import ControlReceived, DriverStarted, Event, TrialEnded
from orchestrator.journal.steering import Steering


def command(name: str, *, refused: str = "", **arguments: Any) -> ControlReceived:
    return ControlReceived(time=1.0, command=name, arguments=arguments, key=f"{name}-1", refused=refused)


def steering_of(*events: Event) -> Steering:
    steering = Steering()
    for event in events:
        steering.apply(event)
    return steering


def test_a_trial_is_to_be_killed_until_it_has_ended() -> None:
    """Else it would be killed once more if it is tried again."""
    kill = command("kill", trial_id="a")
    ended = TrialEnded(time=2.0, trial_id="a", outcome="interrupted", epochs=1)
    assert steering_of(kill).killed == {"a"}
    assert steering_of(kill, ended).killed == set()


def test_what_was_refused_changes_nothing() -> None:
    refused = [
        command("pause", refused="no"),
        command("extend", refused="no", trials=3, usd=1.0),
        command("set", refused="no", concurrency=1),
        command("kill", refused="no", trial_id="a"),
    ]
    assert steering_of(*refused) == Steering()


def test_extensions_are_added_up() -> None:
    steering = steering_of(command("extend", trials=3, usd=1.5), command("extend", usd=0.5, wall=60))
    assert (steering.added_trials, steering.added_budget) == (3, {"usd": 2.0, "wall": 60.0})


def test_a_new_driver_ends_a_pause() -> None:
    driver = DriverStarted(time=2.0, driver_id="d", host="here", pid=1, resumed=True)
    assert steering_of(command("pause")).paused
    assert not steering_of(command("pause"), command("resume")).paused
    assert not steering_of(command("pause"), driver).paused
