"""Transfer: ten trials over two pre-training stages, each of which is trained once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

pytestmark = pytest.mark.slow

GENDER = {"id": "gender", "tasks": ["gender"], "schedule": {"epochs": 3}}
AGE = {"id": "age", "tasks": ["age"], "schedule": {"epochs": 2}, "data": {"synthetic": {"seed": 5}}}
FINE = {"id": "fine", "schedule": {"epochs": 2}}


def stage_events(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["kind"] in ("stage_trained", "stage_reused")]


@pytest.fixture(scope="module")
def transferred(shared_agr: Any) -> dict[str, Any]:
    file = shared_agr.sweep_file(
        name="transfer",
        space={
            "stages": {"choice": [[GENDER, FINE], [AGE, FINE]]},
            "optimizer": {"name": "nadam", "lr": [0.0001, 0.0003, 0.001, 0.003, 0.01]},
        },
        search={"algorithm": "grid"},
        scheduler={"name": "none"},
        concurrency=2,
    )
    result: dict[str, Any] = shared_agr.json("submit", file)
    return result


@pytest.fixture(scope="module")
def shown(shared_agr: Any, transferred: dict[str, Any]) -> dict[str, Any]:
    best: dict[str, Any] = shared_agr.json("show", transferred["best"]["trial_id"])
    return best


def test_ten_trials_train_each_of_two_stages_once(shared_agr: Any, transferred: dict[str, Any]) -> None:
    assert transferred["trials"]["completed"] == 10
    obtained = stage_events(shared_agr.events(transferred["sweep_id"]))
    trained = Counter(event["stage"] for event in obtained if event["kind"] == "stage_trained")
    reused = Counter(event["stage"] for event in obtained if event["kind"] == "stage_reused")
    assert trained == {"gender": 1, "age": 1}
    assert reused == {"gender": 4, "age": 4}
    assert len({(event["key"], event["weights_sha256"]) for event in obtained}) == 2
    assert {event["stage"]: event["epochs"] for event in obtained} == {"gender": 3, "age": 2}


def test_only_the_epochs_of_the_trial_itself_are_reported(shared_agr: Any, transferred: dict[str, Any]) -> None:
    reports = [event for event in shared_agr.events(transferred["sweep_id"]) if event["kind"] == "trial_reported"]
    assert Counter(event["epoch"] for event in reports) == {1: 10, 2: 10}
    assert all("val/age_mae" in event["metrics"] and "val/gender_acc" in event["metrics"] for event in reports)


def test_status_and_show_tell_of_the_stages(
    shared_agr: Any, transferred: dict[str, Any], shown: dict[str, Any]
) -> None:
    assert "2 trained, 8 reused" in shared_agr.run("status", transferred["sweep_id"]).stdout
    (stage,) = shown["stages"]
    assert stage["stage"] in ("gender", "age")
    assert shown["config"]["init"]["id"] == stage["stage"]
    text = shared_agr.run("show", transferred["best"]["trial_id"]).stdout
    assert f"starts from stage {stage['stage']} ({stage['key'][:12]})" in text


def test_a_trial_is_trained_again_from_the_same_stage_to_the_last_bit(
    shared_agr: Any, transferred: dict[str, Any]
) -> None:
    again = shared_agr.json("rerun", transferred["best"]["trial_id"])
    assert (again["identical"], again["drift"]) == (True, [])
    assert [event["kind"] for event in stage_events(shared_agr.events(again["sweep_id"]))] == ["stage_reused"]


def test_where_the_stage_is_gone_it_is_trained_again_to_the_last_bit(
    shared_agr: Any, transferred: dict[str, Any], shown: dict[str, Any]
) -> None:
    (stage,) = shown["stages"]
    (shared_agr.home / "storage" / "stages" / stage["key"] / "done.json").unlink()
    for claim in (shared_agr.home / "storage" / "stages" / stage["key"] / "claims").iterdir():
        claim.unlink()
    again = shared_agr.json("rerun", transferred["best"]["trial_id"])
    assert again["identical"]
    (event,) = stage_events(shared_agr.events(again["sweep_id"]))
    assert (event["kind"], event["weights_sha256"]) == ("stage_trained", stage["weights_sha256"])
