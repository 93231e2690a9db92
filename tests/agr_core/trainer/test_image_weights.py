"""Weights of images by the frequency of their labels, against loops over the images and SciPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from agr_core.batch import Labels
from agr_core.bins import Bins
from agr_core.config import LossConfig, Task, TrialConfig
from agr_core.errors import DataError
from agr_core.labels.attributes import Vocabulary
from agr_core.trainer.image_weights import ImageWeights, complement_weights, density_weights, image_weights

VOCABULARY = Vocabulary(("male", "female"), ("White", "Black", "Asian"))
counts = st.lists(st.integers(0, 50), min_size=117, max_size=117).filter(any).map(np.array)


def labels(ages: list[float], genders: list[int] | None = None, races: list[int] | None = None) -> Labels:
    age = torch.tensor(ages)
    unknown = [-1] * len(ages)
    return Labels(
        age=age, age_low=age, age_high=age, gender=torch.tensor(genders or unknown), race=torch.tensor(races or unknown)
    )


def weights_for(train: Labels, *, tasks: tuple[Task, ...] = ("age", "gender"), **loss: Any) -> ImageWeights:
    bins, device = Bins.from_spec("utk4"), torch.device("cpu")
    return image_weights(LossConfig(**loss), train, tasks=tasks, bins=bins, vocabulary=VOCABULARY, device=device)


def test_complement_weights_are_one_minus_the_share_over_their_mean() -> None:
    # Four classes of report S4's data (S4-Z3): 3413, 1180, 16424, 2688 of 23705.
    images = np.array([3413, 1180, 16424, 2688])
    by_hand = np.array([1 - n / 23705 for n in images])
    weights = complement_weights(images)
    assert weights / weights[0] == pytest.approx(by_hand / by_hand[0])
    assert weights @ images / images.sum() == pytest.approx(1.0)


def test_a_class_weight_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="every training image the weight 0, because all are of one gender: set"):
        weights_for(labels([1.0, 30.0], [1, 1]), class_weights="complement")


def test_what_is_not_trained_is_not_weighed_and_may_be_of_one_class() -> None:
    train = labels([1.0, 30.0], [1, 1])
    weights = weights_for(train, tasks=("age",), class_weights="complement")
    assert weights.of("gender", train) is None
    assert weights.of("age", train) is not None


@given(images=counts, root=st.booleans())
@settings(deadline=None, max_examples=30)
def test_density_weights_are_inverse_to_the_number_of_images_of_the_year(images: Any, root: bool) -> None:
    weights = density_weights(images, root=root)
    share = {year: 1 / (math.sqrt(n) if root else n) for year, n in enumerate(images) if n}
    mean = sum(share[year] * images[year] for year in share) / images.sum()
    assert weights.tolist() == pytest.approx([share.get(year, 0.0) / mean for year in range(117)])


@given(images=counts)
@settings(deadline=None, max_examples=30)
def test_lds_is_inverse_to_the_density_smoothed_by_a_gaussian(images: Any) -> None:
    kernel = np.exp(-(np.array([-2, -1, 0, 1, 2]) ** 2) / 8)
    smoothed = ndimage.convolve1d(images.astype(float), kernel, mode="constant")
    weights = density_weights(images, smooth=True)
    some = images > 0
    assert weights[some] * smoothed[some] == pytest.approx(np.full(some.sum(), weights[some][0] * smoothed[some][0]))
    assert weights @ images / images.sum() == pytest.approx(1.0)


def test_a_rare_year_beside_a_frequent_one_weighs_less_after_smoothing() -> None:
    images = np.zeros(117, dtype=int)
    images[[30, 31, 80]] = 1000, 10, 10
    plain, smooth = density_weights(images), density_weights(images, smooth=True)
    assert plain[31] == plain[80]
    assert smooth[31] < smooth[80]


@pytest.mark.parametrize("loss", [{"class_weights": "complement"}, {"age_density": "lds"}, {"age_density": "inverse"}])
def test_every_task_keeps_the_mean_weight_1_over_the_training_part(loss: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    train = labels([*rng.integers(0, 130, 200).astype(float), math.nan], [0] * 60 + [1] * 140 + [-1], [0, 1, 2] * 67)
    weights = weights_for(train, tasks=("age", "gender", "race"), **loss)
    for task, known in (("age", ~torch.isnan(train.age)), ("gender", train.gender >= 0), ("race", train.race >= 0)):
        of = weights.of(task, train)  # type: ignore[arg-type]
        if of is not None:
            assert torch.isfinite(of).all()
            assert of[known].mean().item() == pytest.approx(1.0, rel=1e-5), task
    assert (weights.of("gender", train) is None) == ("class_weights" not in loss)


def test_class_weights_weigh_the_age_bins_and_a_density_takes_their_place() -> None:
    train = labels([5.0, 6.0, 7.0, 15.0], [0, 1, 0, 1])
    by_bin = weights_for(train, class_weights="complement").of("age", train)
    assert by_bin is not None
    assert by_bin.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3, 2.0])
    both = weights_for(train, class_weights="complement", age_density="inverse")
    by_year = both.of("age", train)
    assert by_year is not None
    assert by_year.tolist() == pytest.approx([1.0] * 4)
    assert both.of("gender", train) is not None


def test_regression_has_no_age_classes_to_weigh() -> None:
    document: dict[str, Any] = {"age": {"encoding": "regression"}, "loss": {"class_weights": "complement"}}
    with pytest.raises(ValueError, match=r"by their bin, but age.encoding=regression has none: set loss.age_density"):
        TrialConfig.from_document(document)
    document["loss"]["age_density"] = "lds"
    assert TrialConfig.from_document(document).loss.age_density == "lds"
