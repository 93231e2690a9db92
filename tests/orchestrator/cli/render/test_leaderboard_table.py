"""Which columns the leaderboard's table has, and which give way when there is no room."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.cli.render.fitted_table import fitted
from orchestrator.cli.render.leaderboard_table import leaderboard_columns, param_titles
from orchestrator.results.leaderboard import Row


def row(number: int, params: dict[str, Any], **more: Any) -> Row:
    fields: dict[str, Any] = {
        "rank": number + 1,
        "sweep_id": "faces-20260102-030405-abcd",
        "trial_id": f"{number:08x}",
        "number": number,
        "configuration": number,
        "variant": None,
        "seed": 42,
        "outcome": "completed",
        "value": 7.0,
        "epochs": 6,
        "metrics": {"best/age_mae": 7.0, "best/gender_acc": 0.9, "best/race_acc": 0.8, "best/loss": 1.0},
    }
    return Row(params=params, **{**fields, **more})


ROWS = [
    row(0, {"model.name": "resnet10t", "optimizer.lr": 0.1, "model.drop_path": 0.2}),
    row(1, {"model.name": "basic_cnn", "optimizer.lr": 0.2}),
]
PARAMS = ("model.name", "model.drop_path", "optimizer.lr")


def titles(rows: list[Row], width: int, params: tuple[str, ...] = PARAMS) -> tuple[list[str], list[str]]:
    """Columns that fit, and those left out."""
    columns, _ = leaderboard_columns(rows, value_titles=["best/age_mae"], params=params)
    shown, left_out = fitted(columns, width)
    return [column.title for column in shown], [column.title for column in left_out]


def test_with_room_everything_is_shown_in_order() -> None:
    assert titles(ROWS, 200) == (
        ["#", "trial", "model", "lr", "drop_path", "age_mae", "gender_acc", "race_acc", "epochs", "outcome"],
        [],
    )


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (91, ["model", "lr", "drop_path", "age_mae", "gender_acc", "race_acc", "epochs"]),
        (83, ["model", "lr", "drop_path", "age_mae", "gender_acc", "race_acc"]),
        (73, ["model", "lr", "drop_path", "age_mae", "gender_acc"]),
        (61, ["model", "lr", "drop_path", "age_mae"]),
        (56, ["model", "lr", "age_mae", "epochs"]),  # a wide column gives way to a narrow one
        (10, ["age_mae"]),
    ],
)
def test_without_room_the_least_telling_goes_first(width: int, shown: list[str]) -> None:
    assert titles(ROWS, width)[0] == ["#", "trial", *shown, "outcome"]


def test_age_encoding_and_learning_rate_come_before_other_settings_and_figures() -> None:
    params = ("optimizer.momentum", "batch_size", "optimizer.lr", "age.encoding", "model.name")
    columns, _ = leaderboard_columns([row(0, {})], value_titles=["best/age_mae"], params=params)
    ranked = [column.title for column in sorted(columns, key=lambda column: column.rank) if column.rank]
    assert ranked[:3] == ["model", "age", "lr"]
    assert {"momentum", "batch_size"} <= set(ranked[3:])


def test_variants_and_several_sweeps_have_columns_of_their_own() -> None:
    found, _ = titles([row(0, {}, variant="plain"), row(1, {}, sweep_id="other-20260102-030405-beef")], 200, ())

    assert found[:4] == ["#", "trial", "sweep", "variant"]


def test_an_empty_leaderboard_has_a_table_too() -> None:
    assert titles([], 100, ()) == (["#", "trial", "age_mae", "epochs", "outcome"], [])


def test_titles_are_short_unless_two_would_be_the_same() -> None:
    assert param_titles(["model.name", "optimizer.name", "age.encoding", "age.bins", "optimizer.lr"]) == {
        "model.name": "model",
        "optimizer.name": "optimizer",
        "age.encoding": "age",
        "age.bins": "bins",
        "optimizer.lr": "lr",
    }
    assert param_titles(["sampler.bins", "age.bins", "seed"]) == {
        "sampler.bins": "sampler.bins",
        "age.bins": "age.bins",
        "seed": "seed",
    }
