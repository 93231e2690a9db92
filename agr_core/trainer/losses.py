"""The loss of a batch: the weighted sum of the tasks' mean losses, all in float32.

B: images in the batch, K: outputs of a task.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from agr_core.config import LossConfig, LossWeights, Task
from agr_core.data.batch import Labels
from agr_core.labels.encodings import AgeEncoding
from agr_core.trainer.image_weights import ImageWeights
from agr_core.trainer.mixup import Mix

_UNKNOWN = -1

Losses = tuple[Tensor, dict[Task, Tensor]]
"""The total (0-d) and each task's loss (0-d), float32."""


class MultiTaskLoss(nn.Module):
    """Total and per-task losses of a batch.

    A task's loss is the mean over the images whose label is known, 0 where none is; the age loss is the encoding's.
    The loss of attributes is the mean over those known.
    A task of weight 0 is reported, but takes no part in the total, so that not even its infinities do.

    With ``balance: uncertainty`` the total in training is the sum of exp(-s) x loss + s / 2 over the tasks, s the
    learned logarithm of the task's variance (Kendall, Gal and Cipolla 2018, eq. 10, their form for classification; the
    one for regression, whose loss has a factor of one half, has its optimum at the same weights).

    Args:
        config: ``TrialConfig.loss``.
        encoding: How ages are trained.
        tasks: What is trained.
        weights: Weights of single images in training; None: 1 each.
    """

    def __init__(
        self,
        config: LossConfig,
        encoding: AgeEncoding,
        *,
        tasks: Collection[Task] = ("age", "gender", "race"),
        weights: ImageWeights | None = None,
    ) -> None:
        super().__init__()
        self._config = config
        self._encoding = encoding
        self._image_weights = weights
        learned = [task for task in tasks if config.balance == "uncertainty" and getattr(config.weights, task) > 0]
        self.log_variances = nn.ParameterDict({task: nn.Parameter(torch.zeros(())) for task in learned})

    def forward(self, logits: Mapping[Task, Tensor], labels: Labels) -> Losses:
        """The losses in evaluation: nothing smoothed, no image weighted, the tasks by ``loss.weights``.

        Args:
            logits: Each task's outputs (B, K), in any precision.
            labels: Labels of the batch, on the same device.
        """
        losses = {task: self._task_loss(task, outputs.float(), labels) for task, outputs in logits.items()}
        return _weighted_sum(losses, self._config.weights), losses

    def in_training(
        self, logits: Mapping[Task, Tensor], labels: Labels, *, epoch: int, mix: Mix | None = None
    ) -> Losses:
        """The losses in training: smoothed and weighted as configured.

        Args:
            logits: Each task's outputs (B, K), in any precision.
            labels: Labels of the batch, on the same device.
            epoch: Which epoch it is, counted from 0.
            mix: How the images were mixed, if they were.
        """
        outputs = {task: each.float() for task, each in logits.items()}
        losses = {task: self._task_loss(task, outputs[task], labels, training=True) for task in outputs}
        if mix is not None:
            partners = mix.partner_labels(labels)
            for task, own in losses.items():
                losses[task] = mix.losses(own, self._task_loss(task, outputs[task], partners, training=True))
        if not self.log_variances:
            return _weighted_sum(losses, self._config.weights_in(epoch + 1)), losses
        terms = [torch.exp(-s) * losses[task] + s / 2 for task, s in self.log_variances.items()]  # type: ignore[index]
        return torch.stack(terms).sum(), losses

    def learned_weights(self) -> dict[str, float]:
        """The factor of each task, ``weight.<task>``, as it is now; empty where factors are not learned."""
        return {f"weight.{task}": torch.exp(-s).item() for task, s in self.log_variances.items()}

    def _task_loss(self, task: Task, outputs: Tensor, labels: Labels, *, training: bool = False) -> Tensor:
        smoothing = self._config.label_smoothing if training else 0.0
        weights = self._image_weights.of(task, labels) if training and self._image_weights is not None else None
        if task == "age":
            return self._encoding.loss(outputs, labels, label_smoothing=smoothing, weights=weights, training=training)
        if task == "attributes":
            return mean_binary_cross_entropy(outputs, labels.attributes)
        return mean_cross_entropy(outputs, getattr(labels, task), label_smoothing=smoothing, weights=weights)


def mean_cross_entropy(
    logits: Tensor, classes: Tensor, *, label_smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Cross-entropy averaged over the known classes, 0-d; torch's own mean is NaN where none is known, this one 0.

    Shapes: logits (B, K) float32, classes (B,) int64 with -1 where not known, weights of the images (B,).
    """
    losses = functional.cross_entropy(
        logits,
        classes,
        ignore_index=_UNKNOWN,
        reduction="sum" if weights is None else "none",
        label_smoothing=label_smoothing,
    )
    total = losses if weights is None else (losses * weights).sum()
    return total / (classes != _UNKNOWN).sum().clamp(min=1)


def mean_binary_cross_entropy(logits: Tensor, attributes: Tensor) -> Tensor:
    """Binary cross-entropy averaged over the known attributes of all images, 0-d; 0 where none is known.

    Shapes: logits and attributes (B, A) float32, attributes 1 or 0, NaN where not known.
    """
    known = ~torch.isnan(attributes)
    losses = functional.binary_cross_entropy_with_logits(logits, torch.where(known, attributes, 0.0), reduction="none")
    return torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)


def _weighted_sum(losses: Mapping[Task, Tensor], weights: LossWeights) -> Tensor:
    factors = {task: getattr(weights, task) for task in losses}
    return torch.stack([factors[task] * loss for task, loss in losses.items() if factors[task] > 0]).sum()
