"""The JSON of the saved view; that MLflow understands it is for the browser test to see."""

from __future__ import annotations

import json
from typing import Any

from agr_core.objective import Objective
from orchestrator.tracking.view import saved_views, view_key, view_link

SWEEP_ID = "quickstart-20260102-030405-abcd"
PARAMS = ("model.name", "optimizer.name", "optimizer.lr")


def view(objective: Objective | None = None, **more: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
    arguments: dict[str, Any] = {
        "started": 1000.5,
        "metrics": ("val/age_mae", "val/gender_acc", "val/race_acc", "train/loss"),
        "params": PARAMS,
        "variants": False,
    }
    objective = objective or Objective(metric="val/age_mae", direction="minimize")
    [(tag, text)] = saved_views(SWEEP_ID, objective, **{**arguments, **more}).items()
    document = json.loads(text)
    return tag, document, json.loads(document["state"])


def test_the_columns_are_rank_what_varies_objective_other_metrics_and_how_it_ended() -> None:
    _, _, state = view()

    assert state["selectedColumns"] == [
        "tags.`agr.rank`",
        "params.`model.name`",
        "params.`optimizer.name`",
        "params.`optimizer.lr`",
        "metrics.`best/age_mae`",
        "metrics.`best/gender_acc`",
        "metrics.`best/race_acc`",
        "tags.`agr.epochs`",
        "tags.`agr.outcome`",
    ]
    assert state["columnOrder"] == ["attributes.`Run Name`", *state["selectedColumns"]]
    assert state["columnWidths"].keys() == set(state["columnOrder"])


def test_charts_open_on_the_validation_curves_with_the_objective_first() -> None:
    gender = Objective(metric="val/gender_acc", direction="maximize")
    _, _, state = view(gender)

    sections = [(section["name"], section["display"]) for section in state["compareRunSections"]]
    assert sections == [("val", True), ("train", True), ("best", False)]
    assert [chart["metricKey"] for chart in state["compareRunCharts"]] == [
        "val/gender_acc",
        "val/age_mae",
        "val/race_acc",
    ]
    assert {chart["metricSectionId"] for chart in state["compareRunCharts"]} == {state["compareRunSections"][0]["uuid"]}
    assert state["isAccordionReordered"]  # else MLflow sorts the sections by name: best, train, val


def test_variants_have_a_column() -> None:
    assert view(variants=True)[2]["selectedColumns"][1] == "tags.`agr.variant`"


def test_rows_are_all_trials_of_the_sweep_sorted_by_the_objective() -> None:
    _, document, state = view()

    assert document["name"] == f"Leaderboard {SWEEP_ID}"
    assert state["searchFilter"] == f"tags.`agr.sweep_id` = '{SWEEP_ID}' AND tags.`agr.kind` = 'trial'"
    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`best/age_mae`", True)


def test_a_maximized_objective_is_sorted_downwards() -> None:
    _, _, state = view(Objective(metric="val/gender_acc", direction="maximize"))

    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`best/gender_acc`", False)
    assert state["selectedColumns"].count("metrics.`best/gender_acc`") == 1


def test_under_repeat_rows_are_sorted_by_the_mean_over_seeds_with_each_seeds_own_beside_it() -> None:
    _, _, state = view(means=True)

    assert state["orderByKey"] == "metrics.`mean/age_mae`"
    assert state["selectedColumns"][4:6] == ["metrics.`mean/age_mae`", "metrics.`best/age_mae`"]


def test_under_confirm_rows_are_sorted_by_their_rank_whatever_the_direction() -> None:
    _, _, state = view(Objective(metric="val/gender_acc", direction="maximize"), means=True, ranked=True)

    assert (state["orderByKey"], state["orderByAsc"]) == ("metrics.`rank`", True)
    assert state["selectedColumns"][0] == "metrics.`rank`"
    assert state["selectedColumns"][4:6] == ["metrics.`mean/gender_acc`", "metrics.`best/gender_acc`"]


def test_gaps_between_groups_have_a_view_of_their_own() -> None:
    objective = Objective(metric="val/age_mae", direction="minimize")
    common: dict[str, Any] = {
        "started": 1.0,
        "metrics": ("val/age_mae",),
        "params": ("optimizer.lr",),
        "variants": False,
    }
    gaps = ("val/age_mae.gap_by_race", "val/gender_acc.gap_by_race")
    board, groups = saved_views(SWEEP_ID, objective, **common, gaps=gaps, ranked=True).values()
    assert json.loads(groups)["name"] == f"Groups {SWEEP_ID}"
    columns = json.loads(json.loads(groups)["state"])["selectedColumns"]
    assert columns[:4] == ["metrics.`rank`", "metrics.`best/age_mae`", *(f"metrics.`best/{gap[4:]}`" for gap in gaps)]
    assert not [column for column in json.loads(json.loads(board)["state"])["selectedColumns"] if "gap_by" in column]


def test_the_link_carries_the_key_of_the_tag() -> None:
    tag, _, _ = view()

    key = view_key(SWEEP_ID)
    assert tag == f"mlflow.sharedViewState.{key}"
    assert view_link("http://host:5000/", "3", SWEEP_ID) == (
        f"http://host:5000/#/experiments/3/runs?workflowType=machine_learning&viewStateShareKey={key}"
    )


def test_the_view_fits_mlflows_limit_however_much_varies() -> None:
    params = [f"some.very.long.path.of.a.parameter.number_{number}" for number in range(500)]

    [text] = saved_views(
        "s" * 90,
        Objective(metric="val/age_mae", direction="minimize"),
        started=1.0,
        metrics=("val/age_mae",),
        params=params,
        variants=True,
    ).values()

    assert len(text) < 20_000
