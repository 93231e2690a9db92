"""``agr show``: one trial, for people and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from agr_core.objective import Objective

Recorder = Callable[..., Any]


def test_show_json_is_the_documented_shape(
    record_sweep: Recorder, agr: Callable[..., Result], embedded_mlflow: None
) -> None:
    sweep = record_sweep()
    trial = sweep.trial(0, [9.0, 7.0], params={"optimizer.name": "sgd"}, files=True)
    sweep.read_test(trial, {"test/age_mae": 7.5})

    shown = json.loads(agr("show", trial[:6], "--json").stdout)

    assert (shown["trial_id"], shown["sweep_id"], shown["outcome"]) == (trial, sweep.sweep_id, "completed")
    assert shown["run_id"] is None  # nothing was delivered
    assert shown["config"]["optimizer"]["name"] == "sgd"
    assert (shown["metrics"]["best/age_mae"], shown["metrics"]["test/age_mae"]) == (7.0, 7.5)
    assert shown["provenance"]["data_digest"] == "d" * 64
    assert shown["test_reads"] == 1
    assert "reads of the test part: 1 for this trial, 1 in its sweep" in agr("show", trial[:6], "--all").stdout


def test_show_tells_people_what_a_trial_was_and_how_it_did(record_sweep: Recorder, agr: Callable[..., Result]) -> None:
    sweep = record_sweep()
    trial = sweep.trial(0, [9.0, 7.0], params={"optimizer.name": "sgd", "optimizer.lr": 0.5})

    text = agr("show", trial, "--all").stdout

    assert text.startswith(f"{trial}  000 sgd  (completed)")
    assert "optimizer.lr     0.5  (varies)" in text
    assert "metrics of epoch 2, the best by the objective" in text
    assert ["age_mae", "7"] in [line.split() for line in text.splitlines()]
    assert "packages.torch" in text  # the driver's provenance: the trial left none


def test_show_says_why_a_trial_failed(record_sweep: Recorder, agr: Callable[..., Result]) -> None:
    sweep = record_sweep()
    trial = sweep.create(0)
    sweep.start(trial)
    sweep.end_trial(trial, "failed", [], error="no such image: [a].jpg")

    assert "reason: no such image: [a].jpg" in agr("show", trial, "--all").stdout


def test_show_has_losses_errors_and_accuracies_of_train_val_and_test_side_by_side(
    record_sweep: Recorder, agr: Callable[..., Result], embedded_mlflow: None
) -> None:
    sweep = record_sweep()
    trial = sweep.create(0)
    sweep.start(trial)
    for epoch, value in ((1, 9.0), (2, 7.0), (3, 8.0)):
        train = {"train/age_loss": value / 20, "train/age_mae": value - 1, "train/gender_acc": 0.9}
        sweep.report(trial, epoch, value, **train, **{"val/age_loss": value / 19})
    sweep.end_trial(trial, "completed", [9.0, 7.0, 8.0])
    two_columns = agr("show", trial, "--all").stdout
    assert ["train", "val"] in [line.split() for line in two_columns.splitlines()]

    test = {"test/loss": 0.8, "test/age_loss": 0.375, "test/age_mae": 7.5, "test/gender_acc": 0.75}
    sweep.read_test(trial, test)

    lines = [line.split() for line in agr("show", trial, "--all").stdout.splitlines()]
    assert ["train", "val", "test"] in lines
    # Of the second epoch, the best by the objective.
    assert ["loss", "0.7", "0.77778", "0.8"] in lines
    assert ["age_loss", "0.35", "0.36842", "0.375"] in lines
    assert ["age_mae", "6", "7", "7.5"] in lines
    assert ["gender_acc", "0.9", "0.825", "0.75"] in lines
    metrics = json.loads(agr("show", trial, "--json").stdout)["metrics"]
    assert (metrics["train/age_mae"], metrics["best/age_mae"], metrics["test/age_mae"]) == (6.0, 7.0, 7.5)


def test_show_has_a_table_for_the_groups_of_a_part(record_sweep: Recorder, agr: Callable[..., Result]) -> None:
    sweep = record_sweep()
    trial = sweep.create(0)
    sweep.start(trial)
    groups = {"val/images": 30.0, "val/images.by_race.White": 10.0, "val/images.by_race.East Asian": 20.0}
    groups |= {"val/age_mae.by_race.White": 6.0, "val/age_mae.by_race.East Asian": 7.5, "val/age_mae.gap_by_race": 1.5}
    sweep.report(trial, 1, 7.0, **groups)

    text = agr("show", trial, "--all").stdout

    table = [line.split() for line in text[text.index("val by race") :].splitlines()]
    assert ["images", "age_mae"] in table
    assert ["White", "10", "6"] in table
    assert ["East", "Asian", "20", "7.5"] in table
    assert ["gap", "1.5"] in table
    assert "by gender" not in text


def test_show_reports_each_class_of_the_best_epoch(
    record_sweep: Recorder, agr: Callable[..., Result], embedded_mlflow: None
) -> None:
    trial = record_sweep().trial(0, [9.0, 7.0], files=True)

    found = json.loads(agr("show", trial, "--json").stdout)["classes"]["val/gender_confusion"]

    # Rows are the truth: of 50 women 40 were called female, of 50 men 45 male.
    assert found["female"] == pytest.approx({"precision": 40 / 45, "recall": 0.8, "f1": 80 / 95, "images": 50})
    assert found["male"] == pytest.approx({"precision": 45 / 55, "recall": 0.9, "f1": 90 / 105, "images": 50})
    text = agr("show", trial, "--all").stdout
    table = text[text.index("val/gender, each class") :].splitlines()
    assert ["female", "0.88889", "0.8", "0.84211", "50"] in [line.split() for line in table]


def test_a_collapsed_head_and_early_stopping_are_marked(
    record_sweep: Recorder, agr: Callable[..., Result], embedded_mlflow: None
) -> None:
    sweep = record_sweep()
    sound = sweep.trial(0, [9.0])
    trial = sweep.create(1)
    sweep.start(trial)
    gender = {"val/gender_acc": 0.53, "val/gender_majority": 0.53, "val/gender_constancy": 1.0}
    sweep.report(trial, 1, 10.0, **gender, **{"memory/main_gb": 0.519})
    sweep.end_trial(trial, "completed", [10.0], stopped_early=True)

    text = agr("show", trial, "--all").stdout
    assert "warning: collapsed: the gender head gives 100.0% of the images the same answer (val)." in text
    assert "1 epoch (stopped early), 1 attempt\n" in text
    assert "last epoch: 1 s, 0.52 GB of memory\n" in text
    rows = json.loads(agr("leaderboard", "faces", "--json").stdout)
    marks = {row["trial_id"]: (len(row["warnings"]), row["stopped_early"], row["best_epoch"]) for row in rows}
    assert marks == {sound: (0, False, 1), trial: (1, True, 1)}
    lines = agr("leaderboard", "faces").stdout.splitlines()
    assert [line.split()[-2:] for line in lines[2:4]] == [["1", "completed"], ["completed", "!"]]
    assert lines[3].split()[-3] == "1*"
    assert "! has warnings: `agr show TRIAL`" in lines


def test_a_label_shows_the_epoch_it_keeps(
    record_sweep: Recorder, agr: Callable[..., Result], embedded_mlflow: None
) -> None:
    sweep = record_sweep(keep={"gender": Objective(metric="val/gender_acc", direction="maximize")})
    trial = sweep.trial(0, [9.0, 7.0], kept_epochs={"gender": 1})
    sweep.read_test(trial, {"test/age_mae": 9.5}, label="gender")

    shown = json.loads(agr("show", f"{trial[:5]}@gender", "--json").stdout)
    assert (shown["trial_id"], shown["label"], shown["best_epoch"]) == (trial, "gender", 1)
    assert (shown["metrics"]["best/age_mae"], shown["metrics"]["test/age_mae"]) == (9.0, 9.5)
    assert "metrics of epoch 1, the best by `gender`" in agr("show", f"{trial}@gender", "--all").stdout

    text = agr("show", trial, "--all").stdout
    assert "metrics of epoch 2, the best by the objective" in text
    assert f"also kept: {trial}@gender, epoch 1" in text
    assert "no epoch for 'age'" in agr("show", f"{trial}@age", code=2).output


def test_show_draws_all_pictures_of_a_trial(record_sweep: Recorder, agr: Callable[..., Result], tmp_path: Path) -> None:
    sweep = record_sweep()
    trial = sweep.trial(0, [9.0, 7.0], files=True)
    sweep.read_test(trial, {"test/age_mae": 7.5})

    agr("show", trial, "--plots", str(tmp_path / "plots"))

    names = {path.name for path in (tmp_path / "plots").iterdir()}
    assert names == {"curves.png", "tasks.png", "val_gender_confusion.png", "test_gender_confusion.png"}
    without = sweep.create(1)
    assert "stored no epoch" in agr("show", without, "--plots", str(tmp_path / "none"), code=2).stderr
    assert not (tmp_path / "none").exists()


def test_show_has_a_column_for_each_foreign_data_set(record_sweep: Recorder, agr: Callable[..., Result]) -> None:
    sweep = record_sweep()
    trial = sweep.trial(0, [9.0, 7.0], files=True)
    sweep.read_test(trial, {"test/age_mae": 7.5, "test.fair/gender_acc": 0.625, "test.fair/images": 8.0})

    lines = [line.split() for line in agr("show", trial, "--all").stdout.splitlines()]

    assert any(line[-2:] == ["test", "test.fair"] for line in lines)
    assert any(line[:1] == ["gender_acc"] and line[-1] == "0.625" for line in lines)
