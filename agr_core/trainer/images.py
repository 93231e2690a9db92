"""Conversion of uint8 pixels to the model's normalised input, on its device.

B: images, C: 3 or 1 channels, S: ``image.size``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from agr_core.config import ImageConfig

IMAGENET_MEAN: tuple[float, ...] = (0.485, 0.456, 0.406)
IMAGENET_STD: tuple[float, ...] = (0.229, 0.224, 0.225)
LUMINANCE = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in ITU-R BT.601 luma, used to make grey images."""


def channel_statistics(config: ImageConfig) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel on the scale 0..255.

    Images become (pixel - mean) / deviation. For grey images with ImageNet statistics, mean and deviation are
    luma-weighted; the latter assumes fully correlated channels, which nearly holds.
    """
    channels = 3 if config.color == "rgb" else 1
    match config.normalize:
        case "none":
            return (0.0,) * channels, (1.0,) * channels
        case "zero_one":
            return (0.0,) * channels, (255.0,) * channels
        case "minus_one_one":
            return (127.5,) * channels, (127.5,) * channels
        case "imagenet":
            mean, std = IMAGENET_MEAN, IMAGENET_STD
            if config.color == "grey":
                mean, std = (_luma(mean),), (_luma(std),)
            return tuple(255 * value for value in mean), tuple(255 * value for value in std)


def _luma(channels: tuple[float, ...]) -> float:
    return sum(weight * value for weight, value in zip(LUMINANCE, channels, strict=True))


class Normalizer:
    """Conversion of pixels to floats, as configured by ``image.normalize``.

    The result is always in torch's ``channels_last`` memory format, in which convolutions on a CPU take half the time.
    Mean and deviation are stored at image size, because broadcasting three numbers along the innermost dimension is
    eight times slower than the subtraction itself.
    """

    def __init__(self, config: ImageConfig, device: torch.device) -> None:
        mean, std = channel_statistics(config)
        self._device = device
        self._mean = _as_image(mean, config.size, device)
        self._std = _as_image(std, config.size, device)

    def __call__(self, images: Tensor) -> Tensor:
        """Return images (B, C, S, S) uint8, on any device, as (B, C, S, S) float32 on the trial's."""
        pixels = images.to(self._device, non_blocking=True)
        return pixels.to(torch.float32, memory_format=torch.channels_last).sub_(self._mean).div_(self._std)


def _as_image(channels: tuple[float, ...], size: int, device: torch.device) -> Tensor:
    """Return one number per channel, repeated for each pixel (1, C, S, S)."""
    numbers = torch.tensor(channels, device=device).view(1, -1, 1, 1)
    return numbers.expand(-1, -1, size, size).contiguous(memory_format=torch.channels_last)
