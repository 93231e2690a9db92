"""The optimizers of S4-P1, built from their configuration."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from agr_core.config import OptimizerConfig
from agr_core.registry import Registry


def _eager(kind: Any) -> Any:
    """A class of torch's as it is where nothing is compiled.

    torch's own methods tell its compiler to leave them alone and import it for that, at the first step: 150 MB and a
    second of CPU in every process that trains.
    """
    names = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    return type(kind.__name__, (kind,), {**methods, "step": torch.no_grad()(inspect.unwrap(kind.step))})


OPTIMIZERS: Registry[Callable[..., Optimizer]] = Registry("optimizer")
"""torch's class for each name, in its fused form where it has one; the fields of a configuration are its arguments."""

OPTIMIZERS.register("sgd", partial(_eager(torch.optim.SGD), fused=True))
OPTIMIZERS.register("rmsprop", _eager(torch.optim.RMSprop))
OPTIMIZERS.register("adam", partial(_eager(torch.optim.Adam), fused=True))
OPTIMIZERS.register("adamw", partial(_eager(torch.optim.AdamW), fused=True))
OPTIMIZERS.register("nadam", _eager(torch.optim.NAdam))
OPTIMIZERS.register("adamax", _eager(torch.optim.Adamax))
OPTIMIZERS.register("adadelta", _eager(torch.optim.Adadelta))


def build_optimizer(
    config: OptimizerConfig, parameters: Iterable[nn.Parameter], *, of_loss: Iterable[nn.Parameter] = ()
) -> Optimizer:
    """The optimizer over all ``parameters``, weight decay on each of them, biases and norms included, as torch does.

    Those ``of_loss``, if it learns any, come after them and do not decay.
    """
    groups: list[dict[str, Any]] = [{"params": list(parameters)}]
    if learned := list(of_loss):
        groups.append({"params": learned, "weight_decay": 0.0})
    return OPTIMIZERS.get(config.name)(groups, **config.model_dump(exclude={"name"}))


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of a model that are not frozen, by name, in the order in which the optimizer has them."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Use ``lr`` from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = lr
