"""A sweep of several objectives from its journal to what people read: best epoch, front, leaderboard, MLflow."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parent))
from agr_core.errors import InputError
from agr_core.objective import Objective
from agr_core.reporting import EpochReport
from orchestrator.cli.main import app
from orchestrator.journal.events import TrialEnded
from orchestrator.journal.segments import read_events, read_state
from orchestrator.journal.sweep_state import SweepState
from orchestrator.results.leaderboard import rows
from orchestrator.results.wording import KEY_METRICS
from orchestrator.simulation.memory_tracker import MemoryTracker
from orchestrator.spec.load import Sweep, sweep_from_document
from orchestrator.storage import layout
from orchestrator.sweep.sealed import winners
from orchestrator.tracking.delivery import Syncer
from orchestrator.tracking.view import view_key
from tests.parts.sweeps import Deaf, local, make_run, small_sweep

Recorder = Callable[..., Any]

SWEEP = "small-20260101-000000-abcd"
ERROR = Objective(metric="val/age_mae", direction="minimize")
SCORES = Objective(metric={"val/gender_acc": 1, "val/race_acc": 1}, direction="maximize")
OBJECTIVES = [each.model_dump(mode="json") for each in (ERROR, SCORES)]


def sweep_of_two(**changes: Any) -> Sweep:
    search = {"algorithm": "nsga2", "trials": 12, "seed": 7, "population": 4}
    return small_sweep(**{"objective": OBJECTIVES, "scheduler": "none", "search": search, **changes})


def epoch(number: int, error: float, score: float, *, finished: bool = False) -> EpochReport:
    metrics = {"val/age_mae": error, "val/gender_acc": score, "val/race_acc": 0.5}
    return EpochReport(epoch=number, metrics=metrics, finished=finished)


def train(run: Any, trials: int) -> list[str]:
    """The next trials to their ends; every fourth fails."""
    made = []
    for _ in range(trials):
        created = run.next_trial(1)
        made.append(json.dumps(created.config, sort_keys=True))
        rate = created.config["optimizer"]["lr"]
        if created.number % 4 == 3:
            run.attempt_started(created.trial_id, "10.0.0.1")
            run.decisions.end_trial(created.trial_id, "failed", "out of memory")
        else:
            run.epoch_reported(created.trial_id, epoch(1, 5 + 100 * rate, rate))
            run.epoch_reported(created.trial_id, epoch(2, 6 + 100 * rate, 1.0, finished=True))
        run.trial_over(created.trial_id)
    return made


def test_the_first_objective_tells_the_best_epoch_and_all_are_journalled_of_it(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), sweep_of_two())
    run.begin()
    created = run.next_trial(1)
    assert created is not None
    for number, (error, score) in enumerate([(9.0, 0.9), (7.0, 0.6), (8.0, 0.8)], start=1):
        run.epoch_reported(created.trial_id, epoch(number, error, score, finished=number == 3))
    run.trial_over(created.trial_id)

    ended = read_state(local(tmp_path), SWEEP).trials[created.trial_id].ended
    assert ended is not None
    assert (ended.best_epoch, ended.value, ended.values) == (2, 7.0, (7.0, 1.1))
    summary = json.loads(local(tmp_path).read(layout.summary(SWEEP)))
    assert summary["best"] == {"trial_id": created.trial_id, "value": [7.0, 1.1]}
    assert summary["objective"] == OBJECTIVES


@pytest.mark.parametrize("stops", [(9,), (3, 6, 10)])
def test_a_sweep_stopped_and_resumed_proposes_what_one_left_alone_does(tmp_path: Path, stops: tuple[int, ...]) -> None:
    whole = make_run(local(tmp_path / "whole"), sweep_of_two())
    whole.begin()
    expected = train(whole, 12)

    run = make_run(local(tmp_path / "cut"), sweep_of_two())
    run.begin()
    made = train(run, stops[0])
    for stop, following in zip(stops, (*stops[1:], 12), strict=True):
        run.end("interrupted")
        events, last = read_events(local(tmp_path / "cut"), SWEEP)
        run = make_run(local(tmp_path / "cut"), sweep_of_two(), next_segment=last + 1)
        run.replay(events, Deaf())
        made += train(run, following - stop)

    assert made == expected
    assert run.best == whole.best


# ---- what is read of it

POINTS = [(5.0, 0.7), (7.0, 0.9), (6.0, 0.6), (5.0, 0.7), (8.0, 0.95), (7.0, 0.5)]
"""Error and gender accuracy: 0, 3, 1 and 4 are dominated by nobody, 2 by 0 alone, 5 by 2 too."""


@pytest.fixture
def recorded(record_sweep: Recorder) -> Any:
    sweep = record_sweep(objective=ERROR, further=(SCORES,))
    for number, (error, score) in enumerate(POINTS):
        trial = sweep.create(number, {"model.name": "basic_cnn"})
        sweep.start(trial)
        sweep.report(trial, 1, error, **{"val/gender_acc": score, "val/race_acc": 0.0})
        point = {"value": error, "values": (error, score), "best_epoch": 1, "epochs": 1, "attempt": 0}
        sweep.record(TrialEnded(time=sweep.tick(), trial_id=trial, outcome="completed", **point))
    sweep.trial(6, [], "failed")
    sweep.end()
    return sweep


@pytest.fixture
def state(recorded: Any) -> SweepState:
    return read_state(recorded.storage, recorded.sweep_id)


def test_the_front_is_ranked_first_and_within_a_front_the_first_objective_orders(state: SweepState) -> None:
    found = rows([state])

    assert [(row.rank, row.front, row.number) for row in found] == [
        (1, 1, 0),
        (2, 1, 3),
        (3, 1, 1),
        (4, 1, 4),
        (5, 2, 2),
        (6, 3, 5),
        (None, None, 6),
    ]
    best = state.best()
    assert best is not None
    assert best.created.number == 0
    for row in found[:4]:
        better = [(row.point[0] - other.point[0], other.point[1] - row.point[1]) for other in found[:6]]
        assert not any(min(gains) >= 0 and max(gains) > 0 for gains in better)


def test_json_has_all_values_in_the_order_of_the_objectives(state: SweepState) -> None:
    first, *_, failed = [row.to_json() for row in rows([state])]
    assert (first["value"], first["front"], first["rank"]) == ([5.0, 0.7], 1, 1)
    assert first["metrics"]["best/objective_2"] == 0.7
    assert (failed["value"], failed["outcome"]) == (None, "failed")


def test_a_single_metric_ranks_as_ever(state: SweepState) -> None:
    found = rows([state], metric="gender_acc")
    assert [row.number for row in found[:3]] == [4, 1, 0]
    assert [row.to_json()["value"] for row in found[:3]] == [0.95, 0.9, 0.7]
    assert {row.front for row in found} == {None}
    assert [row.number for row in rows([state], metric="objective_2")[:2]] == [4, 1]


def test_sweeps_that_differ_in_a_further_objective_share_no_leaderboard(
    record_sweep: Recorder, state: SweepState
) -> None:
    other = record_sweep(sweep_id="faces-20260102-030405-ffff", objective=ERROR)
    with pytest.raises(InputError, match="minimize val/age_mae, maximize val/gender_acc"):
        rows([state, read_state(other.storage, other.sweep_id)])


def test_the_test_part_is_due_for_the_front_and_for_nobody_else(state: SweepState) -> None:
    due = winners(state, sweep_of_two().spec)
    assert sorted(trial.created.number for trial in due) == [0, 1, 3, 4]


def test_mlflow_has_rank_and_front_and_a_view_in_their_order(recorded: Any) -> None:
    tracker = MemoryTracker()
    Syncer(recorded.storage, tracker, recorded.sweep_id).run_once()

    runs = {run.tags.get("agr.number"): run for run in tracker.all_runs.values()}
    assert [(runs[str(n)].tags["agr.rank"], runs[str(n)].tags["agr.front"]) for n in (0, 4, 2)] == [
        ("1", "1"),
        ("4", "1"),
        ("5", "2"),
    ]
    assert runs["5"].curve("rank") == {0: 6.0}
    assert runs["1"].curve("best/objective_2") == {1: 0.9}
    assert "agr.rank" not in runs["6"].tags
    parent = runs[None]
    assert parent.tags["agr.best_value"] == "5, 0.7"
    assert parent.tags["agr.objective"] == "minimize val/age_mae, maximize val/gender_acc + val/race_acc"
    [tags] = tracker.experiment_tags.values()
    view = json.loads(json.loads(tags[f"mlflow.sharedViewState.{view_key(recorded.sweep_id)}"])["state"])
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`rank`", True)
    assert view["selectedColumns"] == [
        "metrics.`rank`",
        "tags.`agr.front`",
        "params.`model.name`",
        "metrics.`best/age_mae`",
        "metrics.`best/objective_2`",
        *(f"metrics.`best/{name}`" for name in KEY_METRICS if name != "age_mae"),
        "tags.`agr.epochs`",
        "tags.`agr.outcome`",
    ]


def test_the_commands_show_every_objective(
    recorded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedded_mlflow: None
) -> None:
    monkeypatch.setenv("AGR_STORAGE", str(recorded.storage.uri))

    def agr(*arguments: str) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == 0, result.output
        return result

    table = agr("leaderboard", recorded.sweep_id).output
    header, _, first = table.splitlines()[:3]
    assert header.split()[:5] == ["#", "front", "trial", "age_mae", "objective_2"]
    assert first.split()[:2] == ["1", "1"]
    assert first.split()[3:5] == ["5.000", "0.7000"]
    assert "val/age_mae, minimize; " in " ".join(table.replace("best/", "val/").split())
    assert max(len(line) for line in table.splitlines()[:10]) <= 100
    assert "5, 0.7 " in agr("list").output
    assert "val/age_mae, val/objective_2 5, 0.7 by trial" in agr("status", recorded.sweep_id).output
    assert json.loads(agr("list", "--json").output)[0]["best"]["value"] == [5.0, 0.7]


# ---- the sweep file


def test_two_objectives_are_searched_by_random_grid_tpe_and_nsga2() -> None:
    for algorithm in ("random", "tpe", "nsga2"):
        assert sweep_of_two(search={"algorithm": algorithm, "trials": 4}).spec.objectives == (ERROR, SCORES)
    grid = sweep_of_two(space={"batch_size": [16, 32]}, search={"algorithm": "grid"})
    assert grid.spec.search is not None
    assert grid.spec.search.trials == 2


def test_the_document_of_a_sweep_of_several_objectives_gives_it_again() -> None:
    sweep = sweep_of_two()
    assert sweep_from_document(sweep.document).spec == sweep.spec


def test_four_objectives_are_warned_of() -> None:
    metrics = ("val/age_mae", "val/age_mae.gap_by_race", "val/age_mae.gap_by_gender", "val/age_mae.gap_by_age")
    objective = [{"metric": metric, "direction": "minimize"} for metric in metrics]
    assert any("there are 4 objectives" in warning for warning in sweep_of_two(objective=objective).warnings)
    assert not any("objectives" in warning for warning in sweep_of_two(objective=objective[:3]).warnings)
