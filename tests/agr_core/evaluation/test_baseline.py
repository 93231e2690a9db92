"""The predictor that looks at no image, against scikit-learn's dummies."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyClassifier, DummyRegressor

from agr_core.batch import Labels
from agr_core.evaluation.baseline import baseline


def labels_of(images: int, *, seed: int) -> Labels:
    rng = np.random.default_rng(seed)
    age = torch.tensor(rng.gamma(3.0, 11.0, images), dtype=torch.float32)
    gender = torch.tensor(rng.choice([0, 1], images, p=[0.4, 0.6]))
    race = torch.tensor(rng.choice(5, images, p=[0.3, 0.4, 0.1, 0.1, 0.1]))
    return Labels(age=age, age_low=age, age_high=age, gender=gender, race=race)


def test_it_predicts_the_training_parts_mean_age_and_most_frequent_classes() -> None:
    train, val = labels_of(400, seed=1), labels_of(150, seed=2)
    figures = baseline(train, val, tasks=("age", "gender", "race"), label_kind="exact")
    blind = np.zeros((400, 1)), np.zeros((150, 1))
    mean_age = DummyRegressor(strategy="mean").fit(blind[0], train.age).predict(blind[1])
    expected = {"val/age_mae": np.abs(mean_age - val.age.numpy()).mean()}
    for task in ("gender", "race"):
        dummy = DummyClassifier(strategy="most_frequent").fit(blind[0], getattr(train, task))
        expected[f"val/{task}_acc"] = dummy.score(blind[1], getattr(val, task))
    assert figures == pytest.approx(expected, rel=1e-6)


def test_on_ranges_it_is_measured_to_the_range() -> None:
    nobody = torch.full((2,), -1)
    train = Labels(*(torch.tensor([28.5, 40.5]),) * 3, nobody, nobody)  # mean 34.5
    low, high = torch.tensor([25.0, 38.0]), torch.tensor([32.0, 43.0])
    val = Labels((low + high) / 2, low, high, nobody, nobody)
    figures = baseline(train, val, tasks=("age",), label_kind="range")
    assert figures == {"val/age_interval_mae": pytest.approx((2.5 + 3.5) / 2)}


def test_unknown_labels_do_not_count_and_figures_without_any_are_absent() -> None:
    ages = torch.tensor([20.0, math.nan, 40.0])
    labels = Labels(ages, ages, ages, torch.tensor([-1, 1, 1]), torch.full((3,), -1))
    figures = baseline(labels, labels, tasks=("age", "gender", "race"), label_kind="exact")
    assert figures == {"val/age_mae": 10.0, "val/gender_acc": 1.0}
