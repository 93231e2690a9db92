from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from torch.utils.data import WeightedRandomSampler

from agr_core.config import OversampleSampler, SamplerConfig, ShuffleSampler, WeightedSampler
from agr_core.data.loading.sampling import SAMPLERS, Order, draw

CLASSES = np.repeat([0, 1, 2, 5], [9000, 900, 90, 10])
SHUFFLE = ShuffleSampler(name="shuffle")
WEIGHTED = WeightedSampler(name="weighted")
OVERSAMPLE = OversampleSampler(name="oversample", by="gender")


def shuffled(n: int, *, seed: int, epoch: int) -> Order:
    return draw(SHUFFLE, np.zeros(n, dtype=np.int64), seed=seed, epoch=epoch)


def weighted(classes: np.ndarray, *, seed: int, epoch: int) -> Order:
    return draw(WEIGHTED, classes, seed=seed, epoch=epoch)


def test_every_sampler_of_the_configuration_is_registered() -> None:
    kinds = get_args(get_args(SamplerConfig)[0])
    assert {get_args(kind.model_fields["name"].annotation)[0] for kind in kinds} == set(SAMPLERS)


def test_shuffling_draws_each_image_once_in_an_order_of_its_own_each_epoch() -> None:
    orders = [shuffled(500, seed=1, epoch=epoch) for epoch in range(3)]
    for order in orders:
        assert sorted(order) == list(range(500))
        assert order.dtype == np.int64
    assert len({tuple(order) for order in [*orders, shuffled(500, seed=2, epoch=0)]}) == 4


def test_an_order_depends_on_seed_and_epoch_alone() -> None:
    first = shuffled(50, seed=2**62, epoch=7), weighted(CLASSES, seed=2**62, epoch=7)
    np.random.default_rng(0).random(100)
    np.random.seed(3)
    second = shuffled(50, seed=2**62, epoch=7), weighted(CLASSES, seed=2**62, epoch=7)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_weighting_draws_as_many_images_as_there_are_and_every_class_equally_often() -> None:
    order = weighted(CLASSES, seed=0, epoch=0)
    assert order.shape == CLASSES.shape
    counts = np.array([(CLASSES[order] == number).sum() for number in (0, 1, 2, 5)])
    # Binomial with n = 10,000 and p = 1/4: deviation 43.
    assert np.abs(counts - 2500).max() < 4 * 43
    theirs = np.array(
        list(
            WeightedRandomSampler(
                [1 / (number == CLASSES).sum() for number in CLASSES],
                len(CLASSES),
                generator=torch.Generator().manual_seed(0),
            )
        )
    )
    assert np.abs(counts - [(CLASSES[theirs] == number).sum() for number in (0, 1, 2, 5)]).max() < 6 * 43


def test_weighting_draws_the_images_of_a_class_alike_up_to_the_first_and_the_last() -> None:
    drawn = np.concatenate([weighted(CLASSES, seed=0, epoch=epoch) for epoch in range(20)])
    counts = np.bincount(drawn, minlength=len(CLASSES))
    rare = counts[CLASSES == 5]  # 20 epochs of 2,500 draws over 10 images
    assert np.abs(rare - 5000).max() < 5 * np.sqrt(5000)
    assert counts[:9000].mean() > 5.4
    assert counts[:9000].max() < 25


def test_a_single_class_is_drawn_evenly() -> None:
    order = weighted(np.zeros(1000, dtype=np.int64), seed=0, epoch=0)
    assert 550 < len(np.unique(order)) < 720  # 1 - 1/e of them, with replacement


@pytest.mark.parametrize(("to", "size"), [("largest", 70), ("full", 100)])
def test_oversampling_draws_each_class_equally_often_and_the_images_of_a_class_to_within_one(
    to: str, size: int
) -> None:
    classes = np.repeat([0, 1, -1], [70, 27, 3])
    config = OversampleSampler(name="oversample", by="gender", to=to)
    orders = [draw(config, classes, seed=1, epoch=epoch) for epoch in range(40)]
    counts = np.array([np.bincount(order, minlength=100) for order in orders])  # (epochs, images)
    for number in (0, 1, -1):
        of_class = counts[:, classes == number]
        assert (of_class.sum(axis=1) == size).all()
        assert (np.ptp(of_class, axis=1) <= 1).all()
        # Which images come once more changes from epoch to epoch.
        assert np.ptp(of_class.sum(axis=0)) < 40 * (of_class.shape[1] > 1)
    assert len({tuple(order) for order in orders}) == 40
    assert not np.array_equal(classes[orders[0]], np.sort(classes[orders[0]]))  # shuffled, not class after class
    np.testing.assert_array_equal(orders[7], draw(config, classes, seed=1, epoch=7))
    assert not np.array_equal(orders[7], draw(config, classes, seed=2, epoch=7))


def test_oversampling_to_the_largest_of_equal_classes_draws_every_image_once() -> None:
    order = draw(OVERSAMPLE, np.repeat([0, 1], 50), seed=0, epoch=0)
    assert sorted(order) == list(range(100))
