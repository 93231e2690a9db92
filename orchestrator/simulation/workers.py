"""Simulated workers: real code writes the files of an attempt, a curve supplies its epochs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from agr_core.config import TrialConfig
from agr_core.errors import CheckpointError
from agr_core.identity import digest
from agr_core.objective import BEST, Objective
from agr_core.reporting import EpochReport
from orchestrator.errors import StorageError
from orchestrator.journal.outcome import Cause
from orchestrator.simulation.curves import Curve, metrics_of
from orchestrator.simulation.world import Actor, World
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.worker.attempt import LAST, STATE, Attempt, kept_file, resume
from orchestrator.worker.job import Job

Fate = Literal["well", "dies", "hangs", "raises", "late", "twice"]
"""Fate of a worker in an epoch."""

LATE_S = 90.0
"""Delay of a late report, in seconds."""


@dataclass
class SimulatedTraining:
    """Substitute for ``Training``: epochs come from a curve, and weights consist of the epoch's name."""

    config: Mapping[str, Any]
    objectives: tuple[Objective, ...]
    keep: Mapping[str, Objective]
    curve: Curve
    reports: list[EpochReport] = field(default_factory=list)
    kept_epochs: dict[str, int] = field(default_factory=dict)

    @property
    def epochs_done(self) -> int:
        """Number of finished epochs."""
        return len(self.reports)

    @property
    def diverges(self) -> bool:
        """Whether the next epoch's loss is not finite."""
        return self.curve.diverged and len(self.reports) == len(self.curve.values)

    def run_epoch(self) -> EpochReport:
        """Return the report of the next epoch."""
        epoch = len(self.reports) + 1
        metrics = metrics_of(self.curve.values[epoch - 1], (*self.objectives, *self.keep.values()))
        last = not self.curve.diverged and epoch == len(self.curve.values)
        self.reports.append(EpochReport(epoch=epoch, metrics=metrics, finished=last))
        for label, objective in {BEST: self.objectives[0], **self.keep}.items():
            kept = self.kept_epochs.get(label)
            before = None if kept is None else objective.value(self.reports[kept - 1].metrics)
            if objective.better(objective.value(metrics), before):
                self.kept_epochs[label] = epoch
        return self.reports[-1]

    def save(self, folder: Path) -> None:
        """Write the files of a checkpoint."""
        for label, epoch in self.kept_epochs.items():
            (folder / kept_file(label)).write_bytes(weights(self.config, epoch))
        (folder / LAST).write_bytes(weights(self.config, self.epochs_done))
        state = {"kept_epochs": self.kept_epochs, "reports": [report.to_json() for report in self.reports]}
        (folder / STATE).write_text(json.dumps(state), encoding="utf-8")

    def restore(self, folder: Path) -> None:
        """Continue from the files of a checkpoint.

        Raises:
            CheckpointError: If a file belongs to another configuration or epoch.
        """
        state = json.loads((folder / STATE).read_bytes())
        reports = [EpochReport.from_json(report) for report in state["reports"]]
        files = {LAST: len(reports), **{kept_file(label): epoch for label, epoch in state["kept_epochs"].items()}}
        for name, epoch in files.items():
            if (folder / name).read_bytes() != weights(self.config, epoch):
                raise CheckpointError(f"{name} is not of epoch {epoch}.")
        self.reports, self.kept_epochs = reports, state["kept_epochs"]


def weights(config: Mapping[str, Any], epoch: int) -> bytes:
    """Return the substitute for the weights of an epoch."""
    return f"{digest(config)}/{epoch}".encode()


@dataclass(frozen=True)
class Message:
    """Message from a worker to its driver: an epoch, divergence, or failure."""

    worker: SimulatedWorker
    report: EpochReport | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    diverged: bool = False
    error: str = ""
    cause: Cause = "error"


@dataclass(eq=False)
class SimulatedWorker:
    """Attempt of a trial, run one epoch at a time like ``EpochSource``."""

    world: World
    job: Job
    curve: Curve
    storage: Storage
    actor: Actor
    node_id: str
    send: Callable[[Message], None]
    scratch: Path
    fate: Callable[[], Fate]
    start_s: float
    provenance: Mapping[str, Any] = field(default_factory=dict)
    _attempt: Attempt | None = None
    _training: SimulatedTraining | None = None
    _reported: int = 0

    def begin(self) -> None:
        """Start the job and schedule the first epoch."""
        self._reported = self.job.last_journalled_epoch
        self.world.after(self.start_s, self.actor, lambda: self._guarded(self._open))

    def go_on(self) -> None:
        """Train the next epoch, after the driver has processed the previous one."""
        self.world.after(self._seconds(), self.actor, lambda: self._guarded(self._epoch))

    def close(self) -> None:
        """End the process."""
        self.actor.alive = False
        if self._attempt is not None:
            self._attempt.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _seconds(self) -> float:
        training = self._training
        ahead = training is not None and training.epochs_done > self._reported
        return 0.1 if ahead else self.curve.epoch_s

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except StorageError as error:
            self.send(Message(self, error=f"{type(error).__name__}: {error}"))

    def _open(self) -> None:
        job = self.job
        self.scratch.mkdir(parents=True)
        parent = layout.trial(job.sweep_id, job.trial_id)
        about = {"sweep_id": job.sweep_id, "trial_id": job.trial_id}
        self._attempt = Attempt(
            self.storage, parent, job.attempt, scratch=self.scratch, about=about, clock=self.world.clock
        )
        self._attempt.describe(TrialConfig.from_document(job.config), provenance=self.provenance)
        objectives = tuple(Objective.model_validate(document) for document in (job.objective, *job.further))
        keep = {label: Objective.model_validate(document) for label, document in job.keep.items()}
        training = SimulatedTraining(job.config, objectives, keep, self.curve)
        if job.resume:
            resume(self._attempt, training, journalled=job.last_journalled_epoch)  # type: ignore[arg-type]  # implements all that resume uses
        self._training = training
        self.go_on()

    def _epoch(self) -> None:
        assert self._training is not None, "opened before"
        assert self._attempt is not None, "opened before"
        fate = self.fate()
        if fate == "hangs":
            return
        if fate == "raises":
            self.send(Message(self, error=f"RuntimeError: {self.world.chance.random()}"))
            return
        if fate == "dies":
            self.actor.kill_in = self.world.chance.randrange(14)
        self._attempt.report_taken(self._reported)
        report = next(
            (stored_report for stored_report in self._training.reports if stored_report.epoch > self._reported), None
        )
        if report is None:
            if self._training.diverges:
                self.send(Message(self, diverged=True))
                return
            report = self._training.run_epoch()
            self._attempt.save(self._training)  # type: ignore[arg-type]
        self._reported = report.epoch
        message = Message(self, report=report, files=self._attempt.stored_files(report.epoch))
        self.world.after(LATE_S if fate == "late" else 0.01, self.actor, lambda: self.send(message))
        if fate == "twice":
            self.world.after(0.02, self.actor, lambda: self.send(message))
