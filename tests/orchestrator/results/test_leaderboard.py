"""Who is first, who has no rank, and which sweeps may stand side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import pytest

from agr_core.errors import InputError
from agr_core.objective import Objective
from orchestrator.journal.events import TrialReported
from orchestrator.journal.segments import read_state
from orchestrator.journal.sweep_state import SweepState
from orchestrator.results.leaderboard import Row, of_first_configurations, rows

Recorder = Callable[..., Any]
MINIMIZE = Objective(metric="val/age_mae", direction="minimize")
MAXIMIZE = Objective(metric="val/gender_acc", direction="maximize")


def state_of(sweep: Any) -> SweepState:
    return read_state(sweep.storage, sweep.sweep_id)


def ranking(found: list[Row]) -> list[tuple[int | None, int]]:
    return [(row.rank, row.number) for row in found]


def test_completed_trials_are_ranked_by_their_best_value(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    for number, values in enumerate([[9.0, 5.0, 8.0], [4.0], [7.0, 6.0]]):
        sweep.trial(number, values)

    found = rows([state_of(sweep)])

    assert ranking(found) == [(1, 1), (2, 0), (3, 2)]
    assert [row.value for row in found] == [4.0, 5.0, 6.0]


def test_a_maximized_objective_is_ranked_the_other_way(record_sweep: Recorder) -> None:
    sweep = record_sweep(objective=MAXIMIZE)
    accuracies = [0.7, 0.9, 0.8]
    for number, accuracy in enumerate(accuracies):
        trial = sweep.create(number)
        sweep.start(trial)
        sweep.report(trial, 1, 9.0, **{"val/gender_acc": accuracy})
        sweep.end_trial(trial, "completed", [accuracy])

    assert [row.value for row in rows([state_of(sweep)])] == [0.9, 0.8, 0.7]


def test_trials_that_did_not_complete_are_listed_without_rank_however_good(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    sweep.trial(0, [9.0])
    sweep.trial(1, [], "failed")
    sweep.trial(2, [3.0], "interrupted")
    sweep.trial(3, [2.0], "diverged")
    sweep.trial(4, [1.0], "pruned")
    sweep.trial(5, [0.5], "pruned")
    running = sweep.create(6)
    sweep.start(running)
    sweep.report(running, 1, 0.1)

    found = rows([state_of(sweep)])

    assert ranking(found) == [(1, 0), (None, 5), (None, 4), (None, 3), (None, 1), (None, 2), (None, 6)]
    assert [row.outcome for row in found[-2:]] == ["interrupted", None]
    assert (found[-1].value, found[-1].epochs) == (0.1, 1)


def test_equal_values_rank_the_earlier_trial_first(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    for number in range(3):
        sweep.trial(number, [5.0])

    assert ranking(rows([state_of(sweep)])) == [(1, 0), (2, 1), (3, 2)]


def test_the_leading_configurations_have_all_their_seeds(record_sweep: Recorder) -> None:
    found = rows([state_of(repeated(record_sweep, [[5.0, 6.0], [7.0, 8.0], [9.0, 10.0]]))])

    assert [row.number for row in of_first_configurations(found, 2)] == [0, 1, 2, 3]
    assert of_first_configurations(found, 3) == of_first_configurations(found, 4) == found


def test_the_json_row_is_the_documented_one(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    trial = sweep.trial(0, [9.0, 7.0, 8.0], params={"optimizer.name": "nadam", "optimizer.lr": 0.01})
    sweep.read_test(trial, {"test/age_mae": 7.5})

    [row] = rows([state_of(sweep)])

    document = row.to_json("f" * 32)
    metrics = document.pop("metrics")
    assert document == {
        "rank": 1,
        "trial_id": trial,
        "run_id": "f" * 32,
        "outcome": "completed",
        "value": 7.0,
        "epochs": 3,
        "params": {"optimizer.name": "nadam", "optimizer.lr": 0.01},
        "sweep_id": sweep.sweep_id,
        "number": 0,
        "variant": None,
        "configuration": 0,
        "best_epoch": 2,
        "stopped_early": False,
        "warnings": [],
    }
    assert (metrics["best/age_mae"], metrics["best/gender_acc"], metrics["test/age_mae"]) == (7.0, 1 - 7.0 / 40, 7.5)
    assert not any(name.startswith(("train/", "time/", "val/")) for name in metrics)


def test_another_metric_ranks_by_its_value_at_the_best_epoch_of_the_objective(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    # Trial 0 has its best age error in epoch 2; its cs5 of epoch 1 is higher and does not count.
    for number, (first, second) in enumerate([(0.9, 0.2), (0.1, 0.5)]):
        trial = sweep.create(number)
        sweep.start(trial)
        sweep.report(trial, 1, 9.0, **{"val/age_cs5": first})
        sweep.report(trial, 2, 7.0 - number, **{"val/age_cs5": second})
        sweep.end_trial(trial, "completed", [9.0, 7.0 - number])

    for name in ("age_cs5", "val/age_cs5", "best/age_cs5"):
        found = rows([state_of(sweep)], metric=name)
        assert [(row.number, row.value) for row in found] == [(1, 0.5), (0, 0.2)]


def test_ranking_by_a_test_figure_leaves_out_whoever_was_not_tested(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    sweep.trial(0, [1.0])
    tested = sweep.trial(1, [9.0])
    sweep.read_test(tested, {"test/age_mae": 9.5})

    assert ranking(rows([state_of(sweep)], metric="test/age_mae")) == [(1, 1), (None, 0)]


def test_top_keeps_so_many_ranks_and_nothing_unranked(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    for number in range(4):
        sweep.trial(number, [number + 1.0])
    sweep.trial(4, [0.1], "pruned")

    assert ranking(rows([state_of(sweep)], top=2)) == [(1, 0), (2, 1)]


# ---- repeat


def repeated(record_sweep: Recorder, values: list[list[float]], outcomes: dict[int, str] | None = None) -> Any:
    seeds = max(len(of_configuration) for of_configuration in values)
    sweep = record_sweep(document={"repeat": {"seeds": seeds}})
    for configuration, of_configuration in enumerate(values):
        for repeat, value in enumerate(of_configuration):
            number = configuration * seeds + repeat
            sweep.trial(
                number,
                [value],
                (outcomes or {}).get(number, "completed"),
                configuration=configuration,
                repeat=repeat,
                variant=f"v{configuration}",
            )
    return sweep


def test_repeated_configurations_are_ranked_by_the_mean_over_their_seeds(record_sweep: Recorder) -> None:
    sweep = repeated(record_sweep, [[1.0, 9.0, 9.0], [5.0, 6.0, 4.0]])

    found = rows([state_of(sweep)])

    assert [(row.rank, row.variant, row.value) for row in found] == [
        (1, "v1", 5.0),
        (1, "v1", 6.0),
        (1, "v1", 4.0),
        (2, "v0", 1.0),
        (2, "v0", 9.0),
        (2, "v0", 9.0),
    ]
    assert found[0].mean == pytest.approx(5.0)
    assert found[3].std == pytest.approx(statistics.stdev([1.0, 9.0, 9.0]))
    assert found[0].to_json()["seeds"] == 3


@pytest.mark.parametrize("outcome", ["failed", "diverged", "interrupted"])
def test_a_configuration_of_which_a_seed_did_not_complete_has_no_rank(record_sweep: Recorder, outcome: str) -> None:
    sweep = repeated(record_sweep, [[1.0, 1.0], [5.0, 6.0]], {1: outcome})

    found = rows([state_of(sweep)])

    assert [(row.rank, row.configuration) for row in found] == [(1, 1), (1, 1), (None, 0), (None, 0)]
    assert {row.note for row in found if row.configuration == 0} == {"1 of 2 seeds completed"}


def test_a_configuration_of_which_a_seed_is_still_to_come_has_no_rank(record_sweep: Recorder) -> None:
    sweep = repeated(record_sweep, [[5.0, 6.0], [1.0]])

    assert [(row.rank, row.configuration) for row in rows([state_of(sweep)])] == [(1, 0), (1, 0), (None, 1)]


def test_top_counts_configurations_not_seeds(record_sweep: Recorder) -> None:
    sweep = repeated(record_sweep, [[1.0, 2.0], [5.0, 6.0]])

    assert [row.configuration for row in rows([state_of(sweep)], top=1)] == [0, 0]


# ---- several sweeps


def two_sweeps(record_sweep: Recorder, *, split: str = "5" * 64, **more: Any) -> list[SweepState]:
    first, second = record_sweep(), record_sweep("faces-20260103-030405-beef", **more)
    first.trial(0, [5.0])
    trial = second.create(0, split_digest=split)
    second.start(trial)
    second.report(trial, 1, 4.0)
    second.end_trial(trial, "completed", [4.0])
    return [state_of(first), state_of(second)]


def test_sweeps_on_one_split_with_one_objective_share_a_leaderboard(record_sweep: Recorder) -> None:
    found = rows(two_sweeps(record_sweep))

    assert [(row.rank, row.sweep_id, row.value) for row in found] == [
        (1, "faces-20260103-030405-beef", 4.0),
        (2, "faces-20260102-030405-abcd", 5.0),
    ]


def test_sweeps_on_different_splits_are_refused_by_name(record_sweep: Recorder) -> None:
    with pytest.raises(InputError, match=r"different splits.*55555555.*abcd.*66666666.*beef.*one by one"):
        rows(two_sweeps(record_sweep, split="6" * 64))


def test_sweeps_with_different_objectives_are_refused_by_name(record_sweep: Recorder) -> None:
    with pytest.raises(InputError, match=r"minimize val/age_mae.*maximize val/gender_acc.*one by one"):
        rows(two_sweeps(record_sweep, objective=MAXIMIZE))


def test_a_single_sweep_may_vary_its_split(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    for number in range(2):
        trial = sweep.create(number, split_digest=str(number) * 64)
        sweep.start(trial)
        sweep.report(trial, 1, 4.0)
        sweep.end_trial(trial, "completed", [4.0])

    assert ranking(rows([state_of(sweep)])) == [(1, 0), (2, 1)]


def test_a_retried_epoch_counts_once_with_its_last_report(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    trial = sweep.create(0)
    sweep.start(trial)
    sweep.report(trial, 1, 9.0)
    sweep.record(
        TrialReported(time=sweep.tick(), trial_id=trial, attempt=1, epoch=1, value=8.0, metrics={"val/age_mae": 8.0})
    )
    sweep.end_trial(trial, "completed", [8.0])

    [row] = rows([state_of(sweep)])

    assert (row.epochs, row.metrics["best/age_mae"]) == (1, 8.0)


def test_an_empty_sweep_has_an_empty_leaderboard(record_sweep: Recorder) -> None:
    assert rows([state_of(record_sweep())]) == []


def test_the_figures_of_each_label_stand_beside_the_best(record_sweep: Recorder) -> None:
    keep = {"gender": Objective(metric="val/gender_acc", direction="minimize")}
    sweep = record_sweep(keep=keep)
    running = sweep.create(1)
    trial = sweep.trial(0, [20.0, 10.0], kept_epochs={"gender": 1})
    sweep.read_test(trial, {"test/age_mae": 11.0})
    sweep.read_test(trial, {"test/age_mae": 21.0, "test.other/age_mae": 22.0}, label="gender")
    sweep.report(running, 1, 30.0)
    metrics = {row.trial_id: row.metrics for row in rows([state_of(sweep)])}
    assert (metrics[trial]["best/age_mae"], metrics[trial]["best.gender/age_mae"]) == (10.0, 20.0)
    assert (metrics[trial]["test/age_mae"], metrics[trial]["best.gender.test/age_mae"]) == (11.0, 21.0)
    assert metrics[trial]["best.gender.test.other/age_mae"] == 22.0
    assert metrics[running]["best.gender/age_mae"] == 30.0
