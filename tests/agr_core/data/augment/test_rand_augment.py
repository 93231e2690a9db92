from __future__ import annotations

import collections
import random

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import RandAugment as TorchvisionRandAugment

from agr_core.config import RandAugmentConfig
from agr_core.data.augment.rand_augment import CHANGES, SIGNED, RandAugment

REFERENCE = TorchvisionRandAugment(num_magnitude_bins=11)
FILL = {torch.Tensor: [128.0, 128.0, 128.0]}


def smooth(size: int = 64) -> np.ndarray:
    """A picture without sharp edges, where half a pixel more or less makes little difference."""
    x = np.linspace(0, 1, size)
    colours = [200 * np.outer(x, x) + 20, 180 * np.outer(1 - x, x) + 40, 120 + 100 * np.outer(np.sin(5 * x), x)]
    return np.stack(colours, axis=-1).astype(np.uint8)


def test_the_changes_and_which_have_two_directions_are_torchvisions() -> None:
    space = REFERENCE._AUGMENTATION_SPACE
    assert set(CHANGES) == set(space)
    assert {name for name, (_, signed) in space.items() if signed} == SIGNED


@pytest.mark.parametrize("name", sorted(CHANGES))
@pytest.mark.parametrize("magnitude", [0, 3, 5, 10])
def test_every_change_is_torchvisions_at_that_magnitude(name: str, magnitude: int) -> None:
    image = smooth()
    levels = REFERENCE._AUGMENTATION_SPACE[name][0](11, 64, 64)
    for sign in (-1, 1) if name in SIGNED else (1,):
        level = 0.0 if levels is None else float(levels[magnitude]) * sign
        expected = REFERENCE._apply_image_or_video_transform(
            torch.from_numpy(image).permute(2, 0, 1), name, level, interpolation=InterpolationMode.BILINEAR, fill=FILL
        )
        ours = CHANGES[name](image, sign * magnitude / 10)
        difference = np.abs(ours.astype(int) - expected.permute(1, 2, 0).numpy().astype(int))
        # Places are rounded in two ways: the line along which the grey comes in may be one pixel off.
        assert (difference > 3).mean() < 0.09
        assert difference.mean() < 2.5
        if name not in ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Solarize"):
            assert difference.max() <= 1


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_luminance_alone_can_be_changed(name: str) -> None:
    grey = smooth()[..., :1]
    for strength in (0.0, 0.5, 1.0, -1.0 if name in SIGNED else 1.0):
        changed = CHANGES[name](grey, strength)
        assert changed.shape == grey.shape
        assert changed.dtype == np.uint8


def test_changes_are_drawn_alike_in_any_order_with_repetitions_and_in_both_directions() -> None:
    transform = RandAugment(RandAugmentConfig(name="rand_augment", ops=2))
    drawn: collections.Counter[str] = collections.Counter()
    pairs, signs = set(), 0.0
    for seed in range(2000):
        transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
        (first, sign), (second, _) = transform.get_params()["changes"]
        drawn.update((first, second))
        pairs.add((first, second))
        signs += sign
    assert min(drawn.values()) > 220  # 286 expected, deviation 16
    assert max(drawn.values()) < 352
    assert len(pairs) == 14 * 14
    assert abs(signs) < 180  # deviation 45


def test_nothing_is_left_of_a_change_at_magnitude_0_but_what_has_no_magnitude() -> None:
    image = smooth()
    changed = {name for name in CHANGES if not np.array_equal(CHANGES[name](image, 0.0), image)}
    assert changed <= {"AutoContrast", "Equalize"}
