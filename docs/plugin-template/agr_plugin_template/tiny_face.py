"""The network itself; it imports torch, so it is imported only when a model is built."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class _Mean(nn.Module):
    """The mean over the map; unlike adaptive pooling, its backward pass is deterministic on a GPU."""

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C)."""
        return maps.mean((2, 3))


def tiny_face(in_channels: int, widths: Sequence[int]) -> nn.Module:
    """Convolutions of stride 2 with these numbers of channels."""
    layers: list[nn.Module] = []
    for width in widths:
        layers += [
            nn.Conv2d(in_channels, width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
        ]
        in_channels = width
    return nn.Sequential(*layers, _Mean())
