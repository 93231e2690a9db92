"""This project: the sweep run, the search and the scheduler that ``agr submit`` puts together, without its workers."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from agr_core.reporting import EpochReport
from orchestrator.catalog import control
from orchestrator.journal.events import DataRef, SweepStarted, TrialCreated
from orchestrator.journal.segments import read_events
from orchestrator.ray_tune.driver import Engine, build_run
from orchestrator.settings import Settings
from orchestrator.spec.load import Sweep
from orchestrator.storage import open_storage
from orchestrator.sweep.halving import early_stopping
from replay.table import columns

_IN_MEMORY = Path("/dev/shm")


_NO_DATA = DataRef(data_uri="/nowhere", data_digest="0" * 64, split_digest="0" * 64)
"""Where a trial's data would be: nothing is trained here."""


class Ours(AbstractContextManager["Ours"]):
    """A sweep whose epochs come from elsewhere. It keeps its journal, in a folder that goes with it."""

    def __init__(self, sweep: Sweep, *, workers: int) -> None:
        self._workers = workers
        self._folder = tempfile.TemporaryDirectory(
            prefix="agr-replay-", dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None
        )
        home = Path(self._folder.name)
        self.storage = open_storage(str(home / "storage"))
        settings = Settings(home=home, storage=self.storage.uri, tracking_uri="", ray_address=None)
        self._engine = Engine(
            settings=settings, storage=self.storage, prepare=lambda _: _NO_DATA, prepare_weights=lambda _: None
        )
        spec = sweep.spec
        self._sweep = sweep
        sweep_id = f"{spec.name}-20260101-000000-0000"
        self._started = SweepStarted.of(sweep, time=0.0, sweep_id=sweep_id, provenance={})
        self._metric = str(spec.objective.metric)
        self.run = build_run(sweep, self._started, self._engine, next_segment=1)
        self._scheduler = early_stopping(sweep)
        self.run.begin()

    def resume(self, *, after: str) -> None:
        """End this driver by ``agr stop``, by a ``signal`` or by a ``kill``; another one knows the journal alone."""
        if after == "agr stop":
            control.send(self.storage, self.run.sweep_id, "stop")
            for trial in self.run.poll():
                self.run.trial_over(trial)
            assert self.run.stop is not None
            self.run.end(self.run.stop.status, self.run.stop.reason)
        elif after == "signal":
            self.run.end("interrupted", "by a signal")
        else:
            self.run.flush()
        events, last = read_events(self.storage, self.run.sweep_id)
        self.run = build_run(self._sweep, self._started, self._engine, next_segment=last + 1)
        self._scheduler = early_stopping(self._sweep)
        self.run.replay(events, self._scheduler)

    def configurations(self) -> list[dict[str, Any]]:
        """Every configuration that was tried, in order."""
        self.run.flush()
        events, _ = read_events(self.storage, self.run.sweep_id)
        return [event.config for event in events if isinstance(event, TrialCreated)]

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def ask(self) -> tuple[str, Mapping[str, str | float]]:
        """What ``SweepSearch`` does for a free worker, and Tune with the trial it is given."""
        created = self.run.next_trial(self._workers)
        assert created is not None, "search.trials is more than the epochs allow"
        self._scheduler.added(created.trial_id, created.number)
        return created.trial_id, columns(created.config)

    def tell(self, trial: str, epoch: int, value: float, *, last: bool) -> bool:
        """In Tune's order: the scheduler, then ``SweepCallback``, which tells the sweep run."""
        stop = False if last else self._scheduler.reported(trial, epoch, value)
        self.run.epoch_reported(trial, EpochReport(epoch=epoch, metrics={self._metric: value}, finished=last))
        if last or stop:
            self._over(trial)
        return not (last or stop)

    def diverged(self, trial: str) -> None:
        """The trial said so itself."""
        self.run.decisions.end_trial(trial, "diverged", "the loss is not finite")
        self._over(trial)

    def _over(self, trial: str) -> None:
        live = self.run.live[trial]
        self._scheduler.ended(trial, live.epoch or None, live.value)
        self.run.trial_over(trial)
