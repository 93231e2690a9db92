"""Loss of a batch: the weighted sum of the tasks' mean losses, in float32.

B: images in the batch, K: outputs of a task.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from agr_core import plugins
from agr_core.batch import Labels
from agr_core.config import LossConfig, LossWeights, PluginLoss, Task
from agr_core.errors import ModelError
from agr_core.labels.encodings import AgeEncoding
from agr_core.trainer.image_weights import ImageWeights
from agr_core.trainer.mixup import Mix

_UNKNOWN = -1

Losses = tuple[Tensor, dict[Task, Tensor]]
"""Total loss (0-d) and each task's loss (0-d), float32."""


class MultiTaskLoss(nn.Module):
    """Total and per-task losses of a batch.

    A task's loss is the mean over the images with a known label, 0 if there are none. The age loss is the encoding's.
    The loss of attributes is the mean over all known attributes. A task of weight 0 is reported but not added to the
    total, so that its infinities have no effect.

    With ``balance: uncertainty``, the total in training is the sum of exp(-s) x loss + s / 2 over the tasks, where s is
    the learned logarithm of the task's variance (Kendall, Gal and Cipolla 2018, eq. 10, in the form for classification;
    the form for regression, whose loss has a factor of one half, has its optimum at the same weights).

    Args:
        config: ``TrialConfig.loss``.
        encoding: Age encoding.
        tasks: Trained tasks.
        weights: Image weights in training; None: 1 each.
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
        self._before: Sequence[Mapping[str, float]] = ()
        learned = [task for task in tasks if config.balance == "uncertainty" and getattr(config.weights, task) > 0]
        self.log_variances = nn.ParameterDict({task: nn.Parameter(torch.zeros(())) for task in learned})

    def after_epochs(self, before: Sequence[Mapping[str, float]]) -> None:
        """Pass the metrics of all finished epochs before the next one, which may begin a phase."""
        self._before = before

    def forward(self, logits: Mapping[Task, Tensor], labels: Labels) -> Losses:
        """Return the losses in evaluation: no smoothing, no image weights, tasks weighted by ``loss.weights``.

        Args:
            logits: Each task's outputs (B, K), in any precision.
            labels: Labels of the batch, on the same device.
        """
        losses = {task: self._task_loss(task, outputs.float(), labels) for task, outputs in logits.items()}
        return _weighted_sum(losses, self._config.weights), losses

    def in_training(
        self, logits: Mapping[Task, Tensor], labels: Labels, *, epoch: int, mix: Mix | None = None
    ) -> Losses:
        """Return the losses in training, with smoothing and weights as configured.

        Args:
            logits: Each task's outputs (B, K), in any precision.
            labels: Labels of the batch, on the same device.
            epoch: Index of the epoch, counted from 0.
            mix: MixUp of the images, if any.
        """
        outputs = {task: each.float() for task, each in logits.items()}
        losses = {task: self._task_loss(task, outputs[task], labels, training=True) for task in outputs}
        if mix is not None:
            partners = mix.partner_labels(labels)
            for task, own in losses.items():
                losses[task] = mix.losses(own, self._task_loss(task, outputs[task], partners, training=True))
        if not self.log_variances:
            return _weighted_sum(losses, self._config.weights_in(epoch + 1, self._before)), losses
        terms = [torch.exp(-s) * losses[task] + s / 2 for task, s in self.log_variances.items()]  # type: ignore[index]
        return torch.stack(terms).sum(), losses

    def learned_weights(self) -> dict[str, float]:
        """Return the current factor of each task, ``weight.<task>``; empty if factors are not learned."""
        return {f"weight.{task}": torch.exp(-s).item() for task, s in self.log_variances.items()}

    def _task_loss(self, task: Task, outputs: Tensor, labels: Labels, *, training: bool = False) -> Tensor:
        smoothing = self._config.label_smoothing if training else 0.0
        weights = self._image_weights.of(task, labels) if training and self._image_weights is not None else None
        if task == "age":
            return self._encoding.loss(outputs, labels, label_smoothing=smoothing, weights=weights, training=training)
        if task == "attributes":
            return mean_binary_cross_entropy(outputs, labels.attributes)
        classes = getattr(labels, task)
        if isinstance(self._config.classification, PluginLoss):
            return _mean_of_plugin(self._config.classification, outputs, classes, smoothing, weights)
        return mean_cross_entropy(outputs, classes, label_smoothing=smoothing, weights=weights)


def mean_cross_entropy(
    logits: Tensor, classes: Tensor, *, label_smoothing: float = 0.0, weights: Tensor | None = None
) -> Tensor:
    """Return cross-entropy averaged over the known classes, 0-d; 0 if none is known, where torch's mean is NaN.

    Shapes: logits (B, K) float32, classes (B,) int64 with -1 where unknown, image weights (B,).
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


def _mean_of_plugin(
    loss: PluginLoss, logits: Tensor, classes: Tensor, label_smoothing: float, weights: Tensor | None
) -> Tensor:
    """Return a plug-in's loss averaged over the known classes, 0-d; arguments are those of ``mean_cross_entropy``."""
    known = classes != _UNKNOWN
    logits, classes = logits[known], classes[known]
    losses = loss.losses(logits, classes, label_smoothing=label_smoothing)
    if losses.shape != classes.shape:
        raise ModelError(
            f"loss.classification={loss.name}: {plugins.described(plugins.LOSSES, loss.name)} gives losses of shape "
            f"{tuple(losses.shape)} for {len(classes)} images; it must give one an image."
        )
    total = losses.sum() if weights is None else (losses * weights[known]).sum()
    return total / known.sum().clamp(min=1)


def mean_binary_cross_entropy(logits: Tensor, attributes: Tensor) -> Tensor:
    """Return binary cross-entropy averaged over the known attributes of all images, 0-d; 0 if none is known.

    Shapes: logits and attributes (B, A) float32, attributes 1 or 0, NaN where unknown.
    """
    known = ~torch.isnan(attributes)
    losses = functional.binary_cross_entropy_with_logits(logits, torch.where(known, attributes, 0.0), reduction="none")
    return torch.where(known, losses, 0.0).sum() / known.sum().clamp(min=1)


def _weighted_sum(losses: Mapping[Task, Tensor], weights: LossWeights) -> Tensor:
    factors = {task: getattr(weights, task) for task in losses}
    return torch.stack([factors[task] * loss for task, loss in losses.items() if factors[task] > 0]).sum()
