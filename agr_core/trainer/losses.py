"""The loss of a batch: the weighted sum of the tasks' mean losses, all in float32.

B: images in the batch, K: outputs of a task.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from agr_core.config import LossConfig, Task
from agr_core.data.batch import Labels
from agr_core.labels.encodings import AgeEncoding

_UNKNOWN = -1


class MultiTaskLoss:
    """Total and per-task losses of a batch.

    A task's loss is the mean over the images whose label is known, 0 where none is; the age loss is the encoding's.
    A task of weight 0 is reported, but takes no part in the total, so that not even its infinities do.
    """

    def __init__(self, config: LossConfig, encoding: AgeEncoding) -> None:
        self._weights = config.weights
        self._label_smoothing = config.label_smoothing
        self._encoding = encoding

    def __call__(
        self, logits: Mapping[Task, Tensor], labels: Labels, *, smooth: bool
    ) -> tuple[Tensor, dict[Task, Tensor]]:
        """The total (0-d) and each task's loss (0-d), float32.

        Args:
            logits: Each task's outputs (B, K), in any precision.
            labels: Labels of the batch, on the same device.
            smooth: Whether to smooth the labels as configured: in training, not in evaluation, so that the losses of
                trials with different smoothing compare.
        """
        smoothing = self._label_smoothing if smooth else 0.0
        losses: dict[Task, Tensor] = {}
        for task, outputs in logits.items():
            if task == "age":
                losses[task] = self._encoding.loss(outputs.float(), labels, label_smoothing=smoothing)
            else:
                losses[task] = mean_cross_entropy(outputs.float(), getattr(labels, task), label_smoothing=smoothing)
        weights = {task: getattr(self._weights, task) for task in losses}
        weighted = [weights[task] * loss for task, loss in losses.items() if weights[task] > 0]
        return torch.stack(weighted).sum(), losses


def mean_cross_entropy(logits: Tensor, classes: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy averaged over the known classes, 0-d; torch's own mean is NaN where none is known, this one 0.

    Shapes: logits (B, K) float32, classes (B,) int64 with -1 where not known.
    """
    total = functional.cross_entropy(
        logits, classes, ignore_index=_UNKNOWN, reduction="sum", label_smoothing=label_smoothing
    )
    return total / (classes != _UNKNOWN).sum().clamp(min=1)
