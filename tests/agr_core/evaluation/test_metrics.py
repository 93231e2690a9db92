"""A part's figures: names as announced, values as scikit-learn's, independent of how the part was cut into batches."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from parts import ENCODINGS, FAIRFACE_RANGES, VOCABULARY, config_of, labels_of, logits_of, part_of
from sklearn import metrics as reference
from torch import Tensor

from agr_core.batch import Labels
from agr_core.bins import SCHEMES
from agr_core.config import LossWeights
from agr_core.errors import DivergedError
from agr_core.evaluation.metrics import PartMetrics
from agr_core.evaluation.names import (
    GPU_MEMORY,
    LEARNING_RATE,
    MAIN_MEMORY,
    REPORTING_SCHEMES,
    TIME_METRICS,
    allowed_schemes,
    metric_names,
)
from agr_core.labels.attributes import GENDERS, UTKFACE_RACES
from agr_core.labels.encodings import build_encoding

TASKS = [("age", "gender", "race"), ("age",), ("gender",), ("race", "gender")]
TRAINABLE = [pair for pair in itertools.product(ENCODINGS, TASKS) if pair != ("joint_gender", ("age",))]
"""Joint classes of age and gender are refused where gender is no task."""


@pytest.mark.parametrize("kind", ["exact", "range"])
@pytest.mark.parametrize(("encoding", "tasks"), TRAINABLE)
def test_a_trial_reports_exactly_the_announced_names(encoding: str, kind: Any, tasks: tuple[str, ...]) -> None:
    config = config_of(encoding, tasks)
    schemes = allowed_schemes(kind, FAIRFACE_RANGES)
    labels, logits = labels_of(200, kind=kind), logits_of(config, 200)  # someone in every group
    train, no_tables = part_of(config, labels, logits, kind=kind, schemes=schemes, brief=True)
    val, tables = part_of(config, labels, logits, kind=kind, schemes=schemes)
    reported = {
        *TIME_METRICS,
        MAIN_MEMORY,
        GPU_MEMORY,
        LEARNING_RATE,
        *(f"train/{name}" for name in train),
        *(f"val/{name}" for name in val),
    }
    assert reported == metric_names(config, kind, schemes=schemes, vocabulary=VOCABULARY)
    assert reported <= metric_names(config, None)
    assert not no_tables
    assert set(tables) == {f"{task}_confusion" for task in tasks}
    assert all(type(value) is float and math.isfinite(value) for value in (train | val).values())


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_figures_on_exact_ages_equal_scikit_learns(encoding: str) -> None:
    config = config_of(encoding)
    labels, logits = labels_of(500, kind="exact"), logits_of(config, 500)
    metrics, tables = part_of(config, labels, logits, kind="exact")

    ages, years = labels.age.numpy(), build_encoding(config.age).years(logits["age"]).numpy()
    assert metrics["age_mae"] == pytest.approx(reference.mean_absolute_error(ages, years), rel=1e-6)
    assert metrics["age_cs5"] == pytest.approx(np.mean(np.abs(ages - years) <= 5))
    for scheme in REPORTING_SCHEMES:
        true, predicted = (np.digitize(np.floor(values + 0.5), SCHEMES[scheme]) - 1 for values in (ages, years))
        assert metrics[f"age_acc.{scheme}"] == pytest.approx(reference.accuracy_score(true, predicted))
        f1 = reference.f1_score(true, predicted, average="macro", zero_division=0)
        assert metrics[f"age_f1.{scheme}"] == pytest.approx(f1)
        assert metrics[f"age_acc1off.{scheme}"] == pytest.approx(np.mean(np.abs(true - predicted) <= 1))
        if scheme == "utk7":
            confusion = reference.confusion_matrix(true, predicted, labels=range(7))
            assert tables["age_confusion"]["counts"] == confusion.tolist()
            assert tables["age_confusion"]["labels"][0] == "0-2"

    if encoding == "joint_gender":
        logits |= build_encoding(config.age).other_tasks(logits["age"])
    for task, classes in (("gender", GENDERS), ("race", UTKFACE_RACES)):
        true, predicted = getattr(labels, task).numpy(), logits[task].argmax(dim=1).numpy()
        scores = reference.precision_recall_fscore_support(true, predicted, average="macro", zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), scores, strict=False):
            assert metrics[f"{task}_{name}"] == pytest.approx(value)
        assert metrics[f"{task}_acc"] == pytest.approx(reference.accuracy_score(true, predicted))
        assert metrics[f"{task}_majority"] == np.bincount(true).max() / 500
        assert metrics[f"{task}_constancy"] == np.bincount(predicted).max() / 500
        assert tables[f"{task}_confusion"] == {
            "labels": list(classes),
            "counts": reference.confusion_matrix(true, predicted).tolist(),
        }


def test_a_score_of_a_gender_says_of_which_and_takes_it_as_the_positive_class() -> None:
    config = config_of(tasks=("gender",))
    labels, logits = labels_of(300, kind="exact"), logits_of(config, 300)
    metrics, _ = part_of(config, labels, logits, kind="exact")
    true, predicted = labels.gender.numpy(), logits["gender"].argmax(dim=1).numpy()
    for positive, name in enumerate(GENDERS):
        for figure, score in (
            ("precision", reference.precision_score),
            ("recall", reference.recall_score),
            ("f1", reference.f1_score),
        ):
            expected = score(true, predicted, pos_label=positive)
            assert metrics[f"gender_{figure}.{name}"] == pytest.approx(expected)


@pytest.mark.parametrize("encoding", ["onehot", "ordinal", "label_distribution"])
def test_own_bin_figures_come_from_the_outputs_and_not_from_decoded_years(encoding: str) -> None:
    config = config_of(encoding)
    labels, logits = labels_of(400, kind="exact"), logits_of(config, 400)
    metrics, _ = part_of(config, labels, logits, kind="exact")
    true = np.digitize(labels.age.numpy(), SCHEMES["fairface9"]) - 1
    outputs = logits["age"].numpy()
    predicted = (outputs > 0).sum(axis=1) if encoding == "ordinal" else outputs.argmax(axis=1)
    assert metrics["age_acc"] == pytest.approx(reference.accuracy_score(true, predicted))
    assert metrics["age_f1"] == pytest.approx(reference.f1_score(true, predicted, average="macro", zero_division=0))


def test_figures_that_only_one_encoding_has_are_means_over_the_images_that_have_them() -> None:
    for name in ("younger_than", "joint_gender"):
        config = config_of(name)
        encoding = build_encoding(config.age)
        labels, logits = labels_of(300, kind="exact", unknown=0.3), logits_of(config, 300)
        metrics, _ = part_of(config, labels, logits, kind="exact")
        assert config.age.extra_metrics
        for figure in config.age.extra_metrics:
            shares = encoding.extra_figures(logits["age"], labels)[figure].numpy()
            assert np.isnan(shares).any()
            assert metrics[figure] == pytest.approx(shares[~np.isnan(shares)].mean(), rel=1e-6)


def outputs_of(years: Tensor) -> Tensor:
    """What a regression head gives for ages (B, 1), by the defaults of its configuration."""
    return (years.unsqueeze(1) - 35) / 20


def test_an_estimate_just_below_an_edge_counts_as_the_year_it_is_nearest_to() -> None:
    config = config_of("regression", ("age",))
    ages = torch.tensor([3.0, 15.0, 66.0])  # lowest years of their utk7 bins
    labels = Labels(age=ages, age_low=ages, age_high=ages, gender=ages.long() * 0, race=ages.long() * 0)
    metrics, _ = part_of(config, labels, {"age": outputs_of(ages - 0.01)}, kind="exact")
    assert metrics["age_acc.utk7"] == 1.0


def test_on_ranges_the_error_is_the_distance_to_the_range() -> None:
    config = config_of("regression", ("age",))
    low, high = torch.tensor([20.0, 20.0, 60.0, 3.0]), torch.tensor([29.0, 29.0, 69.0, 9.0])
    labels = Labels((low + high) / 2, low, high, torch.zeros(4).long(), torch.zeros(4).long())
    logits = {"age": outputs_of(torch.tensor([21.0, 29.0, 50.0, 15.0]))}  # inside, at the end, 10 below, 6 above
    metrics, tables = part_of(config, labels, logits, kind="range", schemes=("fairface9",))
    assert metrics["age_interval_mae"] == pytest.approx(4.0, abs=1e-4)
    assert metrics["age_cs5"] == 0.5
    assert metrics["age_acc.fairface9"] == 0.5
    assert metrics["age_acc1off.fairface9"] == 1.0
    assert "age_mae" not in metrics
    assert len(tables["age_confusion"]["labels"]) == 9


def test_unknown_labels_are_left_out_of_every_figure() -> None:
    config = config_of()
    labels, logits = labels_of(300, kind="exact", unknown=0.4), logits_of(config, 300)
    metrics, _ = part_of(config, labels, logits, kind="exact", batch_size=300)
    for task in config.tasks:
        known = ~torch.isnan(labels.age) if task == "age" else getattr(labels, task) >= 0
        assert 0 < known.sum() < 300
        kept = Labels(*(getattr(labels, name)[known] for name in ("age", "age_low", "age_high", "gender", "race")))
        alone, _ = part_of(
            config_of(tasks=(task,)), kept, {task: logits[task][known]}, kind="exact", batch_size=int(known.sum())
        )
        own = {name for name in alone if name != "loss" and "images" not in name}
        assert {name: metrics[name] for name in own} == pytest.approx({name: alone[name] for name in own})


def test_figures_without_a_known_label_are_absent() -> None:
    config = config_of()
    labels = labels_of(20, kind="exact", unknown=1.0)
    metrics, tables = part_of(config, labels, logits_of(config, 20), kind="exact")
    assert metrics.keys() == {"images"}
    assert not tables


def test_a_part_without_batches_has_no_figures() -> None:
    assert PartMetrics(None, ("gender",), VOCABULARY, "exact").compute() == ({}, {})


def test_batches_of_any_size_give_the_same_figures() -> None:
    config = config_of()
    labels, logits = labels_of(103, kind="exact", unknown=0.2), logits_of(config, 103)
    whole, whole_tables = part_of(config, labels, logits, kind="exact", batch_size=103)
    cut, cut_tables = part_of(config, labels, logits, kind="exact", batch_size=10)
    losses = {name for name in whole if name.endswith("loss")}
    assert {name: cut[name] for name in whole.keys() - losses} == {name: whole[name] for name in whole.keys() - losses}
    assert {name: cut[name] for name in losses} == pytest.approx({name: whole[name] for name in losses}, rel=1e-5)
    assert cut_tables == whole_tables


def test_the_total_loss_is_the_weighted_sum_of_the_tasks_whatever_labels_are_unknown() -> None:
    config = config_of()
    labels, logits = labels_of(103, kind="exact"), logits_of(config, 103)
    labels.gender[:60] = -1  # whole batches without a gender, as where a data set is in the order of its people
    weights = LossWeights(age=0.5, gender=3.0, race=0.0)
    metrics, _ = part_of(config, labels, logits, kind="exact", batch_size=10, loss_weights=weights)
    assert metrics["loss"] == pytest.approx(0.5 * metrics["age_loss"] + 3 * metrics["gender_loss"], rel=1e-5)


def test_where_all_labels_are_known_the_total_loss_is_the_mean_of_the_batches_totals_to_the_last_bit() -> None:
    config = config_of()
    labels, logits = labels_of(103, kind="exact"), logits_of(config, 103)
    means, _ = part_of(config, labels, logits, kind="exact", batch_size=10, loss_weights=None)
    metrics, _ = part_of(config, labels, logits, kind="exact", batch_size=10)
    assert metrics["loss"] == means["loss"]


def test_the_total_loss_in_training_weighs_batches_by_their_images() -> None:
    part = PartMetrics(None, ("gender",), VOCABULARY, "exact")
    for images, loss in ((3, 1.0), (1, 5.0)):
        labels = labels_of(images, kind="exact")
        part.update({"gender": torch.zeros(images, 2)}, labels, {"gender": torch.tensor(loss)}, torch.tensor(2 * loss))
    metrics, _ = part.compute()
    assert metrics["gender_loss"] == pytest.approx(2.0)
    assert metrics["loss"] == pytest.approx(4.0)


def test_ranges_that_fit_no_reporting_scheme_still_have_an_error_in_years() -> None:
    assert allowed_schemes("range", [(0, 116)]) == ()
    config = config_of("regression", ("age",))
    metrics, tables = part_of(config, labels_of(30, kind="range"), logits_of(config, 30), kind="range", schemes=())
    figures = {name.partition(".")[0] for name in metrics}
    assert figures == {
        "loss", "age_loss", "age_interval_mae", "age_cs5", "age_majority", "age_constancy", "images",
    }  # fmt: skip
    assert not [name for name in metrics if "by_age" in name]
    assert not tables


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_outputs_that_are_not_finite_end_the_part(bad: float) -> None:
    config = config_of(tasks=("age",))
    labels, logits = labels_of(8, kind="exact"), logits_of(config, 8)
    logits["age"][3, 0] = bad
    with pytest.raises(DivergedError, match="diverged"):
        part_of(config, labels, logits, kind="exact")


def test_age_without_an_encoding_is_refused() -> None:
    with pytest.raises(ValueError, match="age metrics need one to decode years"):
        PartMetrics(None, ("age", "gender"), VOCABULARY, "exact")
