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
import shutil
import tempfile
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune
from ray.tune.result import DONE

from agr_core.config import TrialConfig
from agr_core.errors import CheckpointError, DivergedError, InputError
from agr_core.objective import Objective
from agr_core.reporting import EpochReport
from orchestrator.datasets import DataRef, stage
from orchestrator.errors import NotFoundError
from orchestrator.provenance import collect
from orchestrator.ray_tune.attempt import Attempt
from orchestrator.records import SweepStarted, TrialCreated
from orchestrator.settings import Settings
from orchestrator.storage import open_storage
from orchestrator.storage.base import Storage
from orchestrator.weights import stage_weights

if TYPE_CHECKING:
    from agr_core.trainer.loop import Training

EPOCH = "epoch"
VALUE = "objective"
REPORT = "report"
OUTCOME = "outcome"
ERROR = "error"
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
    weights_sha256: str | None = None
    last_journalled_epoch: int = 0
    """Epochs up to this one are in the journal: they are trained if need be, and not reported again."""
    resume: bool = False
    """Look for a checkpoint of an earlier attempt."""
    stop_after_epochs: int | None = None

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
            keep={label: objective.model_dump(mode="json") for label, objective in sweep.keep.items()},
            data_uri=created.data_uri,
            data_digest=created.data_digest,
            split_digest=created.split_digest,
            weights_sha256=created.weights_sha256,
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


class TrialTrainable(tune.Trainable):  # type: ignore[misc]
    """One trial; ``reset_config`` turns the warm worker to the next one."""

    def setup(self, config: dict[str, Any]) -> None:
        """Take a job; nothing slow happens here."""
        self._job = Job.from_json(config[JOB])
        self._epochs: EpochSource | None = None
        self._previous: EpochSource | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Turn to the next trial. Nothing that can fail: Tune gives a trial up whose reset fails."""
        previous = self._epochs
        self.setup(new_config)
        self._previous = previous
        return True

    def step(self) -> dict[str, Any]:
        """Train until an epoch is over that the journal does not have.

        A loss that is not finite and a mistake of the user's end the trial here, with their outcome. Any other
        exception is Tune's, which starts another attempt.
        """
        try:
            if self._previous is not None:
                self._previous.close()
                self._previous = None
            if self._epochs is None:
                self._epochs = self.epochs(self._job)
            report, value = self._epochs.next_epoch()
        except DivergedError as error:
            return {OUTCOME: "diverged", ERROR: str(error), DONE: True}
        except InputError as error:
            return {OUTCOME: "failed", ERROR: f"{type(error).__name__}: {error}", DONE: True}
        return {
            EPOCH: report.epoch,
            VALUE: value,
            REPORT: json.dumps(_for_journal(report)),
            DONE: report.finished,
        }

    def epochs(self, job: Job) -> EpochSource:
        """Where the epochs of ``job`` come from; benchmarks put an empty one here."""
        return EpochSource(job)

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
    """The epochs of one attempt: trained, or read from a checkpoint that is ahead of the journal."""

    def __init__(self, job: Job) -> None:
        from agr_core.data.trial_data import TrialData
        from agr_core.trainer.loop import Training

        settings = Settings.from_environment()
        self._job = job
        self._objective = Objective.model_validate(job.objective)
        self._scratch = Path(tempfile.mkdtemp(prefix=f"agr-{job.trial_id}-"))
        storage = _storage(job.storage)
        self._attempt = Attempt(storage, job.sweep_id, job.trial_id, job.attempt, scratch=self._scratch)
        self._reported = job.last_journalled_epoch
        try:
            config = TrialConfig.from_document(job.config)
            self._attempt.describe(config, provenance=collect())
            ref = DataRef(data_uri=job.data_uri, data_digest=job.data_digest, split_digest=job.split_digest)
            staged = stage(ref, storage=storage, cache=settings.cache)
            self._data = TrialData.open(config, packed=staged.packed, split=staged.split, cache=settings.cache)
            keep = {label: Objective.model_validate(objective) for label, objective in job.keep.items()}
            weights = None
            if job.weights_sha256 is not None:
                weights = stage_weights(job.weights_sha256, storage=storage, cache=settings.cache)
            self._training: Training = Training(config, self._data, self._objective, keep, weights=weights)
            if job.resume:
                self._resume()
        except BaseException:
            self._fail()
            self._let_go()
            raise

    def _resume(self) -> None:
        try:
            if not self._attempt.fetch_newest_checkpoint():
                return
            self._training.restore(self._attempt.folder)  # changes nothing unless all of it can be read
        except (CheckpointError, NotFoundError) as error:
            # Trained from the start the trial comes out the same; only the time is lost.
            self._attempt.log(
                f"the checkpoint of an earlier attempt cannot be used, so it trains from the start: {error}"
            )
        else:
            self._attempt.save(self._training)

    def next_epoch(self) -> tuple[EpochReport, float]:
        """The next epoch the journal does not have, and its objective."""
        while True:
            report = self._ahead()
            if report is None:
                try:
                    report = self._training.run_epoch()
                    self._attempt.save(self._training)
                except BaseException:
                    self._fail()
                    raise
            if report.epoch > self._reported:
                self._reported = report.epoch
                return self._last_if_asked(report), self._objective.value(report.metrics)

    def _ahead(self) -> EpochReport | None:
        return next((report for report in self._training.reports if report.epoch > self._reported), None)

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

    def _fail(self) -> None:
        self._attempt.log(traceback.format_exc())
        self._attempt.upload_log()

    def close(self) -> None:
        """Free memory and scratch space; what is stored stays."""
        self._training.close()
        self._data.close()
        self._let_go()

    def _let_go(self) -> None:
        self._attempt.close()
        shutil.rmtree(self._scratch)


@functools.lru_cache(maxsize=4)
def _storage(uri: str) -> Storage:
    """One client a worker: making one for S3 takes a tenth of a second."""
    return open_storage(uri)


logging.getLogger("agr_core").setLevel(logging.INFO)
