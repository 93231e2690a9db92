"""Weight averaging: whether the trained weights or an average is evaluated and kept (``torch.optim.swa_utils``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from agr_core.batch import Batch
from agr_core.config import AveragingConfig, EmaAveraging, NoAveraging, SwaAveraging
from agr_core.models.task_model import TaskModel
from agr_core.trainer.device import autocast
from agr_core.trainer.steps import Predictor


def build_average(config: AveragingConfig, model: nn.Module) -> AveragedModel | None:
    """Return an empty average of the model's weights; None if the trial does not average."""
    match config:
        case NoAveraging():
            return None
        case SwaAveraging():
            return AveragedModel(model)
        case EmaAveraging():
            # Batch norm statistics are averaged like weights: those of the trained weights belong to other activations.
            return AveragedModel(model, use_buffers=True)


def ema_decay(config: EmaAveraging, steps: int) -> float:
    """Return the decay after ``steps`` averaged steps, with TensorFlow's ``ExponentialMovingAverage`` warm-up."""
    return min(config.decay, (1 + steps) / (10 + steps)) if config.warmup else config.decay


class Averaging:
    """Running average of a trial's weights.

    Attributes:
        average: The average, which is part of a checkpoint; None if the trial does not average.
    """

    def __init__(self, config: AveragingConfig, predictor: Predictor) -> None:
        self._config = config
        self._predictor = predictor
        self.average = build_average(config, predictor.model)

    @property
    def models(self) -> list[nn.Module]:
        """The trained model and its average, if any: the modules that all processes of a team keep identical.

        ``average`` itself is not listed: its counter is always on the CPU, and NCCL cannot send CPU tensors.
        """
        return [self._predictor.model, *([] if self.average is None else [self.average.module])]

    def after_step(self) -> None:
        """Add the weights after an optimizer step to the average."""
        if isinstance(self._config, EmaAveraging):
            assert self.average is not None
            decay = ema_decay(self._config, int(self.average.n_averaged))
            self.average.multi_avg_fn = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            self.average.update_parameters(self._predictor.model)

    def after_epoch(self, epochs_done: int, batches: Callable[[], Iterable[Batch]]) -> Predictor:
        """Add the weights after an epoch to the average; return the predictor with the weights to evaluate.

        Args:
            epochs_done: Number of finished epochs, this one included.
            batches: Returns the training batches of the epoch again. Only SWA calls it: it computes the batch norm
                statistics of the average on them, in training mode, as in the paper.
        """
        if self.average is None:
            return self._predictor
        if isinstance(self._config, SwaAveraging):
            if epochs_done <= self._config.start_epoch:
                return self._predictor
            self.average.update_parameters(self._predictor.model)
            self._find_statistics(self.average, batches())
        return replace(self._predictor, model=cast("TaskModel", self.average.module))

    def _find_statistics(self, average: AveragedModel, batches: Iterable[Batch]) -> None:
        """Set mean and variance of each unfrozen batch norm over ``batches``, as torch's ``update_bn``."""
        predictor = self._predictor
        average.train()
        norms = [module for module in average.modules() if isinstance(module, _BatchNorm) and module.training]
        if not norms:
            return
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over all batches
        with torch.no_grad(), autocast(predictor.compute, predictor.device):
            for batch in batches:
                groups = predictor.model.true_groups(batch.labels.to(predictor.device))
                average(predictor.normalize(batch.images), groups)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
