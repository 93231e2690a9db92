"""The activations that a configuration can name."""

from __future__ import annotations

from torch import nn

from agr_core.config import Activation


def build_activation(name: Activation) -> nn.Module:
    """A new module of the activation ``name``, elementwise on any shape."""
    match name:
        case "relu":
            return nn.ReLU()
        case "leaky_relu":
            return nn.LeakyReLU()
        case "tanh":
            return nn.Tanh()
        case "sigmoid":
            return nn.Sigmoid()
