"""The activations that a configuration can name."""

from __future__ import annotations

from torch import nn

from agr_core.config import Activation


def build_activation(name: Activation) -> nn.Module:
    """A new module of the activation ``name``, elementwise on any shape; it may overwrite its input.

    So it must follow a layer whose backward pass does not need its output: a convolution, linear layer or batch norm.
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
