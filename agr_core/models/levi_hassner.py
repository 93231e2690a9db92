"""Levi and Hassner's CNN ("Age and Gender Classification using Convolutional Neural Networks", CVPRW 2015).

Three blocks of convolution, activation, max pool and local response normalisation (absent in the third), then hidden
layers of 512 neurons with dropout. Report S1 trained this network and three with fewer layers (S1-M1 to S1-M4).
``variant: s1`` follows that report's code, which differs from the paper in the pooling, the third convolution's stride
and the activation.

B: images, C: input channels, S: ``image.size``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from agr_core.config import LeviHassnerConfig

_NEURONS = 512


class _Conv(NamedTuple):
    features: int
    kernel: int
    stride: int
    padding: int


_CONVS = {
    "s1": (_Conv(96, 7, 4, 1), _Conv(256, 5, 1, 2), _Conv(384, 3, 4, 1)),
    "paper": (_Conv(96, 7, 4, 0), _Conv(256, 5, 1, 2), _Conv(384, 3, 1, 1)),
}


class LeviHassner(nn.Module):
    """The first ``conv_layers`` of the three blocks, then ``fc_layers`` hidden layers."""

    def __init__(self, config: LeviHassnerConfig, *, in_channels: int, image_size: int) -> None:
        super().__init__()
        is_paper = config.variant == "paper"

        def activation() -> nn.Module:
            return nn.ReLU(inplace=True) if is_paper else nn.LeakyReLU(inplace=True)

        convs: list[nn.Module] = []
        channels = in_channels
        for block, conv in enumerate(_CONVS[config.variant][: config.conv_layers]):
            convs += [nn.Conv2d(channels, *conv), activation()]
            # As in Caffe, which the paper used: the size of a pooled map is rounded up.
            convs.append(nn.MaxPool2d(3, stride=2, ceil_mode=True) if is_paper else nn.MaxPool2d(3, 1, padding=1))
            if block < 2:
                convs.append(LocalResponseNorm())
            channels = conv.features
        self.convs = nn.Sequential(*convs)

        with torch.no_grad():
            width = self.convs(torch.zeros(1, in_channels, image_size, image_size)).numel()
        hidden: list[nn.Module] = [nn.Flatten()]
        for _ in range(config.fc_layers):
            hidden += [nn.Linear(width, _NEURONS), activation(), nn.Dropout(config.dropout)]
            width = _NEURONS
        self.hidden = nn.Sequential(*hidden)

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, 512) of images (B, C, S, S)."""
        features: Tensor = self.hidden(self.convs(images))
        return features


class LocalResponseNorm(nn.Module):
    """Each value over (1 + 1e-4 * mean of squares of the 5 nearest channels) ** 0.75 (Krizhevsky et al. 2012).

    Equals ``nn.LocalResponseNorm``, whose backward pass has no deterministic algorithm on a GPU; this one uses sums
    that do.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Return normalised maps, of the shape of ``maps`` (B, C, H, W)."""
        squares = functional.pad(maps.square(), (0, 0, 0, 0, 2, 2))
        channels = maps.shape[1]
        nearest = torch.stack([squares[:, first : first + channels] for first in range(5)]).sum(dim=0)
        return maps / (1.0 + 1e-4 / 5 * nearest).pow(0.75)
