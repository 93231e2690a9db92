"""A running sweep: what to try next, what happened, what to stop. Knows nothing of Ray.

Everything that happens is recorded: in the journal (``Recorder``) and in where the sweep stands (``Standing``). What
comes next is for ``Proposals`` to say.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from agr_core.config import DataConfig, ModelConfig
from agr_core.objective import Objective
from agr_core.reporting import EpochReport
from orchestrator import control
from orchestrator.confirmation import Confirmation
from orchestrator.errors import NotFoundError
from orchestrator.failures import Failures
from orchestrator.journal import JournalWriter
from orchestrator.outcome import OUTCOMES, Cause, Outcome, SweepStatus
from orchestrator.ownership import boot_id
from orchestrator.pareto import plain
from orchestrator.proposals import DataRef, Proposals
from orchestrator.recorder import Recorder
from orchestrator.records import (
    AttemptStarted,
    BaselineMeasured,
    ControlReceived,
    DataStaged,
    DriverStarted,
    Event,
    HistoryTaken,
    StageReused,
    StageTrained,
    SweepEnded,
    SweepStarted,
    TeamPlaced,
    TestOpened,
    TestRead,
    TrialCreated,
    TrialEnded,
    TrialReported,
    TrialResumed,
)
from orchestrator.search import Search
from orchestrator.standing import LiveTrial, Standing, Stop
from orchestrator.storage.base import Storage
from orchestrator.sweep_settings import SweepSettings

POLL_S = 2.0
"""Commands are looked for so often (seconds)."""


class Replayed(Protocol):
    """A scheduler that takes a journal: what it would have been told, told again."""

    def added(self, trial_id: str, number: int) -> None:
        """A trial was created, the ``number``-th of the sweep from 0."""
        ...

    def reported(self, trial_id: str, epoch: int, value: float) -> bool:
        """An epoch that did not finish the trial; returns whether the scheduler stops it."""
        ...

    def ended(self, trial_id: str, epoch: int | None, value: float | None) -> None:
        """The trial is over, with its last report."""
        ...


@dataclass
class SweepRun:
    """One driver's hold on one sweep."""

    started: SweepStarted
    storage: Storage
    search: Search
    settings: SweepSettings
    prepare: Callable[[DataConfig], DataRef]
    prepare_weights: Callable[[ModelConfig], str | None]
    """SHA-256 of the file of weights that a model starts from; see ``orchestrator.weights``."""
    writer: JournalWriter
    listener: Callable[[Event], None] = lambda _: None
    clock: Callable[[], float] = time.time
    fits_elsewhere: Callable[[str], bool] = lambda _: False
    """Whether a node other than this one (ID), and none that is quarantined, could run a trial."""

    standing: Standing = field(init=False)
    proposals: Proposals = field(init=False)
    recorder: Recorder = field(init=False)
    failures: Failures = field(init=False)
    fatal: Exception | None = field(default=None, init=False)
    """An error of ours raised inside Tune, which would hide it; the driver raises it again."""
    _polled: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        confirm = self.settings.confirm
        confirmation = None if confirm is None else Confirmation(confirm.top, confirm.seeds, self.objective)
        self.standing = Standing(self.started, self.search, confirmation)
        self.proposals = Proposals(
            self.standing,
            seeds=self.settings.seeds,
            concurrency=self.settings.concurrency,
            prepare=self.prepare,
            prepare_weights=self.prepare_weights,
            clock=self.clock,
        )
        self.recorder = Recorder(
            self.standing, self.writer, self.storage, summary=self.summary, listener=self.listener, clock=self.clock
        )
        self.failures = Failures(
            self.standing,
            self.settings,
            record=self.recorder.record,
            fits_elsewhere=lambda node_id: self.fits_elsewhere(node_id),
            clock=self.clock,
        )

    @property
    def sweep_id(self) -> str:
        """The sweep's ID."""
        return self.started.sweep_id

    @property
    def objective(self) -> Objective:
        """What is optimised."""
        return self.started.objective

    @property
    def live(self) -> dict[str, LiveTrial]:
        """Trials that have not ended, by ID."""
        return self.standing.live

    @property
    def counts(self) -> Counter[str]:
        """Ended trials, by outcome."""
        return self.standing.counts

    @property
    def best(self) -> tuple[str, tuple[float, ...]] | None:
        """The best completed trial and the value of each objective; of several the first one tells."""
        return self.standing.best

    @property
    def stop(self) -> Stop | None:
        """Why the sweep is to end before its last trial; None while it goes on."""
        return self.standing.stop

    @property
    def planned(self) -> int | None:
        """Number of trials asked for, the most that confirmation may take included; None when only a budget ends it."""
        confirm = self.settings.confirm
        confirmations = 0 if confirm is None else confirm.trials
        return None if self.search.limit is None else self.search.limit * self.settings.seeds + confirmations

    @property
    def wall_s(self) -> float:
        """Seconds that drivers of this sweep have run, this one included."""
        return self.standing.wall_s(self.clock())

    # ---- beginning and end

    def begin(self, history: Iterable[HistoryTaken] = ()) -> None:
        """Open the journal of a new sweep. Raises ``SweepOwnedError`` if the sweep exists."""
        self.writer.append(self.started)
        for taken in history:
            self.recorder.record(taken)
        self._take(resumed=False)

    def replay(self, events: list[Event], scheduler: Replayed) -> None:
        """Take over a sweep from its journal.

        A trial that the scheduler had decided to stop, or that had finished, without its end in the journal, is ended
        now. All other unfinished trials stay in ``live``, to be started again, and so do those that ``agr stop`` ended.
        What asked an earlier driver to stop, and was not heard, does not stop this one.
        """
        decided: dict[str, bool] = {}
        for event in events:
            if isinstance(event, TrialCreated):
                if event.proposed:
                    self.search.restore(event.configuration, event.proposal)
                scheduler.added(event.trial_id, event.number)
            elif isinstance(event, TrialReported) and not event.finished and event.trial_id in self.live:
                if event.epoch > self.live[event.trial_id].epoch:
                    decided[event.trial_id] = scheduler.reported(event.trial_id, event.epoch, event.value)
            elif isinstance(event, TrialEnded) and not event.resumable:
                trial = self.live[event.trial_id]
                scheduler.ended(event.trial_id, trial.epoch or None, trial.value)
            self.standing.apply(event)
        self._take(resumed=True)
        self.standing.forget_stop()
        left = control.pending(self.storage, self.sweep_id, obeyed=self.standing.obeyed)
        self.standing.obeyed.update(command.key for command in left if command.name == "stop")
        for trial_id in list(self.standing.interrupted):
            self._record(TrialResumed(time=self.clock(), trial_id=trial_id))
        # A driver that was killed may have started an attempt, or a whole trial, that it could not journal, and whose
        # process still lives and writes. So each driver counts attempts from a number none before it can have used.
        self.standing.first_attempt = 2 * sum(isinstance(event, DriverStarted) for event in events)
        for trial in list(self.live.values()):
            trial.ending, trial.resumable, trial.running = None, False, False
            if trial.finished or decided.get(trial.trial_id):
                scheduler.ended(trial.trial_id, trial.epoch, trial.value)
                self.trial_over(trial.trial_id)
            else:
                trial.attempt = max(trial.attempt + 2, self.standing.first_attempt)

    def _take(self, *, resumed: bool) -> None:
        self._record(
            DriverStarted(
                time=self.clock(),
                driver_id=secrets.token_hex(4),
                host=socket.gethostname(),
                boot=boot_id(),
                pid=os.getpid(),
                resumed=resumed,
            )
        )
        self.flush()

    def end(self, status: SweepStatus, reason: str = "") -> SweepEnded:
        """Let go of the sweep; returns the journal's last word."""
        ended = SweepEnded(time=self.clock(), status=status, reason=reason, wall_s=self.wall_s)
        self._record(ended)
        self.flush(status)
        return ended

    # ---- proposals

    @property
    def proposals_over(self) -> bool:
        """Whether no further trial will be created."""
        return self.proposals.over

    def next_trial(self, slots: int) -> TrialCreated | None:
        """A new trial, journalled, unless there is no room for it (``slots``) or nothing is left to propose."""
        created = self.proposals.next(slots)
        if created is not None:
            self._record(created)
        return created

    # ---- what happens to trials

    def attempt_started(self, trial_id: str, node: str, node_id: str = "") -> None:
        """The trial's current attempt begins to train on the node with this address and Ray's ID of it."""
        attempt = self.live[trial_id].attempt
        self._record(AttemptStarted(time=self.clock(), trial_id=trial_id, attempt=attempt, node=node, node_id=node_id))

    def team_placed(self, trial_id: str, node: str, node_id: str) -> None:
        """The processes that train the trial together are on the node with this address and Ray's ID of it."""
        attempt = self.live[trial_id].attempt
        self._record(TeamPlaced(time=self.clock(), trial_id=trial_id, attempt=attempt, node=node, node_id=node_id))

    def stage_obtained(self, trial_id: str, figures: Mapping[str, Any], *, trained: bool) -> None:
        """A trial has the weights of a stage. What a further attempt finds again is left out."""
        trial = self.live[trial_id]
        if figures["key"] not in trial.stages:
            event = StageTrained if trained else StageReused
            self._record(event(time=self.clock(), trial_id=trial_id, attempt=trial.attempt, **figures))

    def data_staged(self, trial_id: str, figures: Mapping[str, Any]) -> None:
        """A trial's current attempt has its data on its node; ``figures``: those of ``DataStaged``."""
        attempt = self.live[trial_id].attempt
        self._record(DataStaged(time=self.clock(), trial_id=trial_id, attempt=attempt, **figures))

    def epoch_reported(self, trial_id: str, report: EpochReport) -> None:
        """An epoch is over. One that is in the journal already (a retried epoch) is left out."""
        trial = self.live[trial_id]
        if report.epoch <= trial.epoch:
            return
        self._record(
            TrialReported(
                time=self.clock(),
                trial_id=trial_id,
                attempt=trial.attempt,
                epoch=report.epoch,
                value=self.objective.value(report.metrics),
                metrics=dict(report.metrics),
                finished=report.finished,
                stopped_early=report.stopped_early,
            )
        )

    def attempt_failed(
        self, trial_id: str, *, error: str, details: str = "", cause: Cause = "error", crowded: bool = False
    ) -> Literal["retry", "give up"]:
        """As ``Failures.attempt_failed``."""
        return self.failures.attempt_failed(
            self.live[trial_id], error=error, details=details, cause=cause, crowded=crowded
        )

    def newly_hung(self) -> list[str]:
        """IDs of trials whose attempts have said nothing for longer than the limit: their workers are to be ended."""
        return [trial.trial_id for trial in self.failures.newly_hung()]

    def trial_over(self, trial_id: str) -> Outcome:
        """A trial ended: as it, the budget or a person said; by its own last epoch; or else by the scheduler."""
        trial = self.live[trial_id]
        if trial.ending is not None:
            outcome, reason = trial.ending
        else:
            outcome, reason = ("completed" if trial.finished else "pruned"), ""
        self._record(
            TrialEnded(
                time=self.clock(),
                trial_id=trial_id,
                outcome=outcome,
                epochs=trial.epoch,
                value=None if trial.best is None else trial.best[1],
                values=trial.point if self.started.further else (),
                best_epoch=None if trial.best is None else trial.best[0],
                kept_epochs={label: epoch for label, (epoch, _) in trial.kept.items()},
                stopped_early=trial.stopped_early,
                error=reason or None,
                attempt=trial.reported_attempt,
                resumable=trial.resumable,
            )
        )
        if outcome == "failed":
            self.failures.blame(trial, reason)
        self.flush()
        return outcome

    def test_opened(self, trial_id: str, epoch: int, labels: Sequence[str]) -> None:
        """The sealed test part is about to be read with the weights of an epoch; ``flush`` before it is."""
        self._record(TestOpened(time=self.clock(), trial_id=trial_id, epoch=epoch, labels=tuple(labels)))

    def test_read(self, trial_id: str, label: str, metrics: Mapping[str, float], tables: Mapping[str, Any]) -> None:
        """What the sealed test part gave with the weights that a trial keeps for ``label``."""
        read = TestRead(time=self.clock(), trial_id=trial_id, label=label, metrics=dict(metrics), tables=dict(tables))
        self._record(read)

    def baseline_measured(self, split_digest: str, metrics: Mapping[str, float]) -> None:
        """The mean / majority predictor's figures on a split."""
        self._record(BaselineMeasured(time=self.clock(), split_digest=split_digest, metrics=dict(metrics)))

    def close_all(self) -> None:
        """End every trial that lives still, once the sweep is stopped and no worker has one."""
        for trial_id in list(self.live):
            self.trial_over(trial_id)

    # ---- the clock

    def poll(self) -> list[str]:
        """What is due now: flush, heartbeat, budget, commands. Returns IDs of trials that must be stopped."""
        now = self.clock()
        self.recorder.keep_up()
        if self.stop is None and self.settings.wall_s is not None and self.wall_s >= self.settings.wall_s:
            self.standing.stop_all(Stop("completed", f"budget.wall of {self.settings.wall_s:g} s is used up"))
        if now - self._polled >= POLL_S:
            self._polled = now
            for command in control.pending(self.storage, self.sweep_id, obeyed=self.standing.obeyed):
                self._obey(command)
        return [trial.trial_id for trial in self.live.values() if trial.ending is not None]

    def _obey(self, command: control.Command) -> None:
        arguments = dict(command.arguments)
        self._record(ControlReceived(time=self.clock(), command=command.name, arguments=arguments, key=command.key))
        if command.name == "stop":
            self.standing.stop_all(Stop("stopped", "agr stop"))
        elif command.name == "kill":
            trial = self.live.get(str(arguments.get("trial_id")))
            if trial is not None and trial.ending is None:
                trial.end_as("interrupted", "agr kill")
        else:
            raise NotFoundError(
                f"{command.key} asks for {command.name!r}; a driver of this version knows stop and kill."
            )

    # ---- the record

    def _record(self, event: Event) -> None:
        self.recorder.record(event)

    def flush(self, status: SweepStatus = "running") -> None:
        """Store what is pending; only then does anyone else hear of it."""
        self.recorder.flush(status)

    def summary(self, status: SweepStatus) -> dict[str, Any]:
        """What ``list`` and ``status`` read."""
        return {
            "sweep_id": self.sweep_id,
            "name": self.started.name,
            "status": status,
            "started": self.started.time,
            "heartbeat": self.clock(),
            "wall_s": round(self.wall_s, 3),
            "budget_wall_s": self.settings.wall_s,
            "objective": self.started.objective_document,
            "trials": {**{name: self.counts[name] for name in OUTCOMES}, "running": len(self.live)},
            "stages": self.standing.stage_counts(),
            "data": self.standing.copy_figures(),
            "quarantined": self.standing.quarantined_nodes(),
            "planned": self.planned,
            "test_reads": self.standing.test_reads,
            "best": None if self.best is None else {"trial_id": self.best[0], "value": plain(self.best[1])},
            "rerun_of": self.started.rerun_of,
        }
