"""Which columns the leaderboard's table has, and which give way when there is no room."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.cli.leaderboard_table import leaderboard_table, param_titles
from orchestrator.leaderboard import Row


def row(number: int, params: dict[str, Any], **more: Any) -> Row:
    fields: dict[str, Any] = {
        "rank": number + 1,
        "sweep_id": "faces-20260102-030405-abcd",
        "trial_id": f"{number:08x}",
        "run_id": None,
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


def titles(rows: list[Row], width: int, params: tuple[str, ...] = PARAMS) -> tuple[list[Any], int]:
    table, omitted = leaderboard_table(rows, value_titles=["best/age_mae"], params=params, width=width)
    return [column.header for column in table.columns], omitted


def test_with_room_everything_is_shown_in_order() -> None:
    assert titles(ROWS, 200) == (
        ["#", "trial", "model", "drop_path", "lr", "age_mae", "gender_acc", "race_acc", "epochs", "outcome"],
        0,
    )


@pytest.mark.parametrize(
    ("width", "shown", "omitted"),
    [
        (89, ["model", "lr", "age_mae", "gender_acc", "race_acc"], 1),
        (78, ["model", "age_mae", "gender_acc", "race_acc"], 2),
        (73, ["age_mae", "gender_acc", "race_acc"], 3),
        (62, ["age_mae", "gender_acc"], 3),
        (10, ["age_mae"], 3),
    ],
)
def test_without_room_branches_go_first_then_what_varies_everywhere_then_metrics(
    width: int, shown: list[str], omitted: int
) -> None:
    assert titles(ROWS, width) == (["#", "trial", *shown, "epochs", "outcome"], omitted)


def test_variants_and_several_sweeps_have_columns_of_their_own() -> None:
    found, _ = titles([row(0, {}, variant="plain"), row(1, {}, sweep_id="other-20260102-030405-beef")], 200, ())

    assert found[:4] == ["#", "trial", "sweep", "variant"]


def test_an_empty_leaderboard_has_a_table_too() -> None:
    assert titles([], 100, ()) == (["#", "trial", "age_mae", "epochs", "outcome"], 0)


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
