"""CNN of one to five convolution blocks (report S4, S4-N1).

B: images, C: input channels, S: ``image.size``, F: ``model.hidden``.
"""

from __future__ import annotations

from torch import Tensor, nn

from agr_core.config import BasicCnnConfig
from agr_core.models.activations import build_activation


class BasicCnn(nn.Module):
    """Blocks of convolution, activation, batch norm and max pool 2; then flatten, a hidden layer and dropout.

    With ``dropout_at: before_activation``, each dropout directly precedes the activation instead. Block i has
    ``base_features * 2**i`` channels and halves the image, rounding down.
    """

    def __init__(self, config: BasicCnnConfig, *, in_channels: int, image_size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if config.input_batch_norm:
            layers.append(nn.BatchNorm2d(in_channels))
        if config.input_dropout > 0:
            layers.append(nn.Dropout(config.input_dropout))

        before = config.dropout_at == "before_activation"
        channels = in_channels
        for block in range(config.conv_layers):
            features = config.base_features * 2**block
            layers.append(nn.Conv2d(channels, features, config.kernel_size, padding=config.kernel_size // 2))
            if config.block_dropout > 0 and before:
                layers.append(nn.Dropout(config.block_dropout))
            layers.append(build_activation(config.activation))
            if config.batch_norm:
                layers.append(nn.BatchNorm2d(features))
            layers.append(nn.MaxPool2d(2))
            if config.block_dropout > 0 and not before:
                layers.append(nn.Dropout(config.block_dropout))
            channels = features

        side = image_size >> config.conv_layers
        activation, dropout = build_activation(config.activation), nn.Dropout(config.dropout)
        layers += [
            nn.Flatten(),
            nn.Linear(channels * side * side, config.hidden),
            *((dropout, activation) if before else (activation, dropout)),
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, F) of images (B, C, S, S)."""
        features: Tensor = self.layers(images)
        return features
