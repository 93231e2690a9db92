from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from agr_core.config import AugmentConfig
from agr_core.data.augment import Augment, build_augment, sample_seed, to_grey

STILL = {"name": "light", "flip": 0.0, "affine_p": 0.0, "light_p": 0.0}


def augment(size: int = 48, **config: Any) -> Augment:
    built = build_augment(TypeAdapter(AugmentConfig).validate_python(config), size=size)
    assert built is not None
    return built


def noise(size: int = 48, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size, size, channels), dtype=np.uint8)


def test_none_changes_nothing_and_builds_nothing() -> None:
    assert build_augment(TypeAdapter(AugmentConfig).validate_python("none"), size=48) is None


@pytest.mark.parametrize("name", ["light", "agecnn"])
@pytest.mark.parametrize("size", [16, 48, 224])
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_keeps_its_shape_and_kind_and_the_original_is_left_alone(name: str, size: int, channels: int) -> None:
    pipeline, image = augment(size, name=name), noise(size, channels)
    before = image.copy()
    for seed in range(8):
        changed = pipeline(image, seed)
        assert changed.shape == image.shape
        assert changed.dtype == np.uint8
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("name", ["light", "agecnn"])
def test_the_seed_alone_decides_the_change(name: str) -> None:
    image, other = noise(), augment(name=name)
    first = [augment(name=name)(image, seed) for seed in range(12)]
    np.random.seed(1)
    random.seed(1)
    for seed in reversed(range(12)):
        np.testing.assert_array_equal(other(image, seed), first[seed])
    assert len({changed.tobytes() for changed in first}) > 8


def test_a_flip_mirrors_the_image() -> None:
    image = noise()
    np.testing.assert_array_equal(augment(**{**STILL, "flip": 1.0})(image, 0), image[:, ::-1])
    np.testing.assert_array_equal(augment(**STILL)(image, 0), image)


def test_transforms_of_one_image_are_drawn_independently() -> None:
    # A bright left half shows both at once: which side is bright, and whether the light changed.
    image = np.zeros((16, 16, 1), dtype=np.uint8)
    image[:, :8] = 128
    pipeline = augment(16, **{**STILL, "flip": 0.5, "light_p": 0.5})
    drawn = np.zeros((2, 2))
    for seed in range(400):
        changed = pipeline(image, sample_seed(0, 0, seed))
        flipped = changed[0, 0, 0] < changed[0, -1, 0]
        drawn[int(flipped), int(changed.max() != 128 or changed.min() != 0)] += 1
    # 400 draws into four equal cells: deviation 8.7.
    assert np.abs(drawn - 100).max() < 4 * 8.7


def test_compose_s_own_seeding_would_tie_transforms_of_equal_probability_together() -> None:
    import albumentations

    tied = albumentations.Compose([albumentations.HorizontalFlip(p=0.5), albumentations.VerticalFlip(p=0.5)])
    image = np.zeros((2, 2, 1), dtype=np.uint8)
    image[0, 0] = 255
    places = set()
    for seed in range(60):
        tied.set_random_seed(seed)
        places.add(tuple(np.argwhere(tied(image=image)["image"][..., 0])[0]))
    assert places == {(0, 0), (1, 1)}  # never one flip without the other


def test_a_shift_stays_within_its_share_of_the_side() -> None:
    image = np.zeros((100, 100, 1), dtype=np.uint8)
    image[48:53, 48:53] = 255
    pipeline = augment(100, **{**STILL, "affine_p": 1.0, "shift": 0.1, "scale": 0.0, "rotate": 0.0})
    places = []
    for seed in range(80):
        rows, columns = np.nonzero(pipeline(image, seed)[..., 0] > 127)
        places.append((rows.mean() - 50, columns.mean() - 50))
    assert np.abs(places).max() < 10.6
    assert np.abs(places).max(axis=0).min() > 7
    assert abs(np.corrcoef(np.array(places).T)[0, 1]) < 0.4  # both directions of their own


def test_a_scale_changes_both_sides_alike_within_its_bounds() -> None:
    image = np.zeros((100, 100, 1), dtype=np.uint8)
    image[30:70, 30:70] = 255
    pipeline = augment(100, **{**STILL, "affine_p": 1.0, "shift": 0.0, "scale": 0.2, "rotate": 0.0})
    for seed in range(40):
        shown = pipeline(image, seed)[..., 0] > 127
        high, wide = shown.any(axis=1).sum(), shown.any(axis=0).sum()
        assert abs(int(high) - int(wide)) <= 1
        assert 31 <= high <= 49


def test_the_blur_of_a_small_image_is_as_wide_for_its_size_as_that_of_a_large_one() -> None:
    def spread(size: int) -> float:
        image = np.zeros((size, size, 1), dtype=np.uint8)
        image[:, size // 2 :] = 255
        pipeline = augment(size, name="agecnn", shift=0, scale=0, rotate=0, brightness=0, contrast=0, p=1.0)
        widths = [((pipeline(image, seed)[size // 2, :, 0] % 255) != 0).sum() for seed in range(60)]
        return max(widths) / size

    assert spread(224) == pytest.approx(spread(448), rel=0.5)
    assert 0 < spread(224) < 0.06


def test_grey_is_the_luminance_of_bt_601() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 9, 9, 3), dtype=np.uint8)
    luminance = images.astype(np.float64) @ [0.299, 0.587, 0.114]
    grey = to_grey(images)
    assert grey.shape == (5, 9, 9, 1)
    np.testing.assert_allclose(grey[..., 0], luminance, atol=0.51)


def test_no_images_stay_no_images_in_grey() -> None:
    assert to_grey(np.zeros((0, 8, 8, 3), dtype=np.uint8)).shape == (0, 8, 8, 1)


def test_seeds_of_samples_epochs_and_trials_are_all_different() -> None:
    seeds = {sample_seed(seed, epoch, sample) for seed in (0, 1, 2**62) for epoch in range(10) for sample in range(100)}
    assert len(seeds) == 3000
    assert all(0 <= seed < 2**64 for seed in seeds)
