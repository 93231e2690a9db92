"""Size of a model: parameters, layers, operations."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from agr_core.models.task_model import TaskModel

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear, nn.MultiheadAttention)


@dataclass(frozen=True)
class ModelInfo:
    """Size of a model.

    ``parameters`` counts all weights, ``trainable`` those that an optimizer updates, ``backbone_parameters`` those of
    the backbone. ``layers`` counts convolutions, linear layers and multi-head attentions. ``gflops`` are 10^9
    floating-point operations of one image's forward pass as torch counts them: matrix products, convolutions and
    attention, with two operations for a multiply-add.
    """

    parameters: int
    trainable: int
    backbone_parameters: int
    layers: int
    gflops: float

    def to_json(self) -> dict[str, float]:
        """Return a plain JSON object with every field."""
        return asdict(self)


def model_info(model: TaskModel, *, channels: int, size: int) -> ModelInfo:
    """Return the size of a model on the CPU for images (1, ``channels``, ``size``, ``size``)."""
    was_training = model.training
    model.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, channels, size, size))
    model.train(was_training)
    return ModelInfo(
        parameters=sum(weight.numel() for weight in model.parameters()),
        trainable=sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
        backbone_parameters=sum(weight.numel() for each in model.backbones for weight in each.parameters()),
        layers=sum(isinstance(module, _LAYERS) for module in model.modules()),
        gflops=counter.get_total_flops() / 1e9,
    )
