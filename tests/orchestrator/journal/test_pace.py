"""How long trials and epochs take, by the journal: what the time left is estimated from."""

from __future__ import annotations

import pytest

from orchestrator.journal.events import (
    AttemptStarted,
    DriverStarted,
    Event,
    TrialCreated,
    TrialEnded,
    TrialReported,
    TrialResumed,
)
from orchestrator.journal.outcome import Outcome
from orchestrator.journal.pace import RECENT_S, Pace
from orchestrator.stats.eta import Length


def created(trial_id: str, model: str = "basic_cnn") -> TrialCreated:
    return TrialCreated(
        time=0.0,
        trial_id=trial_id,
        number=0,
        configuration=0,
        params={},
        proposal={},
        config={"model": {"name": model}, "schedule": {"epochs": 9}},
        config_digest="0" * 64,
        data_uri="synthetic:0",
        data_digest="0" * 64,
        split_digest="1" * 64,
    )


def began(time: float, trial_id: str = "a") -> AttemptStarted:
    return AttemptStarted(time=time, trial_id=trial_id, attempt=0, node="10.0.0.1")


def epoch(time: float, number: int, trial_id: str = "a") -> TrialReported:
    return TrialReported(time=time, trial_id=trial_id, attempt=0, epoch=number, metrics={}, value=1.0, finished=False)


def ended(time: float, outcome: Outcome, trial_id: str = "a", *, resumable: bool = False) -> TrialEnded:
    return TrialEnded(time=time, trial_id=trial_id, outcome=outcome, epochs=2, resumable=resumable)


def pace_of(*events: Event) -> Pace:
    pace = Pace()
    for event in events:
        pace.apply(event)
    return pace


TWO_EPOCHS = (created("a"), began(10.0), epoch(14.0, 1), epoch(16.0, 2))


def test_an_epoch_takes_as_long_as_since_the_attempt_or_the_epoch_before() -> None:
    pace = pace_of(*TWO_EPOCHS)
    assert pace.epoch_s("basic_cnn") == 3.0
    assert pace.live["a"].seconds == 6.0


def test_a_model_without_an_epoch_is_taken_to_be_as_fast_as_the_others() -> None:
    assert pace_of(created("a"), began(10.0)).epoch_s("basic_cnn") is None
    slow = (created("b", "resnet10t"), began(10.0, "b"), epoch(19.0, 1, "b"))
    pace = pace_of(*TWO_EPOCHS, *slow)
    assert (pace.epoch_s("basic_cnn"), pace.epoch_s("resnet10t"), pace.epoch_s("vit")) == (3.0, 9.0, 5.0)


@pytest.mark.parametrize(
    ("outcome", "remembered"),
    [("completed", True), ("pruned", True), ("diverged", True), ("failed", False), ("interrupted", False)],
)
def test_the_length_of_a_trial_is_remembered_if_it_ended_by_itself(outcome: Outcome, remembered: bool) -> None:
    pace = pace_of(*TWO_EPOCHS, ended(17.0, outcome))
    assert list(pace.ended) == ([Length(2, 6.0)] if remembered else [])
    assert (pace.live, pace.set_aside) == ({}, [])


def test_the_time_in_which_a_trial_is_set_aside_is_none_of_its_own() -> None:
    aside = (*TWO_EPOCHS, ended(17.0, "interrupted", resumable=True))
    assert pace_of(*aside).set_aside == [Length(2, 6.0)]
    pace = pace_of(*aside, TrialResumed(time=90.0, trial_id="a"), epoch(100.0, 3))
    assert pace.set_aside == []
    assert pace.live["a"].seconds == 6.0, "no attempt says when it went on"
    pace = pace_of(*aside, TrialResumed(time=90.0, trial_id="a"), began(95.0), epoch(100.0, 3))
    assert (pace.live["a"].done, pace.live["a"].seconds) == (3, 11.0)


def test_the_time_between_two_drivers_is_none_of_a_trial() -> None:
    driver = DriverStarted(time=90.0, driver_id="d", host="here", pid=1, resumed=True)
    assert pace_of(*TWO_EPOCHS, driver, epoch(100.0, 3)).live["a"].seconds == 6.0
    assert pace_of(*TWO_EPOCHS, driver, began(95.0), epoch(100.0, 3)).live["a"].seconds == 11.0


def test_epochs_a_minute_are_those_of_the_last_minutes() -> None:
    assert pace_of(created("a")).epochs_per_minute(100.0) == 0.0
    pace = pace_of(created("a"), began(0.0), *(epoch(20.0 * number, number) for number in range(1, 31)))
    assert pace.epochs_per_minute(600.0) == 60 * 15 / (RECENT_S - 20.0), "15 epochs since 320 s"
    assert pace.epochs_per_minute(20.5) == 60.0, "the first epoch alone says little: at most one a second"
    assert pace.epochs_per_minute(601.0 + RECENT_S) == 0.0


def test_an_epoch_may_take_less_than_a_second() -> None:
    assert pace_of(created("a"), began(10.0), epoch(10.25, 1)).epoch_s("basic_cnn") == 0.25


def test_a_clock_that_is_set_back_takes_no_time_off_a_trial() -> None:
    assert pace_of(created("a"), began(10.0), epoch(9.0, 1)).live["a"].seconds == 0.0
