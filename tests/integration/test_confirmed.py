"""A sweep that confirms its best configurations, trained through Ray."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import SWEEP

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def confirmed(shared_agr: Any) -> dict[str, Any]:
    """Two configurations that differ in a patience no trial lives to see, and one that hardly moves from 80 years."""
    file = shared_agr.sweep_file(
        name="confirmed",
        trial={**SWEEP["trial"], "schedule": {"name": "cosine", "epochs": 2}},
        space=None,
        search=None,
        scheduler={"name": "none"},
        confirm={"top": 3, "seeds": 3},
        variants={
            "base": {"optimizer": {"name": "nadam", "lr": 0.003}, "early_stopping": {"metric": "val/age_mae"}},
            "patient": {"from": "base", "early_stopping": {"patience": 90}},
            "lazy": {"from": "base", "optimizer": {"lr": 0.0000001}, "age": {"encoding": "regression", "center": 80.0}},
        },
        concurrency=2,
    )
    result: dict[str, Any] = shared_agr.json("submit", file)
    return result


@pytest.fixture(scope="module")
def rows(shared_agr: Any, confirmed: dict[str, Any]) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = shared_agr.json("leaderboard", confirmed["sweep_id"])
    return listed


def test_a_field_without_effect_ties_and_the_planted_difference_is_named(
    confirmed: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    firsts = {rank: next(row for row in rows if row["rank"] == rank) for rank in (1, 2, 3)}
    assert {firsts[1]["variant"], firsts[2]["variant"]} == {"base", "patient"}
    assert (firsts[2]["against_first"], firsts[2]["difference"]["mean"]) == ("tie", 0.0)
    assert (firsts[3]["variant"], firsts[3]["against_first"]) == ("lazy", "worse")
    assert firsts[3]["difference"]["low"] > 0
    assert (firsts[3]["difference"]["count"], firsts[3]["difference"]["images"]) == (3, 30)
    assert all(row["ranked_by"] == "mean of fresh seeds" for row in rows)
    fresh = [row for row in rows if row.get("confirms") and row["rank"] == 1]
    assert firsts[1]["mean"] == pytest.approx(sum(row["value"] for row in fresh) / 3)
    assert confirmed["best"]["trial_id"] in {row["trial_id"] for row in fresh}


def test_the_test_part_is_read_for_the_confirmed_winner_and_each_read_is_counted(
    shared_agr: Any, confirmed: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    winners = {row["trial_id"] for row in rows if row["rank"] == 1 and row.get("confirms")}

    read = {row["trial_id"] for row in rows if any(name.startswith("test/") for name in row["metrics"])}

    assert read == winners
    events = shared_agr.events(confirmed["sweep_id"])
    kinds = [event["kind"] for event in events if event["kind"].startswith("test_")]
    assert (kinds.count("test_opened"), kinds.count("test_read")) == (3, 3)
    assert kinds[0] == "test_opened"
    assert shared_agr.json("status", confirmed["sweep_id"])["test_reads"] == 3
    assert "reads of the test part: 3." in shared_agr.run("leaderboard", confirmed["sweep_id"]).stdout
    table = shared_agr.json("table", confirmed["sweep_id"], "--cols", "age_mae,test/age_mae")
    assert table["test_reads"] == 3
    assert {row["label"]: row["cells"]["best/age_mae"]["difference"] for row in table["rows"]}["lazy"]["images"] == 30
