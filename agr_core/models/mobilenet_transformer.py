"""MobileNet with a Transformer encoder over its last feature map, then a global maximum (report S2, S2-M6).

The report names the parts (MobileNet, self-attention with a feed-forward network, encoder, global max pooling) but not
their sizes; the defaults are customary values. Position embeddings are learned.

B: images, C: input channels, S: ``image.size``, T: tokens, one per position of the feature map.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from agr_core.config import MobilenetTransformerConfig
from agr_core.models import timm_backbones

_FEATURES = 1024


class MobilenetTransformer(nn.Module):
    """MobileNet (Howard et al. 2017) without top, position embeddings, encoder layers, maximum over the positions.

    ``pretrained_part`` is the module that MobileNet's weights files fit.
    """

    def __init__(self, config: MobilenetTransformerConfig, *, in_channels: int, image_size: int) -> None:
        super().__init__()
        self._in_channels = in_channels
        self._timm_name = config.timm_name
        self.mobilenet = timm_backbones.feature_maps(config.timm_name, in_channels=in_channels)
        places = -(-image_size // 32)
        self.positions = nn.Parameter(torch.empty(1, places * places, _FEATURES))
        nn.init.trunc_normal_(self.positions, std=0.02)
        self.encoder = nn.ModuleList(
            nn.TransformerEncoderLayer(
                _FEATURES,
                config.heads,
                dim_feedforward=config.feedforward,
                dropout=config.dropout,
                batch_first=True,
            )
            for _ in range(config.depth)
        )

    @property
    def pretrained_part(self) -> nn.Module:
        """MobileNet, the part with published weights."""
        return self.mobilenet

    def load_timm_weights(self, file: Path | None) -> None:
        """Load timm's weights into MobileNet from ``file``; None: timm downloads them."""
        timm_backbones.load_timm_weights(self.mobilenet, self._timm_name, in_channels=self._in_channels, file=file)

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, 1024) of images (B, C, S, S)."""
        tokens: Tensor = self.mobilenet(images).flatten(2).transpose(1, 2) + self.positions  # (B, T, 1024)
        for layer in self.encoder:
            tokens = layer(tokens)
        return tokens.amax(dim=1)
