"""What stored weights say of a part, and the baseline it is held against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from agr_core.batch import AgeLabels
from agr_core.errors import CheckpointError
from agr_core.evaluation.per_image import image_values
from agr_core.evaluation.predictions import Predictions
from agr_core.objective import Objective
from agr_core.trainer.evaluation import further_parts
from agr_core.trainer.loop import Training, evaluate_part, majority_baseline

from .conftest import BASIC_CNN, BEST, SAID, MakeConfig, saved, trained


def test_stored_weights_evaluate_to_the_figures_reported_in_training(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = make_config()
    training = trained(Training(config, data, objective))
    training.save(tmp_path)
    assert training.best_epoch is not None
    best = training.reports[training.best_epoch - 1]
    again = evaluate_part(config, data, tmp_path / "best.safetensors", "val")
    assert dict(again.metrics) == {name: value for name, value in best.metrics.items() if name.startswith("val/")}
    assert again.tables == best.tables


@pytest.mark.parametrize("model", [BASIC_CNN, {"name": "cascade", "base": BASIC_CNN}], ids=["one network", "a cascade"])
def test_what_is_kept_of_the_val_part_gives_the_best_epochs_figures_again(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path, model: dict[str, Any]
) -> None:
    config = make_config(tasks=["age", "gender", "race"], model=model, averaging={"name": "ema", "decay": 0.8})
    training = trained(Training(config, data, objective))
    training.save(tmp_path)
    assert training.best_epoch is not None
    best = training.reports[training.best_epoch - 1].metrics

    said = Predictions.from_parquet((tmp_path / SAID).read_bytes(), source=SAID)

    assert said.sample_ids == tuple(data.sample_ids("val"))
    told = {}
    for name in best:
        values = image_values(said, name.removeprefix("val/")) if name.startswith("val/") else None
        if values is not None:
            told[name] = pytest.approx(values[~torch.isnan(torch.from_numpy(values)).numpy()].mean(), abs=1e-12)
    assert {name: best[name] for name in told} == told
    assert told.keys() >= {
        *("val/age_mae", "val/age_cs5", "val/age_f1.utk7", "val/age_acc.adience8", "val/age_acc1off.utk4"),
        *("val/gender_acc", "val/gender_f1", "val/race_acc", "val/race_recall", "val/race_precision"),
    }
    again = evaluate_part(config, data, tmp_path / BEST, "val").predictions
    assert again.to_parquet() == (tmp_path / SAID).read_bytes()


def test_the_test_part_is_named_in_its_figures(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = saved(make_config, data, objective, tmp_path)
    report = evaluate_part(config, data, tmp_path / "best.safetensors", "test")
    assert {name.split("/")[0] for name in [*report.metrics, *report.tables]} == {"test"}
    assert sum(map(sum, report.tables["test/gender_confusion"]["counts"])) == data.counts["test"]


def test_a_foreign_part_is_judged_by_its_own_kind_of_ages(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = saved(make_config, data, objective, tmp_path)
    own = {"loss", "age_loss", "age_acc", "age_f1"}

    def figures(*ranges: tuple[float, float]) -> set[str]:
        data.counts["test.far"] = 12
        data.foreign["test.far"] = AgeLabels("range", list(ranges))
        report = evaluate_part(config, data, tmp_path / "best.safetensors", "test.far")
        assert {name.split("/")[0] for name in report.metrics} == {"test.far"}
        return {name.removeprefix("test.far/") for name in report.metrics}

    whole, cut = figures((0, 2), (41, 65)), figures((0, 2), (20, 45))  # utk7 has an edge at 41
    assert "age_interval_mae" in whole & cut
    assert "age_mae" not in whole | cut
    assert whole >= own
    assert not any(name.split(".")[0] in own and "utk" not in name for name in cut)
    assert {"gender_loss", "race_acc"} <= cut
    assert "age_acc.utk7" in whole - cut


def test_weights_of_another_model_are_refused(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    saved(make_config, data, objective, tmp_path)
    other = make_config(model={**BASIC_CNN, "hidden": 17})
    with pytest.raises(CheckpointError, match="are of another model"):
        evaluate_part(other, data, tmp_path / "best.safetensors", "val")


@pytest.mark.parametrize("content", [None, b"not safetensors"])
def test_weights_that_cannot_be_read_are_refused(
    make_config: MakeConfig, data: Any, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "best.safetensors"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CheckpointError, match="cannot be read"):
        evaluate_part(make_config(), data, file, "val")


def test_the_baseline_is_the_mean_age_and_the_most_frequent_class_of_training(data: Any) -> None:
    train, val = data.labels("train"), data.labels("val")
    figures = majority_baseline(data)
    assert figures["val/age_mae"] == pytest.approx((val.age - train.age.mean()).abs().mean().item(), rel=1e-6)
    assert figures["val/gender_acc"] == pytest.approx((val.gender == train.gender.mode().values).float().mean().item())
    assert figures["val/race_acc"] == pytest.approx((val.race == train.race.mode().values).float().mean().item())


def test_a_part_changed_as_in_training_has_figures_of_its_own_name_and_each_image_its_own_label(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = make_config(mixup={"alpha": 0.4})
    training = trained(Training(config, data, objective))
    training.save(tmp_path)
    plain = evaluate_part(config, data, tmp_path / BEST, "val")
    mixed = evaluate_part(config, data, tmp_path / BEST, "val", augmented=True)
    assert mixed.part == "val_augmented"
    assert {name.partition("/")[0] for name in mixed.metrics} == {"val_augmented"}
    assert mixed.metrics["val_augmented/age_majority"] == plain.metrics["val/age_majority"]
    assert mixed.metrics["val_augmented/age_mae"] != plain.metrics["val/age_mae"]
    assert evaluate_part(config, data, tmp_path / BEST, "val", augmented=True).metrics == mixed.metrics


def test_the_train_part_has_all_figures_of_val(
    make_config: MakeConfig, data: Any, objective: Objective, tmp_path: Path
) -> None:
    config = make_config(evaluate={"train": True, "augment": True})
    training = trained(Training(config, data, objective))
    training.save(tmp_path)
    report = evaluate_part(config, data, tmp_path / BEST, "train")
    assert {"train/age_acc", "train/gender_f1", "train/loss"} <= report.metrics.keys()
    assert report.metrics["train/images"] == data.counts["train"]
    assert further_parts(config.evaluate, ["val", "test"]) == [("train", False), ("val", True), ("test", True)]
    assert further_parts(config.evaluate, ["val"]) == [("train", False), ("val", True)]
    assert further_parts(make_config().evaluate, ["val", "test"]) == []
