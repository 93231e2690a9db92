"""Residual attention network (Wang et al., "Residual Attention Network for Image Classification", CVPR 2017).

As in table 2 of the paper: a stem of 7 x 7 / 2 and max pool; three stages, each a residual unit and its attention
modules; three residual units; global mean. ``attention_modules`` (1, 2, 3) is Attention-92 with six modules, which
report S4 trained (S4-V18); (1, 1, 1) is Attention-56. The modules have the paper's hyperparameters p = 1, t = 2, r = 1.

B: images, C: input channels, S: ``image.size``.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional

from agr_core.config import ResidualAttentionConfig

_STAGES = ((64, 256, 1, 3), (256, 512, 2, 2), (512, 1024, 2, 1))
"""Input channels, output channels and stride of each stage's residual unit; number of halvings in its masks."""


class ResidualAttention(nn.Module):
    """Stem, three stages with attention, three residual units, batch norm, ReLU, global mean."""

    def __init__(
        self,
        config: ResidualAttentionConfig,
        *,
        in_channels: int,
        image_size: int,  # noqa: ARG002 - any size
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        stages: list[nn.Module] = []
        for (given, made, stride, halvings), modules in zip(_STAGES, config.attention_modules, strict=True):
            stages.append(_Unit(given, made, stride))
            stages += [_Attention(made, halvings) for _ in range(modules)]
        self.stages = nn.Sequential(*stages)
        self.last = nn.Sequential(
            _Unit(1024, 2048, 2), _Unit(2048), _Unit(2048), nn.BatchNorm2d(2048), nn.ReLU(inplace=True)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, 2048) of images (B, C, S, S)."""
        maps: Tensor = self.last(self.stages(self.stem(images)))
        return maps.mean((2, 3))


class _Unit(nn.Module):
    """Residual unit with pre-activation and a bottleneck of a quarter (He et al. 2016, "Identity mappings")."""

    def __init__(self, given: int, made: int | None = None, stride: int = 1) -> None:
        super().__init__()
        made = made or given
        inner = made // 4
        self.first = nn.Sequential(nn.BatchNorm2d(given), nn.ReLU())
        self.rest = nn.Sequential(
            nn.Conv2d(given, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, made, 1, bias=False),
        )
        changes_shape = given != made or stride > 1
        self.shortcut = nn.Conv2d(given, made, 1, stride=stride, bias=False) if changes_shape else None

    def forward(self, maps: Tensor) -> Tensor:
        activated = self.first(maps)
        kept = maps if self.shortcut is None else self.shortcut(activated)
        return cast(Tensor, self.rest(activated) + kept)


class _Attention(nn.Module):
    """Attention module: (1 + mask) * trunk, between two residual units (equation 3 of the paper)."""

    def __init__(self, channels: int, halvings: int) -> None:
        super().__init__()
        self.before = _Unit(channels)
        self.trunk = nn.Sequential(_Unit(channels), _Unit(channels))
        self.mask = nn.Sequential(
            _Hourglass(channels, halvings),
            *(nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.Conv2d(channels, channels, 1, bias=False)),
            *(nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.Conv2d(channels, channels, 1, bias=False)),
            nn.Sigmoid(),
        )
        self.after = _Unit(channels)

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.before(maps)
        return cast(Tensor, self.after((1.0 + self.mask(maps)) * self.trunk(maps)))


class _Hourglass(nn.Module):
    """Bottom-up top-down path of the soft mask: downsampled, processed with a larger receptive field, upsampled.

    Each inner halving has a skip connection (figure 2 of the paper); the outermost has none, because the trunk runs
    parallel to it.
    """

    def __init__(self, channels: int, halvings: int) -> None:
        super().__init__()
        self.down = _Unit(channels)
        self.inner = _Hourglass(channels, halvings - 1) if halvings > 1 else None
        self.skip = _Unit(channels) if halvings > 1 else None
        self.up = _Unit(channels)

    def forward(self, maps: Tensor) -> Tensor:
        seen = self.down(functional.max_pool2d(maps, 3, stride=2, padding=1))
        if self.inner is not None and self.skip is not None:
            seen = self.inner(seen) + self.skip(seen)
        seen = self.up(seen)
        return functional.interpolate(seen, size=maps.shape[2:], mode="bilinear", align_corners=False)
