from __future__ import annotations

import itertools

import pytest
from pydantic import ValidationError

from agr_core.errors import ConfigError
from agr_core.objective import Objective, objective_names, weighted_sums
from agr_core.reporting import EpochReport

MAE = Objective(metric="val/age_mae", direction="minimize")


def report(epoch: int, **metrics: float) -> EpochReport:
    return EpochReport(epoch=epoch, metrics={f"val/{name}": value for name, value in metrics.items()})


def test_the_value_of_a_single_metric_is_the_metric() -> None:
    assert MAE.value({"val/age_mae": 5.5, "val/loss": 1.0}) == 5.5
    assert (MAE.name, MAE.formula, dict(MAE.weights)) == ("val/age_mae", "val/age_mae", {"val/age_mae": 1.0})
    assert MAE.weighted_sum({"val/age_mae": 5.5}) == {}


def test_weights_make_a_sum() -> None:
    both = Objective(metric={"val/age_acc": 1, "val/gender_acc": 0.5}, direction="maximize")
    metrics = {"val/age_acc": 0.5, "val/gender_acc": 0.25}
    assert both.value(metrics) == 0.625
    assert both.name == "val/objective"
    assert both.formula == "val/age_acc + 0.5 val/gender_acc"
    assert both.weighted_sum(metrics) == {"val/objective": 0.625}


def test_the_order_of_the_weights_does_not_matter_to_the_last_bit() -> None:
    metrics = {"val/a": 0.1, "val/b": 0.2, "val/c": 0.3, "val/d": -0.6}
    values = {
        Objective(metric=dict.fromkeys(order, 1.0), direction="minimize").value(metrics)
        for order in itertools.permutations(metrics)
    }
    assert len(values) == 1


def test_the_sum_is_taken_of_other_parts_too_where_all_figures_are_there() -> None:
    both = Objective(metric={"val/age_acc": 2, "val/gender_acc": 1}, direction="maximize")
    assert both.weighted_sum({"test/age_acc": 0.25, "test/gender_acc": 0.5}, part="test") == {"test/objective": 1.0}
    assert both.weighted_sum({"test/age_acc": 0.25}, part="test") == {}


def test_the_best_epoch_is_the_one_with_the_best_sum() -> None:
    both = Objective(metric={"val/age_loss": 1, "val/gender_loss": 1}, direction="minimize")
    reports = [
        report(1, age_loss=1.0, gender_loss=3.0),
        report(2, age_loss=2.0, gender_loss=1.5),
        report(3, age_loss=3.5, gender_loss=0.0),
    ]
    best = both.best(reports)
    assert best is not None
    assert best.epoch == 2


def test_a_part_that_nobody_reports_is_named() -> None:
    both = Objective(metric={"val/age_acc": 1, "val/gender_ac": 1}, direction="maximize")
    with pytest.raises(ConfigError, match=r"'val/gender_ac', which no epoch reported\. Did you mean 'val/gender_acc'"):
        both.value({"val/age_acc": 0.5, "val/gender_acc": 0.5})


@pytest.mark.parametrize(("metric", "words"), [({}, "no metric given"), ({"val/loss": 0}, "has the weight 0")])
def test_weights_without_effect_are_refused(metric: dict[str, float], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Objective(metric=metric, direction="minimize")


def test_of_several_objectives_each_sum_has_a_name_of_its_own() -> None:
    accuracies = Objective(metric={"val/age_acc": 1, "val/gender_acc": 1}, direction="maximize")
    losses = Objective(metric={"val/age_loss": 1, "val/gender_loss": 2}, direction="minimize")

    assert objective_names([MAE, accuracies, losses]) == ("val/age_mae", "val/objective_2", "val/objective_3")
    assert objective_names([accuracies, MAE]) == ("val/objective", "val/age_mae")
    metrics = {
        "val/age_mae": 5.0,
        "val/age_acc": 0.5,
        "val/gender_acc": 0.75,
        "val/age_loss": 1.0,
        "val/gender_loss": 3.0,
    }
    assert weighted_sums([accuracies, MAE, losses], metrics) == {"val/objective": 1.25, "val/objective_3": 7.0}
    test = {name.replace("val/", "test/"): value for name, value in metrics.items() if "loss" not in name}
    assert weighted_sums([accuracies, MAE, losses], test, part="test") == {"test/objective": 1.25}
