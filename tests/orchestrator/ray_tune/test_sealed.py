"""For whom the test part is read, and with which weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agr_core.objective import Objective
from orchestrator.journal import read_state
from orchestrator.ray_tune.sealed import unread

KEEP = {label: Objective(metric=f"val/{label}_acc", direction="maximize") for label in ("age", "gender")}


def test_labels_that_keep_one_epoch_share_one_read(record_sweep: Callable[..., Any]) -> None:
    sweep = record_sweep(keep=KEEP)
    trial = sweep.trial(0, [9.0, 7.0, 8.0], kept_epochs={"age": 2, "gender": 3})
    assert unread(read_state(sweep.storage, sweep.sweep_id).trials[trial]) == {2: ["best", "age"], 3: ["gender"]}


def test_what_was_read_before_is_not_read_again(record_sweep: Callable[..., Any]) -> None:
    sweep = record_sweep(keep=KEEP)
    trial = sweep.trial(0, [9.0, 7.0, 8.0], kept_epochs={"age": 2, "gender": 3})
    sweep.read_test(trial, {"test/age_mae": 8.0})
    sweep.read_test(trial, {"test/age_mae": 8.5}, label="gender")
    assert unread(read_state(sweep.storage, sweep.sweep_id).trials[trial]) == {2: ["age"]}
