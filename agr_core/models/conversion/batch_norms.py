"""Statistics for batch norms that were folded away, measured on images.

A published network often has its batch norms folded into its convolutions. Given the mean 0 and the variance 1 they
give the right output in evaluation. In training they divide by the batch's deviation instead, which is not 1, so that
the network loses what it has learnt with the first step.

B: images, S: side of an image, in pixels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_BATCH = 32
_FEWEST = 16


def measure_batch_norms(model: nn.Module, images: Tensor) -> None:
    """Set the statistics of all batch norms to those of their inputs, and their weights so that outputs stay.

    Args:
        model: The network; evaluated as it is.
        images: (B, C, S, S) float32, normalised as the network takes them.

    Raises:
        ValueError: If there are too few images.
    """
    if len(images) < _FEWEST:
        raise ValueError(
            f"{len(images)} images are too few to measure statistics; give {_FEWEST} or more, such as 256."
        )
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    sums = {norm: (torch.zeros(norm.num_features).double(), torch.zeros(norm.num_features).double()) for norm in norms}
    counts = dict.fromkeys(norms, 0)

    def add(norm: nn.BatchNorm2d, given: Any) -> None:
        values = given[0].double().transpose(0, 1).flatten(1)
        sums[norm][0].add_(values.sum(1))
        sums[norm][1].add_(values.square().sum(1))
        counts[norm] += values.shape[1]

    hooks = [norm.register_forward_pre_hook(add) for norm in norms]
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(images), _BATCH):
            model(images[start : start + _BATCH])
    model.train(was_training)
    for hook in hooks:
        hook.remove()
    for norm in norms:
        mean = sums[norm][0] / counts[norm]
        _restate(norm, mean, (sums[norm][1] / counts[norm] - mean.square()).clamp(min=0))


def _restate(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """Give a batch norm other statistics (C,), and the weight and bias with which its output stays the same."""
    assert norm.running_mean is not None, "timm's batch norms track statistics"
    assert norm.running_var is not None, "timm's batch norms track statistics"
    with torch.no_grad():
        scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
        shift = norm.bias.double() - scale * norm.running_mean.double()
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.copy_(scale * (variance + norm.eps).sqrt())
        norm.bias.copy_(shift + scale * mean)
