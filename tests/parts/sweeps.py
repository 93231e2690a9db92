"""A small sweep and its sweep run, for tests without Ray."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from agr_core.config import DataConfig
from agr_core.reporting import EpochReport
from orchestrator.journal.events import DataRef, Event, SweepStarted
from orchestrator.journal.segments import JournalWriter
from orchestrator.search.search import Search
from orchestrator.spec.load import Sweep, sweep_from_document
from orchestrator.storage import open_storage
from orchestrator.storage.base import Storage
from orchestrator.sweep.run import SweepRun
from orchestrator.sweep.settings import SweepSettings

DOCUMENT: dict[str, Any] = {
    "name": "small",
    "trial": {"schedule": {"name": "constant", "epochs": 9}},
    "space": {
        "model": [{"name": "basic_cnn", "conv_layers": {"randint": [2, 4]}}, {"name": "resnet10t"}],
        "optimizer": [
            {"name": "nadam", "lr": {"loguniform": [1.0e-4, 1.0e-2]}},
            {"name": "sgd", "lr": {"loguniform": [1.0e-3, 1.0e-1]}, "momentum": {"uniform": [0.8, 0.99]}},
        ],
    },
    "search": {"algorithm": "tpe", "trials": 30, "seed": 7},
    "scheduler": {"name": "asha", "grace_epochs": 1, "reduction_factor": 3},
    "objective": {"metric": "val/age_mae", "direction": "minimize"},
}


DATA = DataRef(data_uri="/data", data_digest="d" * 64, split_digest="s" * 64)
"""Data that needs no files."""


class Clock:
    """Manually advanced clock."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Deaf:
    """Scheduler that stops no trial and records its calls."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def added(self, trial_id: str, number: int | None) -> None:
        self.told.append(("added", trial_id))

    def reported(self, trial_id: str, epoch: int, value: float) -> bool:
        self.told.append(("reported", trial_id, epoch, value))
        return False

    def ended(self, trial_id: str, epoch: int | None, value: float | None) -> None:
        self.told.append(("ended", trial_id, epoch, value))


def small_sweep(**changes: Any) -> Sweep:
    return sweep_from_document({**DOCUMENT, **changes})


def make_run(
    storage: Storage,
    sweep: Sweep,
    *,
    sweep_id: str = "small-20260101-000000-abcd",
    next_segment: int = 1,
    clock: Any = time.time,
    heard: list[Event] | None = None,
    **settings: Any,
) -> SweepRun:
    started = SweepStarted.of(sweep, time=clock(), sweep_id=sweep_id, provenance={})

    def prepare(_: DataConfig) -> DataRef:
        return DATA

    return SweepRun(
        started=started,
        storage=storage,
        search=Search.of(sweep),
        settings=SweepSettings(confirm=sweep.spec.confirm, **settings),
        prepare=prepare,
        prepare_weights=lambda _: None,
        writer=JournalWriter(storage, sweep_id, next_segment=next_segment),
        listener=(heard if heard is not None else []).append,
        clock=clock,
    )


def local(path: Path) -> Storage:
    return open_storage(str(path / "storage"))


def report(epoch: int, value: float, *, finished: bool = False) -> EpochReport:
    return EpochReport(epoch=epoch, metrics={"val/age_mae": value, "train/loss": 1.0}, finished=finished)
