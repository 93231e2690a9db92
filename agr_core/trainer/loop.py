"""The training of one trial on one page: build; then, epoch by epoch, seed, train, evaluate, report."""

from __future__ import annotations

import time
from pathlib import Path

import torch

from agr_core.config import TrialConfig
from agr_core.errors import DivergedError
from agr_core.objective import Objective
from agr_core.reporting import EpochReport, Reporter
from agr_core.trainer import checkpoint
from agr_core.trainer.averaging import Averaging
from agr_core.trainer.build import (
    build_predictor,
    check_milestones,
    check_watched_metrics,
    part_metrics,
    training_identity,
)
from agr_core.trainer.checkpoint import Parts, TensorFile
from agr_core.trainer.determinism import seed_everything, use_deterministic_algorithms
from agr_core.trainer.device import grad_scaler
from agr_core.trainer.evaluation import PartReport, evaluate_part, majority_baseline, prefixed
from agr_core.trainer.memory import give_back_freed_memory
from agr_core.trainer.optim import build_optimizer
from agr_core.trainer.schedule import trial_lr_at
from agr_core.trainer.source import TrainingData
from agr_core.trainer.state import LoopState
from agr_core.trainer.steps import evaluate, train_one_epoch

__all__ = ["PartReport", "Training", "evaluate_part", "majority_baseline", "train"]


def train(training: Training, report: Reporter) -> None:
    """Train to the end, reporting each epoch; ``report`` may raise to end it before."""
    while not training.finished:
        report(training.run_epoch())


class Training:
    """A trial in training: what a worker holds between two epochs.

    Raises:
        ConfigError: If the configuration cannot be trained on this data, or on this machine.
    """

    def __init__(self, config: TrialConfig, data: TrainingData, objective: Objective) -> None:
        check_watched_metrics(config, data, objective)
        check_milestones(config, data)
        self._config = config
        self._data = data
        self._objective = objective
        self._identity = training_identity(config, data, objective)
        self._predictor = build_predictor(config, data)
        self._averaging = Averaging(config.averaging, self._predictor)
        model = self._predictor.model
        self._parts = Parts(
            model=model,
            optimizer=build_optimizer(config.optimizer, model.parameters()),
            scaler=grad_scaler(config.compute, self._predictor.device),
            average=self._averaging.average,
        )
        self._state = LoopState.at_start(config)
        self._best: TensorFile | None = None
        self._best_in: tuple[Path, int] | None = None  # the folder that holds the best weights, and of which epoch
        self._between_epochs = True

    @property
    def reports(self) -> list[EpochReport]:
        """One report for each finished epoch."""
        return self._state.reports

    @property
    def epochs_done(self) -> int:
        """Finished epochs."""
        return self._state.epochs_done

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or early stopping ended the training."""
        return self._state.finished

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose weights are kept as the best, counted from 1; None before the first."""
        best = self._objective.best(self.reports)
        return None if best is None else best.epoch

    def run_epoch(self) -> EpochReport:
        """Train one epoch and evaluate the val part.

        Raises:
            DivergedError: On a loss that is not finite, naming epoch and step; this training cannot go on.
        """
        assert not self.finished, f"the training is finished after {self.epochs_done} epochs"
        self._check_between_epochs()
        self._between_epochs = False
        started = time.perf_counter()
        use_deterministic_algorithms(self._config.compute)
        seed_everything(self._config.seed, self.epochs_done)
        train_metrics = part_metrics(self._config, self._data, self._predictor, brief=True)
        try:
            train_one_epoch(
                self._predictor,
                self._parts.optimizer,
                self._parts.scaler,
                self._data.train_batches(self.epochs_done),
                accumulate=self._config.accumulate,
                lr_of=self._lr,
                after_step=self._averaging.after_step,
                metrics=train_metrics,
            )
            trained, _ = train_metrics.compute()
            trained_s = time.perf_counter() - started
            predictor = self._averaging.after_epoch(
                self.epochs_done + 1, lambda: self._data.train_batches(self.epochs_done)
            )
            val_metrics = part_metrics(self._config, self._data, predictor)
            val, tables = evaluate(predictor, self._data.batches("val"), val_metrics)
        except DivergedError as error:
            raise DivergedError(f"epoch {self.epochs_done + 1}, {error}") from error
        val = prefixed("val", val)
        metrics = {
            **prefixed("train", trained),
            **val,
            **self._objective.weighted_sum(val),
            "time/epoch_s": time.perf_counter() - started,
            "time/images_per_s": self._data.images_per_epoch / trained_s,
        }
        report = self._state.add_epoch(self._config, metrics, prefixed("val", tables))
        if self.best_epoch == report.epoch:
            self._best = TensorFile.of(predictor.model.state_dict())
        self._between_epochs = True
        return report

    def save(self, folder: Path) -> None:
        """Write a checkpoint (``checkpoint.py``) of at least one finished epoch."""
        self._check_between_epochs()
        assert self._best is not None, "there is nothing to save before the first epoch"
        assert self.best_epoch is not None
        best_in = (folder, self.best_epoch)
        checkpoint.save(
            folder,
            self._parts,
            self._state,
            best=self._best,
            best_epoch=self.best_epoch,
            write_best=self._best_in != best_in,
            identity=self._identity,
        )
        self._best_in = best_in

    def restore(self, folder: Path) -> None:
        """Go on from a checkpoint; what follows is bit for bit what an uninterrupted training would do.

        Raises:
            CheckpointError: If it is damaged or of another training; this one is then as it was.
        """
        self._state, self._best = checkpoint.restore(folder, self._parts, identity=self._identity)
        self._best_in = None
        self._between_epochs = True

    def close(self) -> None:
        """Free the memory; only ``reports`` is of use afterwards. The data is its opener's to close."""
        for attribute in ("_predictor", "_averaging", "_parts", "_best", "_data"):
            vars(self).pop(attribute, None)
        give_back_freed_memory()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _check_between_epochs(self) -> None:
        assert self._between_epochs, "an epoch was broken off: the weights are in the middle of it; restore first"

    def _lr(self, step_in_epoch: int) -> float:
        return trial_lr_at(
            self._config,
            step=self.epochs_done * self._data.steps_per_epoch + step_in_epoch,
            steps_per_epoch=self._data.steps_per_epoch,
            plateau=self._state.plateau,
        )
