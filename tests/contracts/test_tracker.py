"""What every tracker must do, run against each of them: memory, MLflow's SQLite, an MLflow server."""

from __future__ import annotations

import json
import math
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import TrackerError
from orchestrator.simulation.memory_tracker import MemoryTracker
from orchestrator.tracking import open_tracker
from orchestrator.tracking.base import MetricPoint, TrackedData, Tracker


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory, empty_mlflow_database: Path) -> Tracker:
    folder = tmp_path_factory.mktemp("sqlite")
    return open_tracker(f"sqlite:///{shutil.copy(empty_mlflow_database, folder)}", folder / "artifacts")


@pytest.fixture(params=["memory", "sqlite", pytest.param("server", marks=pytest.mark.services)])
def tracker(request: pytest.FixtureRequest) -> Tracker:
    if request.param == "memory":
        return MemoryTracker()
    if request.param == "sqlite":
        found: Tracker = request.getfixturevalue("sqlite")
        return found
    return open_tracker(request.getfixturevalue("mlflow_server").uri)


@pytest.fixture
def experiment_id(tracker: Tracker) -> str:
    return tracker.experiment(f"faces-{secrets.token_hex(4)}")


KEY = {"agr.sweep_id": "faces-20260101-000000-abcd", "agr.trial_id": "0badcafe"}


def start(tracker: Tracker, experiment_id: str, key: Mapping[str, str] = KEY, **more: Any) -> str:
    return tracker.run(experiment_id, key, name="001 resnet10t", start_time=1_700_000_000.25, **more)


def contents(tracker: Tracker, run_id: str) -> dict[str, Any]:
    """A run's params, points, tags, artifact paths, times and status, read past the tracker."""
    if isinstance(tracker, MemoryTracker):
        run = tracker.all_runs[run_id]
        points = {point.name: run.curve(point.name) for point in run.metrics}
        artifacts = sorted(run.artifacts)
        return {
            "name": run.name, "params": run.params, "points": points, "tags": run.tags, "artifacts": artifacts,
            "status": run.status, "start": run.start_time, "end": run.end_time,
        }  # fmt: skip
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=tracker.uri)
    run = client.get_run(run_id)
    points = {
        name: {point.step: point.value for point in client.get_metric_history(run_id, name)}
        for name in run.data.metrics
    }
    artifacts = []
    for entry in client.list_artifacts(run_id):
        artifacts += [f.path for f in client.list_artifacts(run_id, entry.path)] if entry.is_dir else [entry.path]
    info = run.info
    return {
        "name": info.run_name, "params": run.data.params, "points": points, "tags": run.data.tags,
        "artifacts": sorted(artifacts), "status": info.status, "start": info.start_time / 1000,
        "end": None if info.end_time is None else info.end_time / 1000,
    }  # fmt: skip


def test_it_answers_when_asked(tracker: Tracker) -> None:
    tracker.check()


def test_an_experiment_is_made_once(tracker: Tracker) -> None:
    name = f"faces-{secrets.token_hex(4)}"

    assert tracker.find_experiment(name) is None
    made = tracker.experiment(name)

    assert tracker.experiment(name) == made == tracker.find_experiment(name)
    assert tracker.experiment(f"{name}-other") != made


def test_a_run_is_made_once_for_its_key(tracker: Tracker, experiment_id: str) -> None:
    assert tracker.find_run(experiment_id, KEY) is None
    made = start(tracker, experiment_id)

    assert start(tracker, experiment_id) == made == tracker.find_run(experiment_id, KEY)
    assert start(tracker, experiment_id, {**KEY, "agr.trial_id": "0badcaff"}) != made


def test_a_run_belongs_to_one_experiment(tracker: Tracker, experiment_id: str) -> None:
    other = tracker.experiment(f"other-{secrets.token_hex(4)}")

    assert start(tracker, experiment_id) != start(tracker, other)


def test_a_run_keeps_name_parent_tags_and_the_time_it_really_started(tracker: Tracker, experiment_id: str) -> None:
    parent = start(tracker, experiment_id, {"agr.sweep_id": "x"})
    run_id = start(tracker, experiment_id, parent_run_id=parent, tags={"agr.variant": "plain"})

    found = contents(tracker, run_id)

    assert (found["name"], found["start"], found["status"]) == ("001 resnet10t", 1_700_000_000.25, "RUNNING")
    assert {**KEY, "agr.variant": "plain", "mlflow.parentRunId": parent}.items() <= found["tags"].items()


def test_params_points_and_tags_arrive_whole_however_many(tracker: Tracker, experiment_id: str) -> None:
    run_id = start(tracker, experiment_id)
    params = {f"part.name_{number}": f"value {number}" for number in range(230)}
    points = [MetricPoint(f"val/m{n}", n + step / 7, step, 1e9 + step) for n in range(3) for step in range(1, 801)]
    tags = {f"agr.tag_{number}": f"value {number}" for number in range(130)}

    tracker.log(run_id, params=params, metrics=points, tags=tags)

    found = contents(tracker, run_id)
    assert found["params"] == params
    assert found["points"] == {f"val/m{n}": {step: n + step / 7 for step in range(1, 801)} for n in range(3)}
    assert tags.items() <= found["tags"].items()


def test_logging_the_same_again_changes_nothing(tracker: Tracker, experiment_id: str) -> None:
    run_id = start(tracker, experiment_id)
    point = MetricPoint("val/age_mae", 7.25, 3, 1e9)

    for _ in range(2):
        tracker.log(run_id, params={"seed": "42"}, metrics=[point], tags={"agr.outcome": "completed"})
        tracker.end(run_id, status="FINISHED", time=1_700_000_100.5)

    found = contents(tracker, run_id)
    assert found["points"] == {"val/age_mae": {3: 7.25}}
    assert (found["status"], found["end"]) == ("FINISHED", 1_700_000_100.5)


def test_a_param_is_not_overwritten(tracker: Tracker, experiment_id: str) -> None:
    run_id = start(tracker, experiment_id)
    tracker.log(run_id, params={"seed": "42"})

    with pytest.raises(TrackerError, match="seed"):
        tracker.log(run_id, params={"seed": "43"})


def test_a_tag_is_overwritten(tracker: Tracker, experiment_id: str) -> None:
    run_id = start(tracker, experiment_id)
    tracker.log(run_id, tags={"agr.rank": "2"})

    tracker.log(run_id, tags={"agr.rank": "1"})

    assert contents(tracker, run_id)["tags"]["agr.rank"] == "1"


@pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
def test_a_closed_run_takes_late_figures_and_can_be_reopened(tracker: Tracker, experiment_id: str, status: Any) -> None:
    run_id = start(tracker, experiment_id)
    tracker.end(run_id, status=status, time=1_700_000_100.0)
    tracker.log(run_id, metrics=[MetricPoint("test/age_mae", 8.0, 3, 1e9)])
    assert contents(tracker, run_id)["status"] == status

    tracker.reopen(run_id)

    assert contents(tracker, run_id)["status"] == "RUNNING"
    assert contents(tracker, run_id)["points"] == {"test/age_mae": {3: 8.0}}


def test_artifacts_lie_under_their_folder_and_are_replaced(
    tracker: Tracker, experiment_id: str, tmp_path: Path
) -> None:
    run_id = start(tracker, experiment_id)
    for text in ("one", "two"):
        (tmp_path / "trial.json").write_text(text)
        tracker.log_artifact(run_id, tmp_path / "trial.json")
        tracker.log_artifact(run_id, tmp_path / "trial.json", "plots")

    assert contents(tracker, run_id)["artifacts"] == ["plots/trial.json", "trial.json"]


def test_runs_are_found_by_any_of_their_tags_with_those_that_hold_most_first(
    tracker: Tracker, experiment_id: str
) -> None:
    empty = start(tracker, experiment_id, {"agr.sweep_id": "a", "agr.trial_id": "1"})
    full = start(tracker, experiment_id, {"agr.sweep_id": "a", "agr.trial_id": "2"})
    start(tracker, experiment_id, {"agr.sweep_id": "b", "agr.trial_id": "3"})
    tracker.log(full, params={"seed": "1"})
    tracker.end(full, status="KILLED", time=1.7e9)

    found = tracker.runs(experiment_id, {"agr.sweep_id": "a"})

    assert [(run.run_id, run.status, run.tags["agr.trial_id"]) for run in found] == [
        (full, "KILLED", "2"),
        (empty, "RUNNING", "1"),
    ]


def test_a_deleted_run_is_not_found_and_may_be_deleted_again(tracker: Tracker, experiment_id: str) -> None:
    run_id = start(tracker, experiment_id)

    tracker.delete_run(run_id)
    tracker.delete_run(run_id)

    assert tracker.find_run(experiment_id, KEY) is None
    assert tracker.get_run(run_id) is None
    assert start(tracker, experiment_id) != run_id


def test_a_run_is_read_by_its_id(tracker: Tracker, experiment_id: str) -> None:
    run_id = start(tracker, experiment_id)

    found = tracker.get_run(run_id)

    assert found is not None
    assert (found.run_id, found.status) == (run_id, "RUNNING")
    assert KEY.items() <= found.tags.items()
    assert tracker.get_run("f" * 32) is None


def test_experiment_tags_are_set_and_overwritten(tracker: Tracker, experiment_id: str) -> None:
    for value in ("old", "new"):
        tracker.set_experiment_tags(experiment_id, {"agr.note": value, "mlflow.sharedViewState.abc": '{"name": "x"}'})

    if isinstance(tracker, MemoryTracker):
        tags = tracker.experiment_tags[experiment_id]
    else:
        from mlflow import MlflowClient

        tags = MlflowClient(tracking_uri=tracker.uri).get_experiment(experiment_id).tags
    assert {"agr.note": "new", "mlflow.sharedViewState.abc": '{"name": "x"}'}.items() <= tags.items()


@pytest.mark.parametrize("name", ["val/f1@utk7", "val//loss", "f1[utk7]", "", "/loss", "x" * 251])
def test_a_metric_name_that_mlflow_refuses_is_refused_at_once(name: str) -> None:
    with pytest.raises(TrackerError, match="use letters"):
        MetricPoint(name, 1.0, 1, 1e9)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_undefined_value_is_refused(value: float) -> None:
    with pytest.raises(TrackerError, match="leave undefined metrics out"):
        MetricPoint("val/loss", value, 1, 1e9)


@pytest.mark.parametrize("name", ["val/age_f1.utk7", "optimizer.lr", "test.fair face/age-mae", "a:b_c"])
def test_names_with_dots_slashes_dashes_colons_and_spaces_are_taken(
    tracker: Tracker, experiment_id: str, name: str
) -> None:
    run_id = start(tracker, experiment_id)

    tracker.log(run_id, metrics=[MetricPoint(name, 0.5, 1, 1e9)])

    assert contents(tracker, run_id)["points"] == {name: {1: 0.5}}


def test_data_sets_are_inputs_of_a_run_once(tracker: Tracker, experiment_id: str) -> None:
    run_id = start(tracker, experiment_id)
    data = [TrackedData("faces split 55555555", "d" * 32, "s3://bucket/datasets/d"), TrackedData("b", "e" * 32, "/b")]
    for _ in range(2):
        tracker.log_data(run_id, data)
    if isinstance(tracker, MemoryTracker):
        assert tracker.all_runs[run_id].data == data
        return
    from mlflow import MlflowClient

    shown = MlflowClient(tracking_uri=tracker.uri).get_run(run_id).inputs.dataset_inputs
    assert sorted((each.dataset.name, each.dataset.digest) for each in shown) == [
        ("b", "e" * 32),
        ("faces split 55555555", "d" * 32),
    ]
    assert {json.loads(each.dataset.source)["uri"] for each in shown} == {"s3://bucket/datasets/d", "/b"}
