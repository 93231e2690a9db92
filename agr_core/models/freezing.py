"""Freezing of layers (``model.freeze``).

A layer is a module that has parameters of its own: a convolution, a batch norm, a linear layer. Layers are counted in
the order of the forward pass. A frozen layer has no gradient. A module with only frozen layers stays in evaluation
mode: its batch norms keep their statistics and its dropout is off (report S4: "eval and no grad").
"""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn

from agr_core.config import FreezeConfig, FreezeRule
from agr_core.errors import ConfigError

_LOG = logging.getLogger(__name__)


def freeze(backbone: nn.Module, rule: FreezeRule, *, blank: Tensor) -> list[nn.Module]:
    """Freeze layers of ``backbone``; return the largest modules that must stay in evaluation mode.

    Args:
        backbone: Module that takes images.
        rule: Which layers to freeze.
        blank: Images (1, C, S, S) for the forward pass that determines the order of the layers.

    Raises:
        ConfigError: If the backbone has fewer layers than the rule freezes, or the rule freezes none of them.
    """
    if rule == "none":
        return []
    layers = layers_in_order(backbone, blank)
    frozen = layers[: _count(rule, len(layers))]
    for _, layer in frozen:
        for parameter in layer.parameters(recurse=False):
            parameter.requires_grad_(False)
    parameters = sum(parameter.numel() for parameter in backbone.parameters())
    fixed = sum(parameter.numel() for parameter in backbone.parameters() if not parameter.requires_grad)
    _LOG.info(
        "freeze: %d of the backbone's %d layers, %s to %s, with %d of its %d parameters",
        *(len(frozen), len(layers), frozen[0][0] or "its own", frozen[-1][0] or "its own", fixed, parameters),
    )
    return _whole(backbone, {layer for _, layer in layers} - {layer for _, layer in frozen})


def layers_in_order(backbone: nn.Module, blank: Tensor) -> list[tuple[str, nn.Module]]:
    """Return name and module of every layer, in the order in which a forward pass of ``blank`` reaches them.

    A layer whose parameters are used without calling it (the projections inside torch's attention) has the position of
    the enclosing module's call.
    """
    called: dict[nn.Module, int] = {}

    def note(module: nn.Module, _: object) -> None:
        called.setdefault(module, len(called))

    hooks = [module.register_forward_pre_hook(note) for module in backbone.modules()]
    was_training = backbone.training
    backbone.eval()
    with torch.no_grad():
        backbone(blank)
    backbone.train(was_training)
    for hook in hooks:
        hook.remove()

    def place(name: str) -> int:
        while (module := backbone.get_submodule(name)) not in called:
            name = name.rpartition(".")[0]  # the backbone itself is always called
        return called[module]

    layers = [
        (name, module) for name, module in backbone.named_modules() if any(True for _ in module.parameters(False))
    ]
    return sorted(layers, key=lambda layer: place(layer[0]))


def _count(rule: FreezeRule, count: int) -> int:
    if not isinstance(rule, FreezeConfig):
        return count
    given = rule.model_dump(exclude_none=True)
    if rule.first is not None and rule.first <= count:
        return rule.first
    if rule.all_but_last is not None and rule.all_but_last < count:
        return count - rule.all_but_last
    raise ConfigError(
        f"model.freeze={given}, but the backbone has {count} layers with parameters; choose a smaller number, "
        f"{'backbone' if rule.first is not None else 'none'}, or another model."
    )


def _whole(backbone: nn.Module, trained: set[nn.Module]) -> list[nn.Module]:
    """Return the largest modules that have layers, none of them in ``trained``."""
    if not any(module in trained for module in backbone.modules()):
        return [backbone] if list(backbone.parameters()) else []
    return [module for child in backbone.children() for module in _whole(child, trained)]
