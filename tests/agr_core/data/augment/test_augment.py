from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from agr_core.config import AugmentConfig, ImageConfig
from agr_core.data.augment.augment import Augment, build_augment, centre_crop, sample_seed, to_grey

STILL = {"name": "light", "flip": 0.0, "affine_p": 0.0, "light_p": 0.0}


SAME_SIZE = ["light", "agecnn", "flip_contrast", "shear_zoom", "rand_augment"]


def augment(size: int = 48, crop_from: int | None = None, **config: Any) -> Augment:
    image = ImageConfig(size=size, crop_from=crop_from)
    built = build_augment(TypeAdapter(AugmentConfig).validate_python(config), image)
    assert built is not None
    return built


def noise(size: int = 48, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size, size, channels), dtype=np.uint8)


def test_none_changes_nothing_and_builds_nothing() -> None:
    assert build_augment(TypeAdapter(AugmentConfig).validate_python("none"), ImageConfig(size=48)) is None


@pytest.mark.parametrize("name", SAME_SIZE)
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


@pytest.mark.parametrize("name", SAME_SIZE)
def test_the_seed_alone_decides_the_change(name: str) -> None:
    image, other = noise(), augment(name=name)
    first = [augment(name=name)(image, seed) for seed in range(12)]
    np.random.seed(1)
    random.seed(1)
    for seed in reversed(range(12)):
        np.testing.assert_array_equal(other(image, seed), first[seed])
    assert len({changed.tobytes() for changed in first}) > 8


def test_a_crop_is_a_window_of_the_image_at_any_place_and_may_be_mirrored() -> None:
    image = np.arange(20 * 20, dtype=np.uint16).astype(np.uint8).reshape(20, 20, 1).repeat(3, axis=2)
    image[..., 1] = np.arange(20)[:, np.newaxis]
    image[..., 2] = np.arange(20)[np.newaxis]
    pipeline, places, mirrored = augment(16, 20, name="crop_flip"), set(), 0
    for seed in range(400):
        window = pipeline(image, seed)
        assert window.shape == (16, 16, 3)
        flipped = window[0, 0, 2] > window[0, 1, 2]
        window = window[:, ::-1] if flipped else window
        top, left = int(window[0, 0, 1]), int(window[0, 0, 2])
        np.testing.assert_array_equal(window, image[top : top + 16, left : left + 16])
        places.add((top, left))
        mirrored += int(flipped)
    assert places == {(top, left) for top in range(5) for left in range(5)}
    assert 160 < mirrored < 240  # 200 expected, deviation 10


@pytest.mark.parametrize("name", ["none", *SAME_SIZE])
def test_any_augmentation_can_follow_a_crop(name: str) -> None:
    assert augment(32, 40, name=name)(noise(40), 3).shape == (32, 32, 3)


def test_the_middle_is_cut_from_the_middle() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 1), dtype=np.uint8)
    np.testing.assert_array_equal(centre_crop(images, 227), images[:, 14:241, 14:241])  # as torchvision's CenterCrop
    assert centre_crop(images, 256) is images


def test_contrast_changes_the_distance_from_the_mean_and_leaves_the_mean() -> None:
    image = np.random.default_rng(0).integers(90, 150, (64, 64, 1), dtype=np.uint8)
    pipeline = augment(64, name="flip_contrast", flip=0.0, contrast=0.5)
    spreads = []
    for seed in range(60):
        changed = pipeline(image, seed)
        assert abs(changed.mean() - image.mean()) < 1
        spreads.append(changed.std() / image.std())
    assert 0.49 < min(spreads) < 0.6
    assert 1.4 < max(spreads) < 1.51


def test_shear_leans_an_upright_line_and_zoom_changes_width_and_height_each_on_its_own() -> None:
    image = np.zeros((101, 101, 1), dtype=np.uint8)
    image[:, 50] = 255
    lean = augment(101, name="shear_zoom", shear=20.0, zoom=0.0)
    angles = []
    for seed in range(60):
        rows, columns = np.nonzero(lean(image, seed)[..., 0] > 60)
        angles.append(np.degrees(np.arctan(np.polyfit(rows, columns, 1)[0])))
    assert -20.5 < min(angles) < -14
    assert 14 < max(angles) < 20.5

    square = np.zeros((100, 100, 1), dtype=np.uint8)
    square[30:70, 30:70] = 255
    zoom, sizes = augment(100, name="shear_zoom", shear=0.0, zoom=0.2), []
    for seed in range(60):
        shown = zoom(square, seed)[..., 0] > 127
        sizes.append((shown.any(axis=1).sum(), shown.any(axis=0).sum()))
    assert 31 <= np.min(sizes) < 35 < 45 < np.max(sizes) <= 49
    assert abs(np.corrcoef(np.array(sizes).T)[0, 1]) < 0.4


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
