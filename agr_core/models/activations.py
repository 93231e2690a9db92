"""Activation functions by configured name."""

from __future__ import annotations

from torch import nn

from agr_core.config import Activation


def build_activation(name: Activation) -> nn.Module:
    """Return a new module of the activation ``name``, elementwise on any shape; it may overwrite its input.

    Because it works in place, place it only after a layer whose backward pass does not need its output: a convolution,
    linear layer or batch norm.
    """
    match name:
        case "relu":
            return nn.ReLU(inplace=True)
        case "leaky_relu":
            return nn.LeakyReLU(inplace=True)
        case "tanh":
            return nn.Tanh()
        case "sigmoid":
            return nn.Sigmoid()
