"""For whom the test part is read, and with which weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agr_core.objective import Objective
from orchestrator.journal.events import TestOpened
from orchestrator.journal.segments import read_state
from orchestrator.results.ablation_table import make_table
from orchestrator.sweep.sealed import unread

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


def opened(sweep: Any, trial: str, epoch: int, *labels: str) -> None:
    sweep.record(TestOpened(time=sweep.tick(), trial_id=trial, epoch=epoch, labels=labels))


def test_a_read_counts_once_whatever_it_is_for_and_although_nobody_lived_to_tell(
    record_sweep: Callable[..., Any],
) -> None:
    sweep = record_sweep(keep=KEEP)
    trial = sweep.trial(0, [9.0, 7.0, 8.0], kept_epochs={"age": 2, "gender": 3})
    opened(sweep, trial, 2, "best", "age")
    opened(sweep, trial, 3, "gender")
    sweep.read_test(trial, {"test/age_mae": 8.0})
    sweep.read_test(trial, {"test/age_mae": 8.0}, label="age")
    sweep.resume()  # the driver died before it heard of epoch 3

    state = read_state(sweep.storage, sweep.sweep_id)
    assert unread(state.trials[trial]) == {3: ["gender"]}
    assert state.test_reads == 2

    opened(sweep, trial, 3, "gender")
    sweep.read_test(trial, {"test/age_mae": 8.5}, label="gender")
    state = read_state(sweep.storage, sweep.sweep_id)
    assert (state.test_reads, state.trials[trial].test_reads) == (3, 3)


def test_in_older_journals_each_figure_is_a_read(record_sweep: Callable[..., Any]) -> None:
    sweep = record_sweep(document={"variants": {"base": {}}})
    first, second = (sweep.trial(n, [9.0, 7.0 + n], variant="base", configuration=0, repeat=n) for n in range(2))
    sweep.read_test(first, {"test/age_mae": 8.0})
    sweep.read_test(second, {"test/age_mae": 8.0})

    state = read_state(sweep.storage, sweep.sweep_id)

    assert (state.test_reads, state.trials[first].test_reads) == (2, 1)
    assert make_table(state).to_json()["test_reads"] == 2
