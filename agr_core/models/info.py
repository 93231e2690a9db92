"""A model in numbers: parameters, layers, operations."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from agr_core.models.face_model import TaskModel

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear, nn.MultiheadAttention)


@dataclass(frozen=True)
class ModelInfo:
    """How large a model is.

    ``parameters`` and ``trainable`` count weights: all, and those that an optimizer changes; ``backbone_parameters``
    those of the backbone alone; ``layers`` are convolutions, linear layers and multi-head attentions; ``gflops`` are
    10^9 floating-point operations of one image's forward pass, a multiplication and an addition being two, as torch
    counts them: of matrix products, convolutions and attention.
    """

    parameters: int
    trainable: int
    backbone_parameters: int
    layers: int
    gflops: float

    def to_json(self) -> dict[str, float]:
        """A plain JSON object with every field."""
        return asdict(self)


def model_info(model: TaskModel, *, channels: int, size: int) -> ModelInfo:
    """The numbers of a model on the CPU for images (1, ``channels``, ``size``, ``size``)."""
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
