"""Recorded sweeps: storage contents of sweeps without a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class RecordedSweep:
    """Writer of the journal and trial files of a sweep that never ran."""

    def __init__(self, storage: Any, sweep_id: str = "faces-20260102-030405-abcd", **more: Any) -> None:
        from agr_core.objective import Objective
        from orchestrator.journal.events import DriverStarted, SweepStarted
        from orchestrator.journal.segments import JournalWriter

        self.storage = storage
        self.sweep_id = sweep_id
        self.now = 1_767_323_045.0
        self.writer = JournalWriter(storage, sweep_id)
        self._events: list[Any] = []
        started: dict[str, Any] = {
            "name": "faces",
            "experiment": "faces",
            "description": "Which small model reads faces best?",
            "tags": ("cpu", "example"),
            "objective": Objective(metric="val/age_mae", direction="minimize"),
            "document": {"name": "faces", "search": {"algorithm": "tpe", "trials": 4, "seed": 7}, "scheduler": "none"},
            "provenance": {"python": "3.11", "packages": {"torch": "2"}},
        }
        self.started = SweepStarted(time=self.tick(), sweep_id=sweep_id, **{**started, **more})
        self.record(self.started)
        self.record(DriverStarted(time=self.tick(), driver_id="0", host="here", pid=1, resumed=False))

    def tick(self, seconds: float = 1.0) -> float:
        """Advance the clock; return the new time."""
        self.now += seconds
        return self.now

    def record(self, *events: Any) -> None:
        """Store events as the next segment, and the summary, as a driver does at each flush."""
        from orchestrator.catalog.summary import BestTrial, Summary, TrialCounts, write_summary
        from orchestrator.journal.sweep_state import SweepState

        for event in events:
            self.writer.append(event)
        self.writer.flush()
        self._events = [*self._events, *events]
        state = SweepState.from_events(self._events)
        winner = state.winner()
        objectives = self.started.objectives
        summary = Summary(
            sweep_id=self.sweep_id,
            name=self.started.name,
            status=state.status,
            started=self.started.time,
            heartbeat=self.now,
            wall_s=self.now - self.started.time,
            budget_wall_s=None,
            objective=objectives[0] if len(objectives) == 1 else objectives,
            trials=TrialCounts(**state.counts(), running=state.running),
            planned=4,
            best=None if winner is None else BestTrial.of(*winner.best),
            rerun_of=self.started.rerun_of,
            journal=self.writer.head,
        )
        write_summary(self.storage, summary)

    def create(self, number: int, params: dict[str, Any] | None = None, **more: Any) -> str:
        """Record a proposed trial; ``params`` maps dotted paths to values that override the default configuration."""
        from agr_core.config import TrialConfig
        from orchestrator.catalog.ids import trial_id
        from orchestrator.journal.events import TrialCreated

        document: dict[str, Any] = {"model": {"name": "basic_cnn"}, "schedule": {"name": "constant", "epochs": 6}}
        document |= {"optimizer": {"name": "adam"}, "age": {"encoding": "onehot"}}
        for path, value in (params or {}).items():
            *folders, name = path.split(".")
            inner = document
            for folder in folders:
                inner = inner.setdefault(folder, {})
            inner[name] = value
        config = TrialConfig.from_document(document)
        created: dict[str, Any] = {"configuration": number, "data_digest": "d" * 64, "split_digest": "5" * 64}
        created |= {
            "config": config.to_document(),
            "params": params or {},
            "data_uri": f"{self.storage.uri}/datasets/d",
        }
        event = TrialCreated(
            time=self.tick(),
            trial_id=trial_id(self.sweep_id, number),
            number=number,
            proposal={},
            config_digest=f"{number:064x}",
            **{**created, **more},
        )
        self.record(event)
        return event.trial_id

    def start(self, trial: str, attempt: int = 0) -> None:
        """Record the start of an attempt."""
        from orchestrator.journal.events import AttemptStarted

        self.record(AttemptStarted(time=self.tick(), trial_id=trial, attempt=attempt, node="node-1"))

    def report(self, trial: str, epoch: int, value: float, attempt: int = 0, **more: float) -> None:
        """Record the report of an epoch; ``value`` is its age error."""
        from agr_core.objective import weighted_sums
        from orchestrator.journal.events import TrialReported

        metrics = {"train/loss": value / 10, "val/loss": value / 9, "val/age_mae": value, "val/age_cs5": 1 / value}
        metrics |= {"val/gender_acc": 1 - value / 40, "val/race_acc": 1 - value / 30, "time/epoch_s": 1.0, **more}
        metrics |= weighted_sums(self.started.objectives, metrics)
        objective = self.started.objective.value(metrics)
        event = TrialReported(
            time=self.tick(), trial_id=trial, attempt=attempt, epoch=epoch, value=objective, metrics=metrics
        )
        self.record(event)

    def end_trial(self, trial: str, outcome: Any, values: list[float], **more: Any) -> None:
        """Record the end of a trial; ``values`` are its reported values."""
        from orchestrator.journal.events import TrialEnded

        best = None
        if values:
            best = (min if self.started.objective.direction == "minimize" else max)(values)
        ended: dict[str, Any] = {"epochs": len(values), "value": best, "attempt": 0 if values else None}
        ended["best_epoch"] = None if best is None else values.index(best) + 1
        self.record(TrialEnded(time=self.tick(), trial_id=trial, outcome=outcome, **{**ended, **more}))

    def trial(
        self,
        number: int,
        values: list[float],
        outcome: Any = "completed",
        params: Any = None,
        *,
        files: bool = False,
        kept_epochs: dict[str, int] | None = None,
        **more: Any,
    ) -> str:
        """Record a trial from proposal to end; files are optional, because drawing their pictures takes time."""
        trial = self.create(number, params, **more)
        self.start(trial)
        for epoch, value in enumerate(values, start=1):
            self.report(trial, epoch, value)
        if files:
            self.write_files(trial, values)
        self.end_trial(trial, outcome, values, kept_epochs=kept_epochs or {})
        return trial

    def write_files(self, trial: str, values: list[float], attempt: int = 0) -> None:
        """Write the files of an attempt: record, metrics with a confusion matrix, log, weights."""
        from agr_core.reporting import EpochReport
        from orchestrator.storage import layout

        folder = layout.attempt(self.sweep_id, trial, attempt)
        tables = {"val/gender_confusion": {"labels": ["female", "male"], "counts": [[40, 10], [5, 45]]}}
        reports = [
            EpochReport(epoch=epoch, metrics={"val/age_mae": value, "val/loss": value}, tables=tables)
            for epoch, value in enumerate(values, start=1)
        ]
        lines = "".join(json.dumps(report.to_json()) + "\n" for report in reports)
        self.storage.write(
            f"{folder}/trial.json", json.dumps({"trial_id": trial, "config": {}, "provenance": {}}).encode()
        )
        self.storage.write(f"{folder}/metrics.jsonl", lines.encode())
        self.storage.write(f"{folder}/log.txt", f"trial {trial} trained\n".encode())
        for epoch in {1, values.index(min(values)) + 1} if values else ():
            self.storage.write(layout.best_weights(folder, epoch), f"weights of {trial}, {epoch}".encode())

    def read_test(self, trial: str, metrics: dict[str, float], label: str = "best") -> None:
        """Record an evaluation on the sealed test part with the weights kept for ``label``."""
        from orchestrator.journal.events import TestRead

        tables = {"test/gender_confusion": {"labels": ["female", "male"], "counts": [[4, 1], [0, 5]]}}
        self.record(TestRead(time=self.tick(), trial_id=trial, label=label, metrics=metrics, tables=tables))

    def end(self, status: Any = "completed", reason: str = "") -> None:
        """Record the end of the driver."""
        from orchestrator.journal.events import SweepEnded

        self.record(SweepEnded(time=self.tick(), status=status, reason=reason, wall_s=60.0))

    def fall_silent(self, seconds: float = 3600.0) -> None:
        """Set the age of the driver's last sign of life, by the storage's clock."""
        import os
        import time

        then = time.time() - seconds
        for info in self.storage.list(f"sweeps/{self.sweep_id}"):
            os.utime(Path(self.storage.uri, info.key), (then, then))

    def resume(self) -> None:
        """Record the start of another driver."""
        from orchestrator.journal.events import DriverStarted

        self.record(DriverStarted(time=self.tick(), driver_id="1", host="there", pid=2, resumed=True))


@pytest.fixture
def record_sweep(tmp_path: Path) -> Callable[..., RecordedSweep]:
    """Start a recorded sweep in the storage folder ``tmp_path / "storage"``."""
    from orchestrator.storage import open_storage

    return lambda *arguments, **more: RecordedSweep(open_storage(str(tmp_path / "storage")), *arguments, **more)
