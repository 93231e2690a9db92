"""One pass over the training part, and one over a part that is evaluated.

B: images in the batch. Figures are accumulated on the device; the only thing the host waits for in a step is whether
its loss is finite.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from agr_core.config import ComputeConfig, Task
from agr_core.data.batch import Batch
from agr_core.errors import DivergedError
from agr_core.evaluation.metrics import PartMetrics
from agr_core.evaluation.routing import RoutingMetrics
from agr_core.labels.encodings import AgeEncoding
from agr_core.models.cascade import Cascade
from agr_core.models.face_model import TaskModel
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
    """The model on its device with all that turns a batch into losses."""

    model: TaskModel
    encoding: AgeEncoding
    loss: MultiTaskLoss
    normalize: Normalizer
    compute: ComputeConfig
    device: torch.device
    mirrored: bool = False
    """Outside of training, outputs are the means of those for each image and for its mirror image."""
    wrapped: nn.Module | None = None
    """In training, the model with its gradients averaged over a team; None: the model itself."""

    def logits(self, images: Tensor, groups: Tensor | None = None) -> dict[Task, Tensor]:
        """Each task's outputs (B, outputs) for normalised images (B, C, S, S); ``groups`` (B,): see ``Cascade``."""
        with autocast(self.compute, self.device):
            logits: dict[Task, Tensor] = (self.wrapped or self.model)(images, groups)
            if self.mirrored and not self.model.training:
                mirror_logits = self.model(images.flip(-1), groups)
                logits = {task: (each + mirror_logits[task]) / 2 for task, each in logits.items()}
        return self._with_other_tasks(logits)

    def rerouted(self, images: Tensor, logits: dict[Task, Tensor], groups: Tensor) -> dict[Task, Tensor]:
        """The outputs of a cascade whose ``logits`` were these, if images are routed to ``groups`` (B,)."""
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

    A step is made of ``accumulate`` batches, or, at the end of the epoch, of those that are left: their losses are
    weighted by their images, so that the gradient is that of the mean over all of them.

    ``metrics`` sees each batch as it was predicted in training, before its update.

    Args:
        predictor: What is trained.
        optimizer: Updates it.
        scaler: Scales the loss where gradients are of half precision.
        batches: The epoch's batches.
        epoch: Which epoch it is, counted from 0.
        mix_of: How batch ``number`` of the epoch, from 0, of so many ``images`` is mixed; None: it is not.
        accumulate: Batches a step.
        lr_of: The learning rate of each step.
        after_step: Called after each update.
        metrics: Collects the figures.
        team: The processes that share the batches.

    Raises:
        DivergedError: If a loss is not finite, before the update it would have made; the message names the step.
    """
    predictor.model.train()
    for step, group in enumerate(_in_groups(enumerate(batches), accumulate)):
        set_lr(optimizer, lr_of(step))
        optimizer.zero_grad()
        images_in_step = sum(batch.images_of_all for _, batch in group)
        for number, batch in group:
            labels = batch.labels.to(predictor.device)
            groups = predictor.model.true_groups(labels)
            labels = predictor.model.trained_labels(labels)
            images = predictor.normalize(batch.images)
            mix = mix_of(number, len(batch.rows)) if mix_of is not None else None
            with team.summing(predictor.wrapped, now=number == group[-1][0]):
                logits = predictor.logits(images if mix is None else mix.images(images), groups)
                total, losses = predictor.loss.in_training(logits, labels, epoch=epoch, mix=mix)
                checked = team.mean(total)
                is_finite = _finite_later(checked)
                # A team averages gradients over its processes; it is to be the mean over the images of the step.
                torch.autograd.backward(scaler.scale(total * (team.size * len(batch.rows) / images_in_step)))
            if not is_finite():
                raise DivergedError(f"step {step + 1}: the loss is {checked.item():g}; the update was not made.")
            metrics.update(logits, labels, losses, total)
        team.average_gradients(predictor.loss.parameters())
        scaler.step(optimizer)
        scaler.update()
        after_step()


@torch.inference_mode()
def evaluate(predictor: Predictor, batches: Iterable[Batch], metrics: PartMetrics, *, team: Team = ALONE) -> Figures:
    """The figures of a part, dropout off and batch norm at its running statistics, nothing smoothed or weighted.

    Each process of a ``team`` predicts its own batches, and all of them have the figures of the whole part.

    Raises:
        DivergedError: If a loss or an estimate is not finite.
    """
    predictor.model.eval()
    for batch in batches:
        labels = batch.labels.to(predictor.device)
        images = predictor.normalize(batch.images)
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
    """The batches, ``size`` at a time; the last group has those that are left."""
    remaining = iter(batches)
    while group := list(itertools.islice(remaining, size)):
        yield group


def _finite_later(total: Tensor) -> Callable[[], bool]:
    """Asks the device whether ``total`` is finite; the answer is waited for when it is called.

    On a GPU the answer is asked for before the backward pass is queued and read before the update is: the GPU works on
    the backward pass while the host waits for no more than the forward pass, so checking every step leaves no gap.
    """
    finite = torch.isfinite(total.detach())
    if total.device.type != "cuda":
        return lambda: bool(finite)
    answer = finite.to("cpu", non_blocking=True)  # pinned memory, so the copy does not wait either
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()

    def wait() -> bool:
        copied.synchronize()
        return bool(answer)

    return wait
