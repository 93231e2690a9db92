"""What stands between the shared features and the outputs of one task.

B: images, F: features of the backbone, K: outputs of the task.
"""

from __future__ import annotations

from torch import nn

from agr_core.config import HeadConfig
from agr_core.models.activations import build_activation


def build_head(config: HeadConfig, *, features: int, outputs: int) -> nn.Sequential:
    """Hidden layers and a last linear layer, from features (B, F) to logits (B, K).

    Each hidden layer is dropout, linear, batch norm, activation; dropout and batch norm only where configured.
    """
    layers: list[nn.Module] = []
    width = features
    for hidden in config.hidden:
        layers += [*_dropout(config), nn.Linear(width, hidden)]
        if config.batch_norm:
            layers.append(nn.BatchNorm1d(hidden))
        layers.append(build_activation(config.activation))
        width = hidden
    return nn.Sequential(*layers, *_dropout(config), nn.Linear(width, outputs))


def _dropout(config: HeadConfig) -> list[nn.Module]:
    return [nn.Dropout(config.dropout)] if config.dropout > 0 else []
