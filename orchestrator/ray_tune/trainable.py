"""What runs in a Ray worker: one trial after another, an epoch a step.

A worker process is reused, so torch and timm are imported once. They are imported in ``step`` and not in ``setup``: an
actor whose constructor is slow loses its place to the next free worker (see FACTS, "Starvation").

A trial's attempt writes only below its own folder in the sweep's storage, and returns to Tune a result of a few
scalars and the report as one JSON string: Tune keeps every number of a result, for every trial, for the whole sweep.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.train.constants import RAY_CHDIR_TO_TRIAL_DIR
from ray.tune.result import DONE

from agr_core.config import TrialConfig
from agr_core.data.node_copy import CopyFigures
from agr_core.disk import writing
from agr_core.errors import CheckpointError, DivergedError, InputError
from agr_core.objective import Objective
from agr_core.reporting import EpochReport
from orchestrator.datasets import DataRef, room_of, stage
from orchestrator.errors import StorageError, StorageUnavailableError
from orchestrator.provenance import collect
from orchestrator.ray_tune.attempt import WHEN_FULL, Attempt, SilentAttempt, resume
from orchestrator.ray_tune.scratch import Scratch
from orchestrator.ray_tune.stage import Obtained, obtain
from orchestrator.records import StageRef, SweepStarted, TrialCreated
from orchestrator.settings import Settings
from orchestrator.storage import layout, open_patiently
from orchestrator.storage.base import Storage
from orchestrator.weights import stage_weights

if TYPE_CHECKING:
    from agr_core.data.trial_data import TrialData
    from agr_core.trainer.distributed import Team
    from agr_core.trainer.loop import Training
    from orchestrator.ray_tune.team import TeamSource

EPOCH = "epoch"
VALUE = "objective"
REPORT = "report"
OUTCOME = "outcome"
ERROR = "error"
PLACED = "placed"
STAGE = "stage"
STAGED = "staged"
JOB = "job"


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything a worker needs to train one attempt of one trial; plain JSON on its way through Tune."""

    sweep_id: str
    trial_id: str
    attempt: int
    storage: str
    config: dict[str, Any]
    objective: dict[str, Any]
    keep: dict[str, dict[str, Any]]
    data_uri: str
    data_digest: str
    split_digest: str
    further: tuple[dict[str, Any], ...] = ()
    """Objectives after the first, which are reported and tell no epoch."""
    weights_sha256: str | None = None
    stages: tuple[dict[str, Any], ...] = ()
    """What the stages are trained on, the first one first; how they are trained is in ``config``."""
    last_journalled_epoch: int = 0
    """Epochs up to this one are in the journal: they are trained if need be, and not reported again."""
    resume: bool = False
    """Look for a checkpoint of an earlier attempt."""
    stop_after_epochs: int | None = None
    team: dict[str, float] | None = None
    """Ray's resources of the processes that train it together, all of them; None: the worker trains it alone."""
    avoided: tuple[str, ...] = ()
    """IDs of nodes that are not to have those processes."""

    @classmethod
    def of(
        cls,
        created: TrialCreated,
        sweep: SweepStarted,
        *,
        storage: str,
        attempt: int = 0,
        last_journalled_epoch: int = 0,
    ) -> Job:
        """The job of a trial; a later attempt than the first looks for a checkpoint."""
        return cls(
            sweep_id=sweep.sweep_id,
            trial_id=created.trial_id,
            attempt=attempt,
            storage=storage,
            config=created.config,
            objective=sweep.objective.model_dump(mode="json"),
            further=tuple(objective.model_dump(mode="json") for objective in sweep.further),
            keep={label: objective.model_dump(mode="json") for label, objective in sweep.keep.items()},
            data_uri=created.data_uri,
            data_digest=created.data_digest,
            split_digest=created.split_digest,
            weights_sha256=created.weights_sha256,
            stages=tuple(ref.model_dump(mode="json") for ref in created.stages),
            last_journalled_epoch=last_journalled_epoch,
            resume=attempt > 0,
            stop_after_epochs=sweep.stop_after_epochs,
        )

    def to_json(self) -> str:
        """One JSON string: Tune copies and flattens nested configurations many times over."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The job that ``to_json`` wrote."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Placed:
    """The node, by address and Ray's ID, on which processes train a trial together."""

    node: str
    node_id: str


class TrialTrainable(tune.Trainable):  # type: ignore[misc]
    """One trial; ``reset_config`` turns the warm worker to the next one."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take a job; nothing slow happens here."""
        self._job = Job.from_json(config[JOB])
        self._epochs: EpochSource | TeamSource | None = None
        self._previous: EpochSource | TeamSource | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Turn to the next trial. Nothing that can fail: Tune gives a trial up whose reset fails."""
        previous = self._epochs
        self.setup(new_config)
        self._previous = previous
        return True

    def step(self) -> dict[str, Any]:
        """Train until an epoch is over that the journal does not have; before that, one stage a step.

        Where several processes train the trial, the first step tells where they are.

        A loss that is not finite and a mistake of the user's end the trial here, with their outcome. Any other
        exception is Tune's, which starts another attempt.
        """
        try:
            if self._previous is not None:
                self._previous.close()
                self._previous = None
            if self._epochs is None:
                self._epochs = self.epochs(self._job)
            before = self._epochs.next_stage()
            if before is not None:
                return {PLACED if isinstance(before, Placed) else STAGE: json.dumps(asdict(before))}
            report, value = self._epochs.next_epoch()
        except DivergedError as error:
            return {OUTCOME: "diverged", ERROR: str(error), DONE: True}
        except InputError as error:
            return {OUTCOME: "failed", ERROR: f"{type(error).__name__}: {error}", DONE: True}
        staged = self._epochs.data_staged()
        return {
            **({} if staged is None else {STAGED: json.dumps(asdict(staged))}),
            EPOCH: report.epoch,
            VALUE: value,
            REPORT: json.dumps(_for_journal(report)),
            DONE: report.finished,
        }

    def epochs(self, job: Job) -> EpochSource | TeamSource:
        """Where the epochs of ``job`` come from; benchmarks put an empty one here."""
        if job.team is None:
            return EpochSource(job)
        from orchestrator.ray_tune.team import TeamSource

        return TeamSource(job)

    def get_auto_filled_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Tune's own fields, without the configuration, which would travel back with every epoch."""
        filled: dict[str, Any] = super().get_auto_filled_metrics(*args, **kwargs)
        filled.pop("config", None)
        return filled

    def log_result(self, result: dict[str, Any]) -> None:
        """Nothing: Tune would write the result to a file of its own."""

    def cleanup(self) -> None:
        """Let go of the trial."""
        for source in (self._previous, self._epochs):
            if source is not None:
                source.close()


def _for_journal(report: EpochReport) -> dict[str, Any]:
    return {**report.to_json(), "tables": {}}  # tables stay in metrics.jsonl


class EpochSource:
    """The epochs of one attempt: trained, or read from a checkpoint that is ahead of the journal.

    Of a ``team`` each process has one, and the leader's alone writes.
    """

    def __init__(self, job: Job, *, team: Team | None = None) -> None:
        self._job = job
        self._team = team
        kind = Attempt if team is None or team.leads else SilentAttempt
        self._settings = Settings.from_environment()
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
        self._data: TrialData | None = None
        self._training: Training | None = None
        try:
            with self._failing():
                self._attempt.describe(self._config, provenance=collect())
        except BaseException:
            self.close()
            raise

    def next_stage(self) -> Obtained | None:
        """The next stage that the trial starts from; None when it has the weights of all."""
        if not self._stages_left:
            return None
        obtained = self._told(self._obtain_stage)
        self._weights_sha256 = obtained.weights_sha256
        del self._stages_left[0]
        return obtained

    def _told(self, find: Callable[[], Obtained]) -> Obtained:
        """What the leader of the team finds, for all of it."""
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
        """Data and model, or all of it from the checkpoint of an earlier attempt."""
        from agr_core.data.trial_data import TrialData
        from agr_core.trainer.distributed import ALONE
        from agr_core.trainer.loop import Training

        team = self._team or ALONE
        job, cache = self._job, self._settings.cache
        ref = DataRef(data_uri=job.data_uri, data_digest=job.data_digest, split_digest=job.split_digest)
        figures = CopyFigures()
        staged = stage(ref, storage=self._storage, cache=cache, figures=figures)
        self._data = TrialData.open(
            self._config,
            packed=staged.packed,
            split=staged.split,
            cache=cache,
            figures=figures,
            room=room_of(cache),
            part=(team.rank, team.size),
        )
        self._attempt.describe_labels(self._data.vocabulary, self._data.crop)
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
            resume(self._attempt, training)
            epochs = team.gather(training.epochs_done)
            if len(set(epochs)) > 1:
                raise CheckpointError(f"the processes of the trial went on from different checkpoints: {epochs}.")
        return training

    def data_staged(self) -> CopyFigures | None:
        """What bringing the data to this node took, once; None if that was said, or has not happened."""
        figures, self._copy = self._copy, None
        return figures

    def next_epoch(self) -> tuple[EpochReport, float]:
        """The next epoch the journal does not have, and its objective."""
        with self._failing():
            training = self._training = self._training or self._open()
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
        """Store in the log what goes wrong in the block."""
        try:
            yield
        except StorageUnavailableError:  # it was waited for, and takes no log
            raise
        except BaseException as error:
            try:
                self._say(traceback.format_exc())
            except (OSError, StorageError) as unsaid:  # which must not hide what went wrong
                error.add_note(f"The log could not be stored: {unsaid}")
            raise

    def close(self) -> None:
        """Free memory and scratch space; what is stored stays."""
        if self._training is not None:
            self._training.close()
        if self._data is not None:
            self._data.close()
        self._attempt.close()
        self._scratch.close()


@functools.lru_cache(maxsize=4)
def _storage(uri: str) -> Storage:
    """One client a worker: making one for S3 takes a tenth of a second."""
    return open_patiently(uri)


logging.getLogger("agr_core").setLevel(logging.INFO)
os.environ[RAY_CHDIR_TO_TRIAL_DIR] = "0"  # Tune reads it in the worker, which has nothing of the driver's environment
