"""Train the epochs of one attempt of a trial in this process.

An attempt writes only below its own folder in the sweep's storage.
"""

from __future__ import annotations

import functools
import logging
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agr_core.config import TrialConfig
from agr_core.data.loading.node_copy import CopyFigures
from agr_core.disk import writing
from agr_core.errors import CheckpointError, PluginError
from agr_core.objective import Objective
from agr_core.plugins import lacking
from agr_core.reporting import EpochReport
from orchestrator.assets.datasets import room_of, stage
from orchestrator.assets.weights import stage_weights
from orchestrator.errors import StorageError, StorageUnavailableError
from orchestrator.journal.events import StageRef
from orchestrator.provenance import collect
from orchestrator.settings import Settings
from orchestrator.storage import layout, open_patiently
from orchestrator.storage.base import Storage
from orchestrator.worker.attempt import WHEN_FULL, Attempt, SilentAttempt, resume
from orchestrator.worker.job import Job
from orchestrator.worker.scratch import Scratch
from orchestrator.worker.stage import Obtained, obtain

if TYPE_CHECKING:
    from agr_core.data.loading.trial_data import TrialData
    from agr_core.trainer.distributed import Team
    from agr_core.trainer.loop import Training


class EpochSource:
    """The epochs of one attempt: trained, or read from a checkpoint that is ahead of the journal.

    In a ``team`` each process has one, and only the leader's writes.
    """

    def __init__(self, job: Job, *, team: Team | None = None) -> None:
        self._job = job
        self._team = team
        logging.getLogger("agr_core").setLevel(logging.INFO)  # for the attempt's log
        kind = Attempt if team is None or team.leads else SilentAttempt
        self._settings = Settings.from_environment()
        _refuse_without_plugins(job.packages)
        self._config = TrialConfig.from_document(job.config)
        self._objective = Objective.model_validate(job.objective)
        self._storage = _storage(job.storage)
        with writing(Path(tempfile.gettempdir()), when_full=WHEN_FULL):
            self._scratch = Scratch(job.trial_id)
        parent = layout.trial(job.sweep_id, job.trial_id)
        about = {"sweep_id": job.sweep_id, "trial_id": job.trial_id}
        self._attempt = kind(self._storage, parent, job.attempt, scratch=self._scratch.path, about=about)
        self._reported = job.last_journalled_epoch
        self._stages_left = list(zip(self._config.stages, map(StageRef.model_validate, job.stages), strict=True))
        self._weights_sha256 = job.weights_sha256
        self._copy: CopyFigures | None = None
        self._baseline: dict[str, float] | None = None
        self._data: TrialData | None = None
        self._training: Training | None = None
        try:
            with self._failing():
                self._attempt.describe(self._config, provenance=collect())
        except BaseException:
            self.close()
            raise

    def next_stage(self) -> Obtained | None:
        """Obtain the next stage that the trial starts from; None if it has the weights of all."""
        if not self._stages_left:
            return None
        obtained = self._told(self._obtain_stage)
        self._weights_sha256 = obtained.weights_sha256
        del self._stages_left[0]
        return obtained

    def _told(self, find: Callable[[], Obtained]) -> Obtained:
        """Broadcast the result of ``find`` from the team's leader to all its processes."""
        if self._team is None:
            return find()
        told: Obtained = self._team.told(find() if self._team.leads else None)
        return told

    def _obtain_stage(self) -> Obtained:
        config, ref = self._stages_left[0]
        with self._failing():
            return obtain(
                config,
                ref,
                self._weights_sha256 or ref.weights_sha256,
                storage=self._storage,
                cache=self._settings.cache,
                scratch=self._scratch.path,
                owner=f"{self._job.sweep_id}/{self._job.trial_id}",
                say=self._say,
            )

    def _say(self, words: str) -> None:
        self._attempt.log(words)
        self._attempt.upload_log()

    def _open(self) -> Training:
        """Load data and model, or the checkpoint of an earlier attempt."""
        from agr_core.data.loading.trial_data import TrialData
        from agr_core.trainer.distributed import ALONE
        from agr_core.trainer.evaluation import majority_baseline
        from agr_core.trainer.loop import Training

        team = self._team or ALONE
        job, cache = self._job, self._settings.cache
        figures = CopyFigures()
        staged = stage(job.data, storage=self._storage, cache=cache, figures=figures)
        self._data = TrialData.open(
            self._config,
            packed=staged.packed,
            split=staged.split,
            cache=cache,
            figures=figures,
            room=room_of(cache),
            part=(team.rank, team.size),
        )
        self._baseline = majority_baseline(self._data)
        self._attempt.describe_labels(self._data.vocabulary, self._data.crop, drawn=self._data.only_drawn)
        keep = {label: Objective.model_validate(objective) for label, objective in job.keep.items()}
        weights = None
        if self._weights_sha256 is not None:
            weights = stage_weights(self._weights_sha256, storage=self._storage, cache=cache, figures=figures)
        self._copy = figures
        further = [Objective.model_validate(objective) for objective in job.further]
        training = Training(
            self._config, self._data, self._objective, keep, further=further, weights=weights, team=team
        )
        if job.resume:
            resume(self._attempt, training, journalled=job.last_journalled_epoch)
            epochs = team.gather(training.epochs_done)
            if len(set(epochs)) > 1:
                raise CheckpointError(f"the processes of the trial resumed from different checkpoints: {epochs}.")
        return training

    def data_staged(self) -> CopyFigures | None:
        """Return the cost of staging the data, once; None if returned before, or not staged yet."""
        figures, self._copy = self._copy, None
        return figures

    def baseline(self) -> dict[str, float] | None:
        """Return the baseline of the trial's split, once; None if returned before, or the data is not staged yet."""
        figures, self._baseline = self._baseline, None
        return figures

    def stored_files(self) -> dict[str, str]:
        """Return ``Attempt.stored_files`` for the epoch of the last ``next_epoch``."""
        return self._attempt.stored_files(self._reported)

    def next_epoch(self) -> tuple[EpochReport, float]:
        """Return the next epoch that the journal lacks, and its objective."""
        with self._failing():
            training = self._training = self._training or self._open()
            self._attempt.report_taken(self._reported)
        while True:
            report = self._ahead(training)
            if report is None:
                with self._failing():
                    report = training.run_epoch()
                    self._attempt.save(training)
            if report.epoch > self._reported:
                self._reported = report.epoch
                return self._last_if_asked(report), self._objective.value(report.metrics)

    def _ahead(self, training: Training) -> EpochReport | None:
        return next((report for report in training.reports if report.epoch > self._reported), None)

    def _last_if_asked(self, report: EpochReport) -> EpochReport:
        if self._job.stop_after_epochs is None or report.epoch < self._job.stop_after_epochs or report.finished:
            return report
        return EpochReport(
            epoch=report.epoch,
            metrics=report.metrics,
            tables=report.tables,
            stopped_early=report.stopped_early,
            finished=True,
        )

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """Log an error raised in the block, and store the log."""
        try:
            yield
        except StorageUnavailableError:  # a stage of another worker has no log here
            raise
        except BaseException as error:
            try:
                self._say(traceback.format_exc())
            except (OSError, StorageError) as unsaid:  # which must not hide what went wrong
                error.add_note(f"The log could not be stored: {unsaid}")
            raise

    def close(self) -> None:
        """Free memory and scratch space; stored files stay."""
        if self._training is not None:
            self._training.close()
        if self._data is not None:
            self._data.close()
        self._attempt.close()
        self._scratch.close()


def _refuse_without_plugins(packages: Mapping[str, str]) -> None:
    """Raise PluginError if this process lacks a package whose plug-ins the sweep uses, or has another version."""
    problems = lacking(packages)
    if problems:
        raise PluginError(
            f"this sweep uses plug-ins, and on this node {' and '.join(problems)}. Install there what the driver's "
            "machine has, and let the node leave and join again."
        )


@functools.lru_cache(maxsize=4)
def _storage(uri: str) -> Storage:
    """Return the worker's storage, one client per process: creating an S3 client takes a tenth of a second."""
    return open_patiently(uri)
