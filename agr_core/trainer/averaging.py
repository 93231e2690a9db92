"""The weights that are evaluated and kept: those just trained, or an average of them (``torch.optim.swa_utils``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from agr_core.config import AveragingConfig, EmaAveraging, NoAveraging, SwaAveraging
from agr_core.data.batch import Batch
from agr_core.models.face_model import TaskModel
from agr_core.trainer.device import autocast
from agr_core.trainer.steps import Predictor


def build_average(config: AveragingConfig, model: nn.Module) -> AveragedModel | None:
    """Holds the average of a trial's weights, nothing averaged yet; None where weights are not averaged."""
    match config:
        case NoAveraging():
            return None
        case SwaAveraging():
            return AveragedModel(model)
        case EmaAveraging():
            # Statistics of batch norm are averaged like weights: those of the trained weights are of other activations.
            return AveragedModel(model, use_buffers=True)


def ema_decay(config: EmaAveraging, steps: int) -> float:
    """The decay after ``steps`` averaged steps, with warm-up as in TensorFlow's ``ExponentialMovingAverage``."""
    return min(config.decay, (1 + steps) / (10 + steps)) if config.warmup else config.decay


class Averaging:
    """Keeps the average of a trial's weights up to date.

    Attributes:
        average: The average, which is part of a checkpoint; None where weights are not averaged.
    """

    def __init__(self, config: AveragingConfig, predictor: Predictor) -> None:
        self._config = config
        self._predictor = predictor
        self.average = build_average(config, predictor.model)

    @property
    def models(self) -> list[nn.Module]:
        """The model that is trained, and its average if there is one: what a team holds alike.

        Not ``average`` as a whole: its counter is on the CPU, wherever the model is, and NCCL sends nothing from there.
        """
        return [self._predictor.model, *([] if self.average is None else [self.average.module])]

    def after_step(self) -> None:
        """Take up the weights of an optimizer step."""
        if isinstance(self._config, EmaAveraging):
            assert self.average is not None
            decay = ema_decay(self._config, int(self.average.n_averaged))
            self.average.multi_avg_fn = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            self.average.update_parameters(self._predictor.model)

    def after_epoch(self, epochs_done: int, batches: Callable[[], Iterable[Batch]]) -> Predictor:
        """Take up the weights of an epoch; gives what predicts with the weights that count.

        Args:
            epochs_done: Finished epochs, this one included.
            batches: Gives the training batches of the epoch once more: SWA's average finds the statistics of its batch
                norms in them, in training mode, as in the paper. Not called by others.
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
        """Mean and variance of each batch norm over ``batches``, as torch's ``update_bn``, but not of frozen ones."""
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
