from __future__ import annotations

import numpy as np
import torch
from torch.utils.data import WeightedRandomSampler

from agr_core.data.sampling import shuffled, weighted

CLASSES = np.repeat([0, 1, 2, 5], [9000, 900, 90, 10])


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
