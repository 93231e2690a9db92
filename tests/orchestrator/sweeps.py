"""A small sweep and a sweep run over it, for tests that need no Ray."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agr_core.config import DataConfig
from agr_core.reporting import EpochReport
from orchestrator.journal import JournalWriter
from orchestrator.records import Event, SweepStarted
from orchestrator.search import Search
from orchestrator.spec.load import Sweep, sweep_from_document
from orchestrator.storage import open_storage
from orchestrator.storage.base import Storage
from orchestrator.sweep_run import SweepRun
from orchestrator.sweep_settings import SweepSettings

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


@dataclass(frozen=True)
class FixedData:
    """Data that needs no files."""

    data_uri: str = "/data"
    data_digest: str = "d" * 64
    split_digest: str = "s" * 64


class Clock:
    """Time that passes when told to."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Deaf:
    """A scheduler that stops nothing and remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def added(self, trial_id: str, number: int) -> None:
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
    spec = sweep.spec
    assert spec.search is not None
    started = SweepStarted(
        time=clock(),
        sweep_id=sweep_id,
        name=spec.name,
        experiment=spec.name,
        objective=spec.objectives[0],
        further=spec.objectives[1:],
        keep=spec.keep,
        document=sweep.document,
        provenance={},
    )

    def prepare(_: DataConfig) -> FixedData:
        return FixedData()

    return SweepRun(
        started=started,
        storage=storage,
        search=Search(
            sweep.space,
            algorithm=spec.search.algorithm,
            seed=spec.search.seed,
            directions=started.directions,
            limit=spec.search.trials,
            start=sweep.start,
            population=spec.search.population,
        ),
        settings=SweepSettings(confirm=spec.confirm, **settings),
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
