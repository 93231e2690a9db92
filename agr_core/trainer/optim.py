"""The optimizers of S4-P1, built from their configuration."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer

from agr_core.config import OptimizerConfig
from agr_core.registry import Registry

OPTIMIZERS: Registry[type[Optimizer]] = Registry("optimizer")
"""torch's class for each name; a configuration's fields are named as the arguments of the class."""

OPTIMIZERS.register("sgd", torch.optim.SGD)
OPTIMIZERS.register("rmsprop", torch.optim.RMSprop)
OPTIMIZERS.register("adam", torch.optim.Adam)
OPTIMIZERS.register("adamw", torch.optim.AdamW)
OPTIMIZERS.register("nadam", torch.optim.NAdam)
OPTIMIZERS.register("adamax", torch.optim.Adamax)
OPTIMIZERS.register("adadelta", torch.optim.Adadelta)


def build_optimizer(config: OptimizerConfig, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer over all ``parameters``, weight decay on each of them, biases and norms included, as torch does."""
    return OPTIMIZERS.get(config.name)(parameters, **config.model_dump(exclude={"name"}))


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Use ``lr`` from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = lr
