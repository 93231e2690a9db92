"""Optimizers of S4-P1, built from their configuration."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from agr_core.config import OptimizerConfig
from agr_core.registry import Registry


def _eager(kind: Any) -> Any:
    """Return one of torch's optimizer classes without its hooks for torch's compiler.

    torch's methods import the compiler at the first step only to exclude themselves from it, which costs 150 MB and a
    second of CPU in every training process.
    """
    names = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    return type(kind.__name__, (kind,), {**methods, "step": torch.no_grad()(inspect.unwrap(kind.step))})


class KerasRmsprop(Optimizer):
    """RMSprop as Keras computes it: the update is ``lr * g / sqrt(v + eps)``, in torch ``lr * g / (sqrt(v) + eps)``.

    With ``eps`` 1e-7 the two differ for gradients below about 1e-3: sqrt(v + eps) stays above 3e-4, so Keras' steps are
    smaller. Momentum accumulates the update, as in Keras; ``centered`` subtracts the squared mean of the gradient from
    v.
    """

    def __init__(
        self,
        params: Any,
        *,
        lr: float,
        weight_decay: float,
        alpha: float,
        eps: float,
        momentum: float,
        centered: bool,
    ) -> None:
        options = {"weight_decay": weight_decay, "alpha": alpha, "eps": eps, "momentum": momentum}
        super().__init__(params, {"lr": lr, "centered": centered, **options})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None, "no training here evaluates its loss again"
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)

    def _update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        alpha = group["alpha"]
        if group["weight_decay"]:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        if not state:
            names = ["square_avg"] + ["momentum_buffer"] * (group["momentum"] > 0) + ["grad_avg"] * group["centered"]
            state.update({name: torch.zeros_like(parameter) for name in names})
        variance = state["square_avg"].mul_(alpha).addcmul_(gradient, gradient, value=1 - alpha)
        if group["centered"]:
            mean = state["grad_avg"].lerp_(gradient, 1 - alpha)
            variance = variance.addcmul(mean, mean, value=-1).clamp_(min=0.0)
        update = gradient / variance.add(group["eps"]).sqrt_()
        if group["momentum"]:
            update = state["momentum_buffer"].mul_(group["momentum"]).add_(update)
        parameter.add_(update, alpha=-group["lr"])


_TorchRmsprop = _eager(torch.optim.RMSprop)


def _rmsprop(groups: Any, *, eps_inside_root: bool = False, **arguments: Any) -> Optimizer:
    optimizer: Optimizer = (KerasRmsprop if eps_inside_root else _TorchRmsprop)(groups, **arguments)
    return optimizer


OPTIMIZERS: Registry[Callable[..., Optimizer]] = Registry("optimizer")
"""torch's class for each name, fused if available; its arguments are the fields of the configuration."""

OPTIMIZERS.register("sgd", partial(_eager(torch.optim.SGD), fused=True))
OPTIMIZERS.register("rmsprop", _rmsprop)
OPTIMIZERS.register("adam", partial(_eager(torch.optim.Adam), fused=True))
OPTIMIZERS.register("adamw", partial(_eager(torch.optim.AdamW), fused=True))
OPTIMIZERS.register("nadam", _eager(torch.optim.NAdam))
OPTIMIZERS.register("adamax", _eager(torch.optim.Adamax))
OPTIMIZERS.register("adadelta", _eager(torch.optim.Adadelta))


def build_optimizer(
    config: OptimizerConfig, parameters: Iterable[nn.Parameter], *, of_loss: Iterable[nn.Parameter] = ()
) -> Optimizer:
    """Return the optimizer over all ``parameters``; weight decay applies to each of them, as in torch.

    Biases and norms decay as well. Learned parameters ``of_loss`` come last and do not decay.
    """
    groups: list[dict[str, Any]] = [{"params": list(parameters)}]
    if learned := list(of_loss):
        groups.append({"params": learned, "weight_decay": 0.0})
    return OPTIMIZERS.get(config.name)(groups, **config.model_dump(exclude={"name"}))


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the model's parameters that are not frozen, by name, in the optimizer's order."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def set_lr(optimizer: Optimizer, lr: float) -> None:
    """Set the learning rate from the next step on."""
    for group in optimizer.param_groups:
        group["lr"] = lr
