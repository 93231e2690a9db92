"""A running sweep: propose trials, record events, decide what stops. Independent of Ray.

Every event goes into the journal (``Recorder``) and into the sweep's state (``Standing``). ``Proposals`` creates the
next trial.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agr_core.config import DataConfig, ModelConfig
from agr_core.objective import Objective
from agr_core.reporting import EpochReport
from orchestrator.catalog.ownership import AboutDriver, this_driver
from orchestrator.catalog.summary import Summary
from orchestrator.journal.best import Best
from orchestrator.journal.events import (
    AttemptStarted,
    BaselineMeasured,
    DataRef,
    DataStaged,
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
)
from orchestrator.journal.outcome import Cause, Outcome, SweepStatus
from orchestrator.journal.segments import JournalWriter
from orchestrator.search.search import Search
from orchestrator.storage.base import Storage
from orchestrator.sweep.budget import Budget
from orchestrator.sweep.commands import Commands
from orchestrator.sweep.confirmation import Confirmation
from orchestrator.sweep.decisions import Decisions, Ending, Stop
from orchestrator.sweep.failures import Failures
from orchestrator.sweep.halving import EarlyStopping, tell
from orchestrator.sweep.live_state import LiveTrial, Standing
from orchestrator.sweep.proposals import Proposals, audit_of
from orchestrator.sweep.recorder import Recorder
from orchestrator.sweep.settings import SweepSettings
from orchestrator.sweep.starting import Starting
from orchestrator.sweep.written_summary import previous_heartbeat_of, summary_of

POLL_S = 2.0
"""Time between two polls for commands, in seconds."""


@dataclass
class SweepRun:
    """State and control of one running sweep."""

    started: SweepStarted
    storage: Storage
    search: Search
    settings: SweepSettings
    prepare: Callable[[DataConfig], DataRef]
    prepare_weights: Callable[[ModelConfig], str | None]
    """Returns the SHA-256 of a model's initial weights; see ``orchestrator.assets.weights``."""
    writer: JournalWriter
    audit: Callable[[DataRef], tuple[int, int]] | None = None
    """Returns the numbers of leaks and contradicting labels of a split (``assets.audits``). None: no audit."""
    listener: Callable[[Event], None] = lambda _: None
    clock: Callable[[], float] = time.time
    fits_elsewhere: Callable[[str], bool] = lambda _: False
    """Whether a node other than this one (ID), and none that is quarantined, could run a trial."""
    about: AboutDriver = field(default_factory=AboutDriver)
    """Fields of its ``DriverStarted``: restarts, drift; a simulation's own host and process."""
    look_at_nodes: Callable[[], None] = lambda: None
    """Journals which nodes have joined and left."""

    standing: Standing = field(init=False)
    decisions: Decisions = field(default_factory=Decisions, init=False)
    proposals: Proposals = field(init=False)
    recorder: Recorder = field(init=False)
    failures: Failures = field(init=False)
    budget: Budget = field(init=False)
    starting: Starting = field(init=False)
    commands: Commands = field(init=False)
    fatal: Exception | None = field(default=None, init=False)
    """An error of ours raised inside Tune, which would hide it; the driver raises it again."""
    _polled: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        confirm = self.settings.confirm
        confirmation = None if confirm is None else Confirmation(confirm.top, confirm.seeds, self.objective)
        self.standing = Standing(self.started, self.search, confirmation)
        self.proposals = Proposals(
            self.standing,
            self.decisions,
            seeds=self.settings.seeds,
            folds=self.settings.folds,
            concurrency=self.settings.concurrency,
            prepare=self.prepare,
            prepare_weights=self.prepare_weights,
            clock=self.clock,
        )
        self.recorder = Recorder(
            self.standing, self.writer, self.storage, summary=self.summary, listener=self.listener, clock=self.clock
        )
        self.budget = Budget(
            self.standing,
            self.decisions,
            self.settings.budgets,
            planned=lambda: self.planned,
            record=self.recorder.record,
            clock=self.clock,
        )
        self.starting = Starting(
            self.standing, self.decisions, self.proposals, record=self.recorder.record, clock=self.clock
        )
        self.commands = Commands(
            self.standing,
            self.decisions,
            self.storage,
            self.budget,
            record=self.recorder.record,
            flush=self.flush,
            restart=self.starting.restart,
            surplus=self.starting.surplus,
            clock=self.clock,
        )
        self.failures = Failures(
            self.standing,
            self.decisions,
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
        """The objective."""
        return self.started.objective

    @property
    def live(self) -> dict[str, LiveTrial]:
        """Trials that have not ended, by ID."""
        return self.standing.live

    @property
    def counts(self) -> Counter[Outcome]:
        """Number of ended trials, by outcome."""
        return self.standing.totals.outcomes

    @property
    def best(self) -> Best | None:
        """The best trial so far, by the rule of ``orchestrator.journal.best``."""
        return self.standing.best

    @property
    def stop(self) -> Stop | None:
        """Why the sweep is to end before its last trial; None while it continues."""
        return self.decisions.stop

    @property
    def planned(self) -> int | None:
        """Number of trials requested, including the maximum of confirmations; None if only a budget ends it."""
        confirm = self.settings.confirm
        confirmations = 0 if confirm is None else confirm.trials
        return None if self.search.limit is None else self.search.limit * self.settings.seeds + confirmations

    @property
    def wall_s(self) -> float:
        """Run time of this sweep's drivers in seconds, this one included."""
        return self.standing.wall_s(self.clock())

    # ---- beginning and end

    def begin(self, history: Iterable[HistoryTaken] = ()) -> None:
        """Open the journal of a new sweep.

        Raises:
            SweepOwnedError: If the sweep exists.
        """
        self.writer.append(self.started)
        for taken in history:
            self.recorder.record(taken)
        self._take(resumed=False)

    def replay(self, events: list[Event], scheduler: EarlyStopping) -> None:
        """Take over a sweep from its journal.

        A trial that finished, or that the scheduler decided to stop, is ended now if the journal lacks its end. All
        other unfinished trials stay in ``live``, to be started again, and so do those that ``agr stop`` ended.
        Unexecuted stop commands to an earlier driver are ignored.

        Raises:
            SweepOwnedError: If another driver took the sweep since ``events`` were read.
        """
        previous_heartbeat = previous_heartbeat_of(self.storage, self.sweep_id)
        decided: dict[str, bool] = {}
        for event in events:
            tell(scheduler, event, self.standing, decided)
            self.standing.apply(event)
        self._take(resumed=True, previous_heartbeat=previous_heartbeat)
        self.commands.ignore_old()
        self.commands.resume_trials()
        for trial in list(self.live.values()):
            if trial.finished or decided.get(trial.trial_id):
                scheduler.ended(trial.trial_id, trial.epoch, trial.value)
                self.trial_over(trial.trial_id)
        self.starting.unstarted[:] = self.live
        self.commands.take_up()
        self.flush()

    def _take(self, *, resumed: bool, previous_heartbeat: float | None = None) -> None:
        started = this_driver(time=self.clock(), resumed=resumed, previous_heartbeat=previous_heartbeat, **self.about)
        self.record(started)
        self.flush()

    def end(self, status: SweepStatus, reason: str = "") -> SweepEnded:
        """Release the sweep; return the last event of the journal."""
        spent = self.budget.document(self.clock())
        ended = SweepEnded(time=self.clock(), status=status, reason=reason, wall_s=self.wall_s, spent=spent)
        self.record(ended)
        self.flush(status)
        return ended

    # ---- proposals

    @property
    def proposals_over(self) -> bool:
        """Whether no further trial will be created."""
        return self.proposals.over

    def next_trial(self, slots: int) -> TrialCreated | None:
        """Return a new, journalled trial; None if there is no room (``slots``) or nothing is left to propose."""
        self.starting.slots = slots
        created = self.proposals.next(slots)
        if created is None:
            return None
        for ref in (*created.stages, created):
            audited = audit_of(self.standing, self.audit, ref, time=self.clock())
            if audited is not None:
                self.record(audited)
        self.record(created)
        held_back = self.budget.holds_back(created)
        if held_back:
            self.decisions.closed = held_back
            self.decisions.end_for_now([created.trial_id], held_back)
            self.trial_over(created.trial_id)
            return None
        return created

    # ---- what happens to trials

    def attempt_started(self, trial_id: str, node: str, node_id: str = "") -> None:
        """Journal that the trial's current attempt begins on the node with this address and Ray ID."""
        attempt = self.live[trial_id].attempt
        self.record(AttemptStarted(time=self.clock(), trial_id=trial_id, attempt=attempt, node=node, node_id=node_id))

    def team_placed(self, trial_id: str, node: str, node_id: str) -> None:
        """Journal that the trial's processes run on the node with this address and Ray ID."""
        attempt = self.live[trial_id].attempt
        self.record(TeamPlaced(time=self.clock(), trial_id=trial_id, attempt=attempt, node=node, node_id=node_id))

    def stage_obtained(self, trial_id: str, figures: Mapping[str, Any], *, trained: bool) -> None:
        """Journal that a trial has the weights of a stage; repeated reports of further attempts are ignored."""
        trial = self.live[trial_id]
        if figures["key"] not in trial.stages:
            event = StageTrained if trained else StageReused
            self.record(event(time=self.clock(), trial_id=trial_id, attempt=trial.attempt, **figures))

    def data_staged(self, trial_id: str, figures: Mapping[str, Any]) -> None:
        """Journal that a trial's current attempt has its data on its node; ``figures`` as in ``DataStaged``."""
        attempt = self.live[trial_id].attempt
        self.record(DataStaged(time=self.clock(), trial_id=trial_id, attempt=attempt, **figures))

    def epoch_reported(self, trial_id: str, report: EpochReport, files: Mapping[str, str] | None = None) -> None:
        """Journal an epoch; one that is in the journal already is ignored. ``files`` as in ``TrialReported``."""
        trial = self.live[trial_id]
        if report.epoch <= trial.epoch:
            return
        self.record(
            TrialReported(
                time=self.clock(),
                trial_id=trial_id,
                attempt=trial.attempt,
                epoch=report.epoch,
                value=self.objective.value(report.metrics),
                metrics=dict(report.metrics),
                finished=report.finished,
                stopped_early=report.stopped_early,
                files=dict(files or {}),
            )
        )

    def attempt_failed(
        self, trial_id: str, *, error: str, details: str = "", cause: Cause = "error", crowded: bool = False
    ) -> Literal["retry", "give up"]:
        """Handle a failed attempt; see ``Failures.attempt_failed``."""
        return self.failures.attempt_failed(
            self.live[trial_id], error=error, details=details, cause=cause, crowded=crowded
        )

    def newly_hung(self) -> list[str]:
        """Return the IDs of trials that have been silent for longer than the limit: their workers are to be ended."""
        return [trial.trial_id for trial in self.failures.newly_hung()]

    def trial_over(self, trial_id: str) -> Outcome:
        """End a trial: as decided by itself, the budget or a user; by its last epoch; or else by the scheduler."""
        trial = self.live[trial_id]
        ending = self.decisions.endings.pop(trial_id, None) or Ending("completed" if trial.finished else "pruned", "")
        self.record(
            TrialEnded(
                time=self.clock(),
                trial_id=trial_id,
                outcome=ending.outcome,
                epochs=trial.epoch,
                value=None if trial.best is None else trial.best[1],
                values=trial.point if self.started.further else (),
                best_epoch=None if trial.best is None else trial.best[0],
                kept_epochs={label: epoch for label, (epoch, _) in trial.kept.items()},
                stopped_early=trial.stopped_early,
                error=ending.reason or None,
                attempt=trial.reported_attempt,
                resumable=ending.resumable,
            )
        )
        if ending.outcome == "failed":
            self.failures.blame(trial, ending.reason)
        self.flush()
        return ending.outcome

    def test_opened(self, trial_id: str, epoch: int, labels: Sequence[str]) -> None:
        """Journal that the sealed test part is about to be read with an epoch's weights; ``flush`` before the read."""
        self.record(TestOpened(time=self.clock(), trial_id=trial_id, epoch=epoch, labels=tuple(labels)))

    def test_read(
        self,
        trial_id: str,
        label: str,
        metrics: Mapping[str, float],
        tables: Mapping[str, Any],
        files: Mapping[str, str] | None = None,
    ) -> None:
        """Journal the test metrics of a trial's weights for ``label``. ``files`` as in ``TestRead``."""
        self.record(
            TestRead(
                time=self.clock(),
                trial_id=trial_id,
                label=label,
                metrics=dict(metrics),
                tables=dict(tables),
                files=dict(files or {}),
            )
        )

    def baseline_measured(self, split_digest: str, metrics: Mapping[str, float]) -> None:
        """Journal the metrics of the mean / majority predictor on a split."""
        self.record(BaselineMeasured(time=self.clock(), split_digest=split_digest, metrics=dict(metrics)))

    def baseline_reported(self, trial_id: str, metrics: Mapping[str, float]) -> None:
        """Journal the baseline that a trial reports with its first epoch, unless that of its split is known."""
        split_digest = self.live[trial_id].created.split_digest
        if split_digest not in self.standing.baselines:
            self.baseline_measured(split_digest, metrics)

    def close_all(self) -> None:
        """End every trial that still lives, once the sweep is stopped and no worker has one."""
        for trial_id in list(self.live):
            self.trial_over(trial_id)

    # ---- the clock

    def poll(self) -> list[str]:
        """Do what is due: flush, heartbeat, budget, commands. Return the IDs of trials to stop."""
        now = self.clock()
        self.recorder.keep_up()
        self.look_at_nodes()
        self.budget.keep_to()
        if now - self._polled >= POLL_S:
            self._polled = now
            self.commands.obey_all()
        return [trial_id for trial_id in self.live if trial_id in self.decisions.endings]

    # ---- the record

    def record(self, event: Event) -> None:
        """Buffer an event until the next flush."""
        self.recorder.record(event)

    def flush(self, status: SweepStatus | None = None) -> None:
        """Store the pending events; listeners receive them afterwards. ``status`` is that of the released sweep."""
        self.recorder.flush(status)

    def summary(self, status: SweepStatus | None) -> Summary:
        """Return the current summary; ``status`` is that of the released sweep, None while it is driven."""
        return summary_of(
            self.standing,
            self.budget,
            status,
            planned=self.planned,
            slots=self.starting.slots,
            course=self.settings.course,
            head=self.writer.head,
        )
