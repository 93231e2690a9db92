"""FaceNet's Inception-ResNet-v1 (Szegedy et al. 2016, "Inception-v4, Inception-ResNet ..."; David Sandberg's facenet).

Weights have facenet-pytorch's names, so its CASIA-WebFace and VGGFace2 weights load unchanged once saved as
safetensors, except for their classifier (``logits``), which is left out. The features are the embedding before
facenet's normalisation to unit length, which serves the comparison of embeddings and would leave only the direction to
a linear head.

B: images, C: input channels, S: ``image.size``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agr_core.config import InceptionResnetV1Config

_EPS = 1e-3  # TensorFlow's value; the published weights were trained there
Size = int | tuple[int, int]


class InceptionResnetV1(nn.Module):
    """Stem, 5 blocks of 35 x 35, 10 of 17 x 17, 6 of 8 x 8 (at 299 px), global mean, dropout, embedding of 512."""

    classifier_names = ("logits",)

    def __init__(
        self,
        config: InceptionResnetV1Config,
        *,
        in_channels: int,
        image_size: int,  # noqa: ARG002 - any size that the strides leave something of
    ) -> None:
        super().__init__()
        self.conv2d_1a = _Conv(in_channels, 32, 3, stride=2)
        self.conv2d_2a = _Conv(32, 32, 3)
        self.conv2d_2b = _Conv(32, 64, 3, padding=1)
        self.maxpool_3a = nn.MaxPool2d(3, stride=2)
        self.conv2d_3b = _Conv(64, 80, 1)
        self.conv2d_4a = _Conv(80, 192, 3)
        self.conv2d_4b = _Conv(192, 256, 3, stride=2)
        self.repeat_1 = nn.Sequential(*(_block35() for _ in range(5)))
        self.mixed_6a = _Reduction(
            _Conv(256, 384, 3, stride=2), nn.Sequential(_Conv(256, 192, 1), _same(192, 192, 3), _down(192, 256))
        )
        self.repeat_2 = nn.Sequential(*(_block17() for _ in range(10)))
        self.mixed_7a = _Reduction(
            nn.Sequential(_Conv(896, 256, 1), _down(256, 384)),
            nn.Sequential(_Conv(896, 256, 1), _down(256, 256)),
            nn.Sequential(_Conv(896, 256, 1), _same(256, 256, 3), _down(256, 256)),
        )
        self.repeat_3 = nn.Sequential(*(_block8() for _ in range(5)))
        self.block8 = _block8(scale=1.0, activated=False)
        self.dropout = nn.Dropout(config.dropout)
        self.last_linear = nn.Linear(1792, 512, bias=False)
        self.last_bn = nn.BatchNorm1d(512, eps=_EPS)

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, 512) of images (B, C, S, S)."""
        maps = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(images)))
        maps = self.conv2d_4b(self.conv2d_4a(self.conv2d_3b(self.maxpool_3a(maps))))
        maps = self.mixed_6a(self.repeat_1(maps))
        maps = self.mixed_7a(self.repeat_2(maps))
        maps = self.block8(self.repeat_3(maps))
        features: Tensor = self.last_bn(self.last_linear(self.dropout(maps.mean((2, 3)))))
        return features


class _Conv(nn.Module):
    """Convolution without bias, batch norm, ReLU."""

    def __init__(self, given: int, made: int, kernel: Size, *, stride: int = 1, padding: Size = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(given, made, kernel, stride=stride, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(made, eps=_EPS)

    def forward(self, maps: Tensor) -> Tensor:
        return torch.relu_(self.bn(self.conv(maps)))


def _same(given: int, made: int, *kernel: int) -> _Conv:
    """Return a convolution that keeps the map's size; ``kernel`` is one side, or height and width."""
    sides = (kernel[0], kernel[-1])
    return _Conv(given, made, sides, padding=(sides[0] // 2, sides[1] // 2))


def _down(given: int, made: int) -> _Conv:
    """Return a 3 x 3 convolution of stride 2 without padding."""
    return _Conv(given, made, 3, stride=2)


class _Branches(nn.Module):
    """Parallel branches whose maps are concatenated; named ``branch0``, ``branch1``, ..."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self._count = len(branches)
        for number, branch in enumerate(branches):
            self.add_module(f"branch{number}", branch)

    def concatenated(self, maps: Tensor) -> list[Tensor]:
        return [self.get_submodule(f"branch{number}")(maps) for number in range(self._count)]


class _Reduction(_Branches):
    """Reduction block: the branches and a max pool, which halve the map."""

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([*self.concatenated(maps), nn.functional.max_pool2d(maps, 3, stride=2)], dim=1)


class _Residual(_Branches):
    """Residual block: maps plus ``scale`` times the output of the branches."""

    def __init__(self, *branches: nn.Module, joined: int, channels: int, scale: float, activated: bool = True) -> None:
        super().__init__(*branches)
        self.conv2d = nn.Conv2d(joined, channels, 1)
        self._scale = scale
        self._activated = activated

    def forward(self, maps: Tensor) -> Tensor:
        change: Tensor = self.conv2d(torch.cat(self.concatenated(maps), dim=1))
        made = change * self._scale + maps
        return torch.relu_(made) if self._activated else made


def _block35() -> _Residual:
    return _Residual(
        _Conv(256, 32, 1),
        nn.Sequential(_Conv(256, 32, 1), _same(32, 32, 3)),
        nn.Sequential(_Conv(256, 32, 1), _same(32, 32, 3), _same(32, 32, 3)),
        joined=96,
        channels=256,
        scale=0.17,
    )


def _block17() -> _Residual:
    return _Residual(
        _Conv(896, 128, 1),
        nn.Sequential(_Conv(896, 128, 1), _same(128, 128, 1, 7), _same(128, 128, 7, 1)),
        joined=256,
        channels=896,
        scale=0.10,
    )


def _block8(*, scale: float = 0.20, activated: bool = True) -> _Residual:
    return _Residual(
        _Conv(1792, 192, 1),
        nn.Sequential(_Conv(1792, 192, 1), _same(192, 192, 1, 3), _same(192, 192, 3, 1)),
        joined=384,
        channels=1792,
        scale=scale,
        activated=activated,
    )
