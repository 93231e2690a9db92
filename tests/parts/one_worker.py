"""A sweep of one worker, epoch by epoch: real driver, search, scheduler and journal; only the training is a formula."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agr_core.reporting import EpochReport
from orchestrator.catalog import control
from orchestrator.journal.events import ControlReceived
from orchestrator.journal.segments import read_events, read_state
from orchestrator.spec.load import Sweep
from orchestrator.storage.base import Storage
from orchestrator.sweep.halving import early_stopping
from tests.parts.sweeps import Clock, local, make_run, small_sweep

SWEEP = "small-20260101-000000-abcd"
EPOCHS = 9
TRIALS = 14
LR = {"optimizer.lr": {"loguniform": [1.0e-3, 1.0e-2]}}


class Worker:
    """Drives one sweep with one worker, an epoch at a time, and can be killed and replaced."""

    def __init__(
        self, path: Path, sweep: Sweep, *, client: Callable[[Clock], Storage] | None = None, **settings: Any
    ) -> None:
        self.path, self.sweep, self.settings, self.clock = path, sweep, settings, Clock()
        self.client = client or (lambda _: local(path))
        self._take(resumed=False)

    def _take(self, *, resumed: bool) -> None:
        """Start a driver with a storage client of its own."""
        self.storage = self.client(self.clock)
        events, last = read_events(self.storage, SWEEP) if resumed else ([], 0)
        self.run = make_run(self.storage, self.sweep, next_segment=last + 1, clock=self.clock, **self.settings)
        self.scheduler = early_stopping(self.sweep)
        if resumed:
            self.run.replay(events, self.scheduler)
        else:
            self.run.begin()

    def killed(self) -> None:
        """The driver is killed, and another one resumes the sweep."""
        self.going = None
        self._take(resumed=True)

    def send(self, name: str, **arguments: Any) -> ControlReceived:
        """Give a command, let the driver look, and return what it journalled of it."""
        command = control.send(self.storage, SWEEP, name, arguments)
        self.look()
        events, _ = read_events(self.storage, SWEEP)
        return next(event for event in events if isinstance(event, ControlReceived) and event.key == command.key)

    def look(self) -> None:
        """Let the driver look for commands, and end the trials that it stops."""
        self.clock.now += 3
        for trial_id in self.run.poll():
            trial = self.run.live[trial_id]
            if not self.run.decisions.is_resumable(trial_id):
                self.scheduler.ended(trial_id, trial.epoch or None, trial.value)
            self.run.trial_over(trial_id)
            self.going = None if self.going == trial_id else self.going

    going: str | None = None

    def train(self, epochs: int = 1000) -> None:
        for _ in range(epochs):
            self.clock.now += 1
            if not self._one_epoch():
                return

    def train_into_a_trial(self) -> None:
        """A few trials have ended, and one is in its second epoch."""
        self.train(27)
        while not any(live.epoch == 2 for live in self.run.live.values()):
            self.train(1)
        self.run.flush()

    def _one_epoch(self) -> bool:
        run = self.run
        if self.going not in run.live:
            live = run.starting.next_restart(1)
            if live is None:
                created = run.next_trial(1)
                if created is None:
                    return False
                live = run.live[created.trial_id]
            compared = live.compared and live.created.confirms is None
            self.scheduler.added(live.trial_id, live.created.configuration if compared else None)
            run.attempt_started(live.trial_id, "10.0.0.1", "node-1")
            self.going = live.trial_id
        live = run.live[self.going]
        number = live.created.number
        if number % 7 == 6 and live.created.confirms is None:
            run.decisions.end_trial(live.trial_id, "diverged", "loss is not finite")
            self._over(live.trial_id, None, None)
            return True
        if number == 3 and not live.reconfigured:
            run.decisions.end_trial(live.trial_id, "failed", "DataError: an image is broken")
            self._over(live.trial_id, None, None)
            return True
        epoch, last = live.epoch + 1, int(live.created.config["schedule"]["epochs"])
        optimizer = live.created.config["optimizer"]
        error = 5 + abs(math.log10(optimizer["lr"]) + 3) + 4 / epoch + (optimizer["name"] == "sgd")
        finished = epoch == last
        run.epoch_reported(live.trial_id, EpochReport(epoch=epoch, metrics={"val/age_mae": error}, finished=finished))
        if finished or self.scheduler.reported(live.trial_id, epoch, error):
            self._over(live.trial_id, epoch, error)
        return True

    def _over(self, trial_id: str, epoch: int | None, value: float | None) -> None:
        self.scheduler.ended(trial_id, epoch, value)
        self.run.trial_over(trial_id)
        self.going = None

    def trial(self, number: int) -> str:
        """ID of a trial."""
        return list(read_state(self.storage, SWEEP).trials)[number]


def told(path: Path) -> list[Any]:
    """What the trials of a sweep were and how they ended."""
    return histories(local(path))


def histories(storage: Storage) -> list[Any]:
    """Configuration, outcome, epochs and values of each trial, in order of creation."""
    return [
        (
            json.dumps(trial.created.config, sort_keys=True),
            trial.outcome,
            [(report.epoch, report.value) for report in trial.reports],
            trial.ended and trial.ended.point,
        )
        for trial in read_state(storage, SWEEP).trials.values()
    ]


def a_sweep(**changes: Any) -> Sweep:
    return small_sweep(**{"search": {"algorithm": "tpe", "trials": TRIALS, "seed": 7}, **changes})


ORDERS: dict[str, Callable[[Worker], tuple[str, dict[str, Any]]]] = {
    "pause": lambda _: ("pause", {}),
    "extend": lambda _: ("extend", {"trials": 5}),
    "enqueue": lambda _: (
        "enqueue",
        {"config": {"model": {"name": "resnet10t"}, "optimizer": {"name": "nadam", "lr": 0.005}}},
    ),
    "retry": lambda worker: ("retry", {"trials": [worker.trial(3)]}),
    "continue": lambda worker: ("continue", {"trial_id": worker.trial(0), "epochs": 12}),
    "narrow": lambda _: ("narrow", {"domains": LR}),
    "narrow a branch": lambda _: ("narrow", {"domains": {"model": "resnet10t", "optimizer": ["sgd"]}}),
    "set": lambda _: ("set", {"concurrency": "50%"}),
    "kill": lambda worker: ("kill", {"trial_id": next(iter(worker.run.live))}),
}
