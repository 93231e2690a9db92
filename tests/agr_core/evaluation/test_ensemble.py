"""Averages of predictions, by hand and by the age encodings themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from agr_core.bins import Bins
from agr_core.config import TrialConfig
from agr_core.evaluation.ensemble import averaged, selected, tasks_of
from agr_core.evaluation.predictions import AgeShares, Classified, Predictions
from agr_core.labels.encodings import build_encoding

GENDERS = ("male", "female")
EDGES = Bins.from_spec("utk7").edges
IDS = ("a", "b", "c")


def of_gender(female: list[float]) -> Predictions:
    shares = np.array([[1 - share, share] for share in female], dtype=np.float32)
    true = np.array([1, 0, -1])
    return Predictions(IDS, classes={"gender": Classified(GENDERS, true, shares.argmax(axis=1), shares)})


def of_ages(shares: Any) -> Predictions:
    ages = np.array([20, 30, np.nan], dtype=np.float32)
    years = {"age_low": ages, "age_high": ages, "age_predicted": (shares @ Bins(EDGES).centers).astype(np.float32)}
    return Predictions(IDS, years={**years, "age_std": ages}, age_shares=AgeShares(EDGES, shares))


def drawn(seed: int) -> Any:
    return np.random.default_rng(seed).dirichlet(np.ones(len(EDGES)) / 3, len(IDS)).astype(np.float32)


def test_one_sure_model_outvotes_two_unsure_ones() -> None:
    together = averaged([of_gender([0.45, 0.1, 0.6]), of_gender([0.45, 0.2, 0.6]), of_gender([0.9, 0.3, 0.1])])

    gender = together.classes["gender"]
    assert gender.probabilities is not None
    assert gender.probabilities[:, 1] == pytest.approx([0.6, 0.2, 1.3 / 3])
    assert gender.predicted.tolist() == [1, 0, 0]
    assert gender.true.tolist() == [1, 0, -1]


@pytest.mark.parametrize("decode", ["argmax", "median"])
def test_ages_are_decoded_from_the_mean_distribution_as_their_encoding_decodes(decode: Any) -> None:
    shares = [drawn(seed) for seed in (1, 2, 3)]
    config = TrialConfig.from_document({"age": {"encoding": "onehot", "bins": "utk7", "decode": decode}})
    mean = torch.tensor(np.mean([each.astype(np.float64) for each in shares], axis=0))
    by_encoding = build_encoding(config.age).years(mean.log())

    together = averaged([of_ages(each) for each in shares], decode)

    assert together.years["age_predicted"] == pytest.approx(by_encoding.numpy())
    assert together.age_shares is not None
    assert together.age_shares.probabilities == pytest.approx(mean.numpy(), abs=1e-6)


def test_the_mean_of_expected_ages_is_the_expectation_of_the_mean_distribution() -> None:
    shares = [drawn(seed) for seed in (4, 5)]

    together = averaged([of_ages(each) for each in shares])

    assert together.years["age_predicted"] == pytest.approx(np.mean(shares, axis=0) @ Bins(EDGES).centers, rel=1e-6)
    assert "age_std" not in together.years
    assert together.years["age_low"].tolist()[:2] == [20, 30]


def test_selected_images_and_tasks_keep_their_values() -> None:
    both = replace(of_gender([0.45, 0.1, 0.6]), years=of_ages(drawn(1)).years, age_shares=of_ages(drawn(1)).age_shares)
    assert tasks_of(both) == ("age", "gender")

    genders, ages = (selected(both, np.array([2, 0]), [task]) for task in ("gender", "age"))

    assert (genders.sample_ids, genders.years, genders.age_shares) == (("c", "a"), {}, None)
    assert genders.classes["gender"].true.tolist() == [-1, 1]
    assert genders.classes["gender"].probabilities == pytest.approx(np.array([[0.4, 0.6], [0.55, 0.45]]))
    assert tasks_of(ages) == ("age",)
    assert ages.age_shares is not None
    assert ages.age_shares.probabilities == pytest.approx(drawn(1)[[2, 0]])
