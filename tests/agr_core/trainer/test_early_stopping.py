from __future__ import annotations

from typing import Any

import pytest

from agr_core.config import EarlyStoppingConfig
from agr_core.trainer.early_stopping import StoppingState, after_epoch, should_stop


def _stopped_after(values: list[float], **settings: Any) -> int | None:
    config = EarlyStoppingConfig(**settings)
    state = StoppingState()
    for epoch, value in enumerate(values, start=1):
        state = after_epoch(config, state, value)
        if should_stop(config, state):
            return epoch
    return None


def test_training_stops_after_patience_epochs_without_improvement() -> None:
    assert _stopped_after([5.0, 4.0, 4.5, 4.2, 4.1], patience=3) == 5


def test_an_improvement_starts_the_patience_anew() -> None:
    assert _stopped_after([5.0, 5.1, 4.9, 5.1, 4.8, 5.0], patience=2) is None


def test_an_equal_value_is_no_improvement() -> None:
    assert _stopped_after([5.0, 5.0], patience=1) == 2


def test_a_gain_of_min_delta_is_not_enough() -> None:
    assert _stopped_after([5.0, 4.5], patience=1, min_delta=0.5) == 2
    assert _stopped_after([5.0, 4.4], patience=1, min_delta=0.5) is None


def test_small_gains_are_measured_from_the_best_that_counted() -> None:
    assert _stopped_after([5.0, 4.7, 4.4], patience=2, min_delta=0.5) is None


@pytest.mark.parametrize(("direction", "stopped"), [("minimize", 3), ("maximize", None)])
def test_direction_says_what_improves(direction: str, stopped: int | None) -> None:
    assert _stopped_after([1.0, 2.0, 3.0], patience=2, direction=direction) == stopped
