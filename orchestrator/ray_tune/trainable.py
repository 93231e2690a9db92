"""Tune's trainable, run by a Ray worker: one trial after another, one epoch per step.

A worker process is reused, so torch and timm are imported once. They are imported in ``step`` and not in ``setup``: an
actor whose constructor is slow loses its place to the next free worker.

A step returns to Tune a few scalars and the report as one JSON string: Tune keeps every number of a result, for every
trial, for the whole sweep.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ray import tune

from agr_core.errors import DivergedError, InputError
from agr_core.reporting import EpochReport
from orchestrator.provenance import hardware
from orchestrator.ray_tune.internals.tune import CHANGE_FOLDER, RESULT_DONE
from orchestrator.worker.epochs import EpochSource
from orchestrator.worker.job import Job, Placed

if TYPE_CHECKING:
    from orchestrator.ray_tune.team import TeamSource

EPOCH = "epoch"
VALUE = "objective"
REPORT = "report"
OUTCOME = "outcome"
ERROR = "error"
PLACED = "placed"
STAGE = "stage"
STAGED = "staged"
FILES = "files"
BASELINE = "baseline"
JOB = "job"


class TrialTrainable(tune.Trainable):  # type: ignore[misc]
    """Training of one trial; ``reset_config`` gives the warm worker the next one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        os.environ[CHANGE_FOLDER] = "0"  # the worker has nothing of the driver's environment
        super().__init__(*args, **kwargs)

    def setup(self, config: dict[str, Any]) -> None:
        """Take a job; nothing slow happens here."""
        self._job = Job.from_json(config[JOB])
        self._epochs: EpochSource | TeamSource | None = None
        self._previous: EpochSource | TeamSource | None = None

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial. This must not fail: Tune gives up a trial whose reset fails."""
        previous = self._epochs
        self.setup(new_config)
        self._previous = previous
        return True

    def step(self) -> dict[str, Any]:
        """Train until an epoch that the journal lacks is over; before that, one stage per step.

        If several processes train the trial, the first step reports their placement.

        A non-finite loss or an input error ends the trial here, with its outcome. Any other exception propagates to
        Tune, which starts another attempt.
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
            return {OUTCOME: "diverged", ERROR: str(error), RESULT_DONE: True}
        except InputError as error:
            return {OUTCOME: "failed", ERROR: f"{type(error).__name__}: {error}", RESULT_DONE: True}
        staged = self._epochs.data_staged()
        baseline = self._epochs.baseline()
        return {
            **({} if baseline is None else {BASELINE: json.dumps(baseline)}),
            **({} if staged is None else {STAGED: json.dumps(asdict(staged) | self._hardware())}),
            EPOCH: report.epoch,
            VALUE: value,
            REPORT: json.dumps(_for_journal(report)),
            FILES: json.dumps(self._epochs.stored_files()),
            RESULT_DONE: report.finished,
        }

    def _hardware(self) -> dict[str, str]:
        """Return the kind of this machine, on which the trial trains unless a team does."""
        return {"hardware": hardware()} if self._job.team is None else {}

    def epochs(self, job: Job) -> EpochSource | TeamSource:
        """Return the epochs of ``job``; benchmarks override it."""
        if job.team is None:
            return EpochSource(job)
        from orchestrator.ray_tune.team import TeamSource

        return TeamSource(job)

    def get_auto_filled_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return Tune's own fields without the configuration, which would be sent back with every epoch."""
        filled: dict[str, Any] = super().get_auto_filled_metrics(*args, **kwargs)
        filled.pop("config", None)
        return filled

    def log_result(self, result: dict[str, Any]) -> None:
        """Do nothing: Tune would write the result to a file of its own."""

    def cleanup(self) -> None:
        """Free the trial's resources."""
        for source in (self._previous, self._epochs):
            if source is not None:
                source.close()


def _for_journal(report: EpochReport) -> dict[str, Any]:
    return {**report.to_json(), "tables": {}}  # tables stay in metrics.jsonl
