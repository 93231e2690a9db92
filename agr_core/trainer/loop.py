"""Training loop of one trial: build; then per epoch seed, train, evaluate, report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from agr_core.config import TrialConfig
from agr_core.errors import ConfigError, DivergedError
from agr_core.evaluation.metrics import PartMetrics
from agr_core.evaluation.names import LEARNING_RATE
from agr_core.models.weights_file import WeightsFile, named_weights
from agr_core.objective import BEST, Objective, weighted_sums
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
from agr_core.trainer.checkpoint import Kept, Parts, TensorFile
from agr_core.trainer.determinism import seed_everything, use_deterministic_algorithms
from agr_core.trainer.device import grad_scaler
from agr_core.trainer.distributed import ALONE, Team
from agr_core.trainer.evaluation import PartReport, evaluate_part, majority_baseline, prefixed
from agr_core.trainer.memory import give_back_freed_memory, memory_metrics
from agr_core.trainer.mixup import Mix, draw_mix
from agr_core.trainer.optim import build_optimizer, trained_parameters
from agr_core.trainer.schedule import trial_lr_at
from agr_core.trainer.source import TrainingData
from agr_core.trainer.state import LoopState
from agr_core.trainer.steps import Predictor, evaluate, train_one_epoch

__all__ = ["PartReport", "Training", "evaluate_part", "majority_baseline", "train"]


def train(training: Training, report: Reporter) -> None:
    """Train to the end and report each epoch; ``report`` may raise to end the training early."""
    while not training.finished:
        report(training.run_epoch())


class Training:
    """State of a trial in training; a worker keeps it between epochs.

    The weights of one epoch are kept per label: ``best`` for the objective, and one for each objective of ``keep``.

    Args:
        config: The trial.
        data: Its data.
        objective: Objective that selects the best epoch.
        keep: Objectives that select the epochs of further labels.
        further: Objectives that are only reported and select no epoch.
        weights: Local file of ``model.weights``; None: ``model.weights`` is itself a local file, or none.
        team: Processes that train the trial together, each with its own ``Training`` and part of the data.

    Raises:
        ConfigError: If the configuration cannot be trained on this data, or on this machine.
        IntegrityError: If the SHA-256 of the weights file is not ``model.weights_sha256``.
    """

    def __init__(
        self,
        config: TrialConfig,
        data: TrainingData,
        objective: Objective,
        keep: Mapping[str, Objective] | None = None,
        *,
        further: Sequence[Objective] = (),
        weights: WeightsFile | None = None,
        team: Team = ALONE,
    ) -> None:
        if team.size != config.compute.processes:
            raise ConfigError(f"compute.processes={config.compute.processes}, but {team.size} train it together.")
        self._team = team
        self._objectives = {BEST: objective, **(keep or {})}
        check_watched_metrics(config, data, self._objectives, further)
        check_milestones(config, data)
        self._config = config
        self._data = data
        self._reported_objectives = (objective, *further)
        weights = weights or named_weights(config.model)
        self._identity, self._earlier_identity = (
            training_identity(config, data, self._objectives, weights, further, with_length=with_length)
            for with_length in (False, True)
        )
        self._predictor = build_predictor(config, data, train_labels=data.labels("train"), weights=weights)
        self._averaging = Averaging(config.averaging, self._predictor)
        model = self._predictor.model
        self._trained = replace(self._predictor, wrapped=team.wrap(model))
        self._parts = Parts(
            model=model,
            loss=self._predictor.loss,
            optimizer=build_optimizer(
                config.optimizer,
                trained_parameters(model).values(),
                of_loss=self._predictor.loss.parameters(),
            ),
            scaler=grad_scaler(config.compute, self._predictor.device),
            average=self._averaging.average,
        )
        self._state = LoopState.at_start(config)
        self._kept: dict[str, Kept] = {}
        self._kept_in: dict[str, tuple[Path, int]] = {}  # folder and epoch of each label's saved weights
        self._between_epochs = True

    @property
    def reports(self) -> list[EpochReport]:
        """One report per finished epoch."""
        return self._state.reports

    @property
    def epochs_done(self) -> int:
        """Number of finished epochs."""
        return self._state.epochs_done

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or early stopping ended the training."""
        return self._state.finished

    @property
    def best_epoch(self) -> int | None:
        """Epoch of the weights kept as best by the objective, counted from 1; None before the first epoch ends."""
        return self.kept_epochs.get(BEST)

    @property
    def kept_epochs(self) -> dict[str, int]:
        """Epoch of the weights kept for each label, counted from 1; empty before the first epoch ends."""
        return {label: kept.epoch for label, kept in self._kept.items()}

    def run_epoch(self) -> EpochReport:
        """Train one epoch and evaluate the val part.

        Raises:
            DivergedError: If a loss is not finite; the message names epoch and step. This training cannot continue.
        """
        assert not self.finished, f"the training is finished after {self.epochs_done} epochs"
        self._check_between_epochs()
        self._between_epochs = False
        started = time.perf_counter()
        use_deterministic_algorithms(self._config.compute)
        seed_everything(self._config.seed, self.epochs_done, self._team.rank)
        self._predictor.loss.after_epochs([report.metrics for report in self.reports])
        train_metrics = part_metrics(self._config, self._data, self._predictor, brief=True)
        try:
            train_one_epoch(
                self._trained,
                self._parts.optimizer,
                self._parts.scaler,
                self._data.train_batches(self.epochs_done),
                epoch=self.epochs_done,
                mix_of=self._mix if self._config.mixup is not None else None,
                accumulate=self._config.accumulate,
                lr_of=self._lr,
                after_step=self._averaging.after_step,
                metrics=train_metrics,
                team=self._team,
            )
            if self._team.size > 1:
                train_metrics.gather(self._team.gather)
            trained, _ = train_metrics.compute()
            trained_s = time.perf_counter() - started
            predictor = self._averaging.after_epoch(
                self.epochs_done + 1, lambda: self._data.train_batches(self.epochs_done)
            )
            self._team.take_buffers(*self._averaging.models)
            val_metrics = part_metrics(self._config, self._data, predictor)
            val, tables = evaluate(predictor, self._data.batches("val"), val_metrics, team=self._team)
        except DivergedError as error:
            raise DivergedError(f"epoch {self.epochs_done + 1}, {error}") from error
        val = prefixed("val", val)
        metrics = {
            **prefixed("train", trained | self._predictor.loss.learned_weights()),
            **val,
            **weighted_sums(self._reported_objectives, val),
            LEARNING_RATE: self._lr(self._data.steps_per_epoch - 1),
            "time/epoch_s": time.perf_counter() - started,
            "time/images_per_s": self._data.images_per_epoch / trained_s,
            **memory_metrics(self._team, self._predictor.device),
        }
        report = self._state.add_epoch(self._config, metrics, prefixed("val", tables))
        self._keep(report, predictor, val_metrics)
        self._between_epochs = True
        return report

    def save(self, folder: Path) -> None:
        """Write a checkpoint (``checkpoint.py``); at least one epoch must be finished."""
        self._check_between_epochs()
        assert self._kept, "there is nothing to save before the first epoch"
        kept_in = {label: (folder, kept.epoch) for label, kept in self._kept.items()}
        checkpoint.save(
            folder,
            self._parts,
            self._state,
            kept=self._kept,
            write=[label for label, place in kept_in.items() if self._kept_in.get(label) != place],
            identity=self._identity,
        )
        self._kept_in = kept_in

    def restore(self, folder: Path) -> None:
        """Continue from a checkpoint, bit for bit as an uninterrupted training would.

        It may be the end of a shorter training, if the schedule's first epochs do not depend on the length.

        Raises:
            CheckpointError: If the checkpoint is damaged or belongs to another training; this training is then
                unchanged.
        """
        self._state, self._kept = checkpoint.restore(
            folder,
            self._parts,
            identity=self._identity,
            earlier=self._earlier_identity,
            most_epochs=self._config.schedule.epochs,
        )
        self._state.lengthened(self._config)
        self._kept_in = {}
        self._between_epochs = True

    def close(self) -> None:
        """Free the memory; afterwards only ``reports`` may be used. The caller closes the data."""
        for attribute in ("_predictor", "_trained", "_averaging", "_parts", "_kept", "_data"):
            vars(self).pop(attribute, None)
        give_back_freed_memory()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()  # the next trial of this process measures its own peak

    def _keep(self, report: EpochReport, predictor: Predictor, val: PartMetrics) -> None:
        """Keep the weights behind ``report`` and their val predictions for every label whose best epoch it is."""
        best = {label: objective.best(self.reports) for label, objective in self._objectives.items()}
        labels = [label for label, of_label in best.items() if of_label is report]
        if labels:
            predictions = val.predictions(self._data.sample_ids("val")).to_parquet()
            kept = Kept(report.epoch, TensorFile.of(predictor.model.state_dict()), predictions)
            self._kept |= dict.fromkeys(labels, kept)

    def _check_between_epochs(self) -> None:
        assert self._between_epochs, "an epoch was broken off: the weights are in the middle of it; restore first"

    def _mix(self, batch: int, images: int) -> Mix:
        assert self._config.mixup is not None
        return draw_mix(self._config.mixup, images=images, seed=self._config.seed, epoch=self.epochs_done, batch=batch)

    def _lr(self, step_in_epoch: int) -> float:
        return trial_lr_at(
            self._config,
            step=self.epochs_done * self._data.steps_per_epoch + step_in_epoch,
            steps_per_epoch=self._data.steps_per_epoch,
            plateau=self._state.plateau,
        )
