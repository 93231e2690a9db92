"""Sweeps that never ran, as their storage would have them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class RecordedSweep:
    """Writes the journal, and the files of the trials, of a sweep that never ran."""

    def __init__(self, storage: Any, sweep_id: str = "faces-20260102-030405-abcd", **more: Any) -> None:
        from agr_core.objective import Objective
        from orchestrator.journal import JournalWriter
        from orchestrator.records import DriverStarted, SweepStarted

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
        """Let time pass; returns the time it is."""
        self.now += seconds
        return self.now

    def record(self, *events: Any) -> None:
        """Store events as the next segment, and the summary, as a driver does at each flush."""
        from orchestrator.pareto import plain
        from orchestrator.state import SweepState
        from orchestrator.storage import layout

        for event in events:
            self.writer.append(event)
        self.writer.flush()
        self._events = [*self._events, *events]
        state = SweepState.from_events(self._events)
        best = state.best()
        summary = {
            "sweep_id": self.sweep_id,
            "name": self.started.name,
            "status": state.status,
            "started": self.started.time,
            "heartbeat": self.now,
            "wall_s": self.now - self.started.time,
            "budget_wall_s": None,
            "objective": self.started.objective_document,
            "trials": {**state.counts(), "running": state.running},
            "planned": 4,
            "best": None
            if best is None or best.ended is None
            else {"trial_id": best.trial_id, "value": plain(best.ended.point)},
            "rerun_of": self.started.rerun_of,
        }
        self.storage.write(layout.summary(self.sweep_id), json.dumps(summary).encode())

    def create(self, number: int, params: dict[str, Any] | None = None, **more: Any) -> str:
        """A trial is proposed; ``params`` are dotted paths, laid over the default configuration."""
        from agr_core.config import TrialConfig
        from orchestrator.ids import trial_id
        from orchestrator.records import TrialCreated

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
        """An attempt begins."""
        from orchestrator.records import AttemptStarted

        self.record(AttemptStarted(time=self.tick(), trial_id=trial, attempt=attempt, node="node-1"))

    def report(self, trial: str, epoch: int, value: float, attempt: int = 0, **more: float) -> None:
        """An epoch is over; ``value`` is its age error."""
        from agr_core.objective import weighted_sums
        from orchestrator.records import TrialReported

        metrics = {"train/loss": value / 10, "val/loss": value / 9, "val/age_mae": value, "val/age_cs5": 1 / value}
        metrics |= {"val/gender_acc": 1 - value / 40, "val/race_acc": 1 - value / 30, "time/epoch_s": 1.0, **more}
        metrics |= weighted_sums(self.started.objectives, metrics)
        objective = self.started.objective.value(metrics)
        event = TrialReported(
            time=self.tick(), trial_id=trial, attempt=attempt, epoch=epoch, value=objective, metrics=metrics
        )
        self.record(event)

    def end_trial(self, trial: str, outcome: Any, values: list[float], **more: Any) -> None:
        """A trial is over; ``values`` are those it reported."""
        from orchestrator.records import TrialEnded

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
        """A whole trial, from proposal to end; its files only where asked for, because pictures of them take time."""
        trial = self.create(number, params, **more)
        self.start(trial)
        for epoch, value in enumerate(values, start=1):
            self.report(trial, epoch, value)
        if files:
            self.write_files(trial, values)
        self.end_trial(trial, outcome, values, kept_epochs=kept_epochs or {})
        return trial

    def write_files(self, trial: str, values: list[float], attempt: int = 0) -> None:
        """What an attempt leaves in the storage: record, metrics with a confusion matrix, log, weights."""
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
        """The sealed test part is read with the weights kept for ``label``."""
        from orchestrator.records import TestRead

        tables = {"test/gender_confusion": {"labels": ["female", "male"], "counts": [[4, 1], [0, 5]]}}
        self.record(TestRead(time=self.tick(), trial_id=trial, label=label, metrics=metrics, tables=tables))

    def end(self, status: Any = "completed", reason: str = "") -> None:
        """The driver lets go."""
        from orchestrator.records import SweepEnded

        self.record(SweepEnded(time=self.tick(), status=status, reason=reason, wall_s=60.0))

    def resume(self) -> None:
        """Another driver takes over."""
        from orchestrator.records import DriverStarted

        self.record(DriverStarted(time=self.tick(), driver_id="1", host="there", pid=2, resumed=True))


@pytest.fixture
def record_sweep(tmp_path: Path) -> Callable[..., RecordedSweep]:
    """Begins a recorded sweep in the storage folder ``tmp_path / "storage"``."""
    from orchestrator.storage import open_storage

    return lambda *arguments, **more: RecordedSweep(open_storage(str(tmp_path / "storage")), *arguments, **more)
