from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.transforms import v2

from agr_core.config import ImageConfig
from agr_core.trainer.images import IMAGENET_MEAN, IMAGENET_STD, Normalizer, channel_statistics

CPU = torch.device("cpu")


def _pixels(channels: int = 3) -> torch.Tensor:
    return torch.randint(0, 256, (4, channels, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def _normalized(pixels: torch.Tensor, **image: Any) -> torch.Tensor:
    return Normalizer(ImageConfig(size=pixels.shape[-1], **image), CPU)(pixels)


def test_imagenet_normalisation_equals_torchvisions() -> None:
    expected = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)])(_pixels())
    torch.testing.assert_close(_normalized(_pixels(), normalize="imagenet"), expected, rtol=1e-5, atol=1e-6)


def test_none_keeps_the_pixel_values() -> None:
    assert torch.equal(_normalized(_pixels(), normalize="none"), _pixels().float())


@pytest.mark.parametrize(("normalize", "low", "high"), [("zero_one", 0.0, 1.0), ("minus_one_one", -1.0, 1.0)])
@pytest.mark.parametrize("color", ["rgb", "grey"])
def test_black_and_white_are_the_ends_of_the_range(normalize: str, low: float, high: float, color: str) -> None:
    ends = torch.tensor([0, 255], dtype=torch.uint8).repeat(8).view(1, 1, 16, 1)
    ends = ends.expand(1, 3 if color == "rgb" else 1, 16, 16)
    image = _normalized(ends, normalize=normalize, color=color)
    assert image.amin().item() == low
    assert image.amax().item() == high


def test_grey_imagenet_statistics_are_those_of_the_luminance() -> None:
    mean, std = channel_statistics(ImageConfig(color="grey", normalize="imagenet"))
    assert mean == (pytest.approx(255 * (0.299 * 0.485 + 0.587 * 0.456 + 0.114 * 0.406)),)
    assert std == (pytest.approx(255 * (0.299 * 0.229 + 0.587 * 0.224 + 0.114 * 0.225)),)


def test_the_batch_itself_is_not_changed() -> None:
    pixels = _pixels()
    _normalized(pixels, normalize="imagenet")
    assert torch.equal(pixels, _pixels())


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format], ids=["last", "first"])
def test_what_the_model_gets_has_its_channels_last_whatever_the_batch(memory_format: torch.memory_format) -> None:
    images = _normalized(_pixels().contiguous(memory_format=memory_format), normalize="imagenet")
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(images, _normalized(_pixels(), normalize="imagenet"))
