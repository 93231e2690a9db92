"""Layers between the backbone's features and the outputs of the tasks: shared layers and heads.

B: images, F: features of the backbone, G: features that the heads see, K: outputs of a task.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from agr_core.config import HeadConfig
from agr_core.models.activations import build_activation

LastLayer = Callable[[int], nn.Module]
"""Factory of a head's last layer, (B, width) -> (B, K), given the width of the layer before it."""


def build_shared(config: HeadConfig, *, features: int) -> tuple[nn.Sequential, int]:
    """Return the layers shared by all tasks, from features (B, F) to (B, G), and G.

    Each is linear, batch norm, activation, dropout; batch norm and dropout only where configured. Without shared
    layers, batch norm and dropout act directly on the backbone's features (S3-A2, S3-A3).
    """
    layers: list[nn.Module] = []
    width = features
    for hidden in config.shared or (None,):
        if hidden is not None:
            layers.append(nn.Linear(width, hidden))
            width = hidden
        if config.shared_batch_norm:
            layers.append(nn.BatchNorm1d(width))
        if hidden is not None:
            layers.append(build_activation(config.activation))
        if config.shared_dropout > 0:
            layers.append(nn.Dropout(config.shared_dropout))
    return nn.Sequential(*layers), width


def build_head(config: HeadConfig, *, features: int, last: LastLayer) -> nn.Sequential:
    """Return hidden layers and the last layer, from features (B, G) to logits (B, K).

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
    return nn.Sequential(*layers, *_dropout(config), last(width))


def _dropout(config: HeadConfig) -> list[nn.Module]:
    return [nn.Dropout(config.dropout)] if config.dropout > 0 else []
