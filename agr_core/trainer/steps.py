"""One pass over the training part, and one over an evaluated part.

B: images in the batch. Metrics are accumulated on the device. In each step the host waits only for the check that the
loss is finite.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from agr_core.batch import Batch
from agr_core.config import ComputeConfig, Task
from agr_core.errors import DivergedError
from agr_core.evaluation.metrics import PartMetrics
from agr_core.evaluation.routing import RoutingMetrics
from agr_core.labels.encodings import AgeEncoding
from agr_core.models.cascade import Cascade
from agr_core.models.task_model import TaskModel
from agr_core.trainer.device import autocast
from agr_core.trainer.distributed import ALONE, Team
from agr_core.trainer.images import Normalizer
from agr_core.trainer.losses import MultiTaskLoss
from agr_core.trainer.mixup import Mix
from agr_core.trainer.optim import set_lr

T = TypeVar("T")

Figures = tuple[dict[str, float], dict[str, Any]]
"""Metrics and tables of a part, without the part's prefix."""


@dataclass(frozen=True)
class Predictor:
    """The model on its device, with everything needed to turn a batch into losses."""

    model: TaskModel
    encoding: AgeEncoding
    loss: MultiTaskLoss
    normalize: Normalizer
    compute: ComputeConfig
    device: torch.device
    mirrored: bool = False
    """Whether evaluation averages the outputs for each image and its mirror image."""
    wrapped: nn.Module | None = None
    """The model with gradients averaged over a team, used in training; None: the model itself."""

    def logits(self, images: Tensor, groups: Tensor | None = None) -> dict[Task, Tensor]:
        """Return each task's outputs (B, outputs) for normalised images (B, C, S, S).

        ``groups`` (B,) selects the experts of a cascade; see ``Cascade.forward``.
        """
        with autocast(self.compute, self.device):
            logits: dict[Task, Tensor] = (self.wrapped or self.model)(images, groups)
            if self.mirrored and not self.model.training:
                mirror_logits = self.model(images.flip(-1), groups)
                logits = {task: (each + mirror_logits[task]) / 2 for task, each in logits.items()}
        return self._with_other_tasks(logits)

    def rerouted(self, images: Tensor, logits: dict[Task, Tensor], groups: Tensor) -> dict[Task, Tensor]:
        """Return a cascade's outputs under the routing ``groups`` (B,), given its ``logits``."""
        assert isinstance(self.model, Cascade), "nothing else routes"
        with autocast(self.compute, self.device):
            return self._with_other_tasks(self.model.rerouted(images, logits, groups))

    def _with_other_tasks(self, logits: dict[Task, Tensor]) -> dict[Task, Tensor]:
        return logits | self.encoding.other_tasks(logits["age"]) if "age" in logits else logits


def train_one_epoch(
    predictor: Predictor,
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler,
    batches: Iterable[Batch],
    *,
    epoch: int,
    mix_of: Callable[[int, int], Mix] | None = None,
    accumulate: int = 1,
    lr_of: Callable[[int], float],
    after_step: Callable[[], None] = lambda: None,
    metrics: PartMetrics,
    team: Team = ALONE,
) -> None:
    """Train on every batch once, with the learning rate ``lr_of(step in the epoch, from 0)``.

    A step has ``accumulate`` batches; the last step of the epoch may have fewer. Their losses are weighted by their
    number of images, so that the gradient is that of the mean over all images of the step.

    ``metrics`` receives each batch's outputs in training mode, before its update.

    Args:
        predictor: Model to train.
        optimizer: Optimizer of its parameters.
        scaler: Loss scaler for half precision.
        batches: The epoch's batches.
        epoch: Index of the epoch, counted from 0.
        mix_of: Returns the MixUp of a batch, given its index in the epoch, from 0, and its number of images; None: no
            MixUp.
        accumulate: Number of batches per step.
        lr_of: Returns the learning rate of a step.
        after_step: Called after each update.
        metrics: Accumulator of the training metrics.
        team: Processes that share the batches.

    Raises:
        DivergedError: If a loss is not finite, before its update is applied; the message names the step.
    """
    predictor.model.train()
    for step, group in enumerate(_in_groups(enumerate(batches), accumulate)):
        set_lr(optimizer, lr_of(step))
        optimizer.zero_grad()
        images_in_step = sum(batch.images_of_all for _, batch in group)
        for number, batch in group:
            labels = batch.labels.to(predictor.device)
            groups = predictor.model.training_groups(labels)
            labels = predictor.model.trained_labels(labels)
            images = predictor.normalize(batch.images)
            mix = mix_of(number, len(batch.rows)) if mix_of is not None else None
            with team.summing(predictor.wrapped, now=number == group[-1][0]):
                logits = predictor.logits(images if mix is None else mix.images(images), groups)
                total, losses = predictor.loss.in_training(logits, labels, epoch=epoch, mix=mix)
                checked = team.mean(total)
                is_finite = _finite_later(checked)
                # The team averages gradients over processes; scaling makes that the mean over the images of the step.
                torch.autograd.backward(scaler.scale(total * (team.size * len(batch.rows) / images_in_step)))
            if not is_finite():
                raise DivergedError(f"step {step + 1}: the loss is {checked.item():g}; the update was not made.")
            metrics.update(logits, labels, losses, total)
        team.average_gradients(predictor.loss.parameters())
        scaler.step(optimizer)
        scaler.update()
        after_step()


@torch.inference_mode()
def evaluate(
    predictor: Predictor,
    batches: Iterable[Batch],
    metrics: PartMetrics,
    *,
    mix_of: Callable[[int, int], Mix] | None = None,
    team: Team = ALONE,
) -> Figures:
    """Return metrics and tables of a part: dropout off, batch norm in evaluation mode, no smoothing or weights.

    Each process of a ``team`` predicts its own batches and returns the metrics of the whole part. With ``mix_of``, as
    in ``train_one_epoch``, images are mixed, and each keeps its own label, the dominant one.

    Raises:
        DivergedError: If a loss or an estimate is not finite.
    """
    predictor.model.eval()
    for number, batch in enumerate(batches):
        labels = batch.labels.to(predictor.device)
        images = predictor.normalize(batch.images)
        images = images if mix_of is None else mix_of(number, len(batch.rows)).images(images)
        logits = predictor.logits(images)
        total, losses = predictor.loss(logits, labels)
        metrics.update(logits, labels, losses, total)
        if isinstance(metrics, RoutingMetrics):
            groups = predictor.model.true_groups(labels)
            assert groups is not None, "a cascade has groups"
            logits = predictor.rerouted(images, logits, groups)
            total, losses = predictor.loss(logits, labels)
            metrics.oracle.update(logits, labels, losses, total)
    if team.size > 1:
        metrics.gather(team.gather)
    return metrics.compute()


def _in_groups(batches: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield the batches in groups of ``size``; the last group may be smaller."""
    remaining = iter(batches)
    while group := list(itertools.islice(remaining, size)):
        yield group


def _finite_later(total: Tensor) -> Callable[[], bool]:
    """Start checking on the device whether ``total`` is finite; the returned function waits for the answer.

    On a GPU the check is queued before the backward pass and read before the update is queued. The host waits only for
    the forward pass while the GPU works on the backward pass, so the check leaves no gap.
    """
    finite = torch.isfinite(total.detach())
    if total.device.type != "cuda":
        return lambda: bool(finite)
    answer = finite.to("cpu", non_blocking=True)  # pinned memory: the copy does not block
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()

    def wait() -> bool:
        copied.synchronize()
        return bool(answer)

    return wait
