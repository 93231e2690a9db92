"""State of a running sweep: its journal, folded into what its driver needs. Writes nothing.

Each event is applied when it is journalled, and again when the sweep is resumed; so a resumed sweep has the state of
the interrupted one. Decisions that are not journalled yet are in ``orchestrator.sweep.decisions``. The fold for readers
is ``orchestrator.journal.sweep_state``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from agr_core.evaluation.names import MAIN_MEMORY
from agr_core.objective import Objective
from orchestrator.catalog.summary import CopyFigure, QuarantinedNode
from orchestrator.journal.annotations import Annotations
from orchestrator.journal.best import Best, Leader
from orchestrator.journal.events import (
    AttemptFailed,
    AttemptStarted,
    BaselineMeasured,
    BudgetNearlySpent,
    ControlReceived,
    DataStaged,
    DriverStarted,
    Event,
    HistoryTaken,
    NodeJoined,
    NodeLeft,
    NodeQuarantined,
    NodeShared,
    SplitAudited,
    StageReused,
    StageTrained,
    SweepEnded,
    SweepStarted,
    TeamPlaced,
    TestOpened,
    TestRead,
    TrialCreated,
    TrialEnded,
    TrialReconfigured,
    TrialReopened,
    TrialReported,
    TrialResumed,
)
from orchestrator.journal.pace import Pace
from orchestrator.journal.spending import Spending
from orchestrator.journal.steering import Steering
from orchestrator.journal.steering_events import BudgetName
from orchestrator.journal.totals import Totals, WallClock
from orchestrator.search.search import Search
from orchestrator.spec.narrow import narrowed
from orchestrator.sweep.confirmation import Confirmation
from orchestrator.sweep.live_trial import LiveTrial as LiveTrial
from orchestrator.sweep.node_health import NodeHealth

_NOBODYS_FAULT = ("node_lost", "moved", "out_of_memory", "unfit_model")
"""Causes that indicate neither a faulty node nor a fault of all trials."""


@dataclass
class Standing:
    """Driver's fold of the journal of a running sweep; two folds of one journal are equal."""

    started: SweepStarted
    search: Search = field(compare=False)
    """Follows every proposal, report and end. Excluded from comparison."""
    confirmation: Confirmation | None = None
    live: dict[str, LiveTrial] = field(default_factory=dict)
    """Trials that have not ended, by ID."""
    interrupted: dict[str, LiveTrial] = field(default_factory=dict)
    """Trials that were ended with the sweep and continue with it. For the search they still run."""
    totals: Totals = field(default_factory=Totals)
    steering: Steering = field(default_factory=Steering)
    annotations: Annotations = field(default_factory=Annotations)
    spending: Spending = field(init=False)
    pace: Pace = field(default_factory=Pace)
    nearly_spent: set[BudgetName] = field(default_factory=set)
    """Budgets used up to nine tenths according to the journal, without those extended since."""
    copies: Counter[str] = field(default_factory=Counter)
    """Bytes fetched, seconds spent and saved by trials that brought their data to their nodes."""
    staged: dict[str, set[str]] = field(default_factory=dict)
    """Digests of the data that trials fetched to a node or found there, by the node's ID."""
    memory: int = 0
    """Largest main memory of a trial at the end of an epoch, in bytes."""
    leader: Leader = field(init=False)
    """Best configuration so far."""
    next_number: int = 0
    next_configuration: int = 0
    last_searched: TrialCreated | None = None
    """The newest trial that is no confirmation."""
    drivers: int = 0
    """Number of drivers so far."""
    first_attempt: int = 0
    """The number from which this driver counts attempts."""
    obeyed: set[str] = field(default_factory=set)
    """Keys of the commands that were journalled."""
    audited: set[str] = field(default_factory=set)
    """Digests of the splits whose audit is journalled."""
    baselines: set[str] = field(default_factory=set)
    """Digests of the splits whose baseline is journalled."""
    reported_any: bool = False
    alike: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Failures before any trial reported an epoch: node (ID) and trial, by error."""
    draining: set[str] = field(default_factory=set, compare=False)
    """IDs of draining nodes, as seen by this driver; not journalled."""
    health: NodeHealth = field(default_factory=NodeHealth)
    quarantines: list[NodeQuarantined] = field(default_factory=list)
    wall: WallClock = field(default_factory=WallClock)

    def __post_init__(self) -> None:
        self.leader = Leader(self.started)
        self.spending = Spending.of(self.started.document)

    @property
    def objective(self) -> Objective:
        """The objective."""
        return self.started.objective

    @property
    def best(self) -> Best | None:
        """The best trial so far, by the rule of ``orchestrator.journal.best``."""
        return self.leader.best

    def apply(self, event: Event) -> None:
        """Apply a journalled event. Nothing else changes a standing."""
        self.leader.apply(event)
        self.totals.apply(event)
        self.wall.apply(event)
        self.steering.apply(event)
        self.annotations.apply(event)
        self.spending.apply(event)
        self.pace.apply(event)
        match event:
            case DriverStarted():
                self._apply_driver()
            case TrialCreated():
                self.live[event.trial_id] = LiveTrial(event, attempt=self.first_attempt)
                self.next_number = max(self.next_number, event.number + 1)
                if event.confirms is None:
                    self.next_configuration = max(self.next_configuration, event.configuration + 1)
                    self.last_searched = event
                self._note_confirmation(event)
                if event.proposed:
                    self.search.restore(event.configuration, event.proposal)
            case AttemptStarted():
                self._change(
                    event.trial_id,
                    attempt=event.attempt,
                    node=event.node,
                    node_id=event.node_id,
                    running=True,
                    heard=event.time,
                )
            case TeamPlaced():
                self._change(event.trial_id, node=event.node, node_id=event.node_id, heard=event.time)
            case TrialReconfigured():
                created = event.applied_to(self.live[event.trial_id].created)
                self._change(event.trial_id, created=created, reconfigured=True)
            case StageTrained() | StageReused():
                self._change(event.trial_id, stages=self.live[event.trial_id].stages | {event.key}, heard=event.time)
            case DataStaged():
                trial = self._change(event.trial_id, heard=event.time)
                self.staged.setdefault(trial.node_id, set()).add(trial.created.data_digest)
                self.copies.update(fetched_bytes=event.fetched_bytes, spent_s=event.spent_s, saved_s=event.saved_s)  # type: ignore[call-overload]
            case TrialReported():
                self._apply_report(self.live[event.trial_id], event)
            case AttemptFailed():
                self._apply_failure(self.live[event.trial_id], event)
            case NodeQuarantined():
                self._apply_quarantine(event)
            case TrialEnded() | TrialResumed() | TrialReopened():
                self._apply_turn(event)
            case HistoryTaken():
                self.search.learn(event.trials)
            case ControlReceived():
                self._apply_command(event)
            case SplitAudited() | BaselineMeasured():
                known = self.audited if isinstance(event, SplitAudited) else self.baselines
                known.add(event.split_digest)
            case BudgetNearlySpent():
                self.nearly_spent.add(event.budget)
            case SweepStarted() | TestOpened() | TestRead() | SweepEnded():
                pass
            case NodeJoined() | NodeLeft() | NodeShared():
                pass  # part of the spending

    def _apply_turn(self, event: TrialEnded | TrialResumed | TrialReopened) -> None:
        """Apply the end or the continuation of a trial."""
        match event:
            case TrialEnded():
                self._apply_end(self.live.pop(event.trial_id), event)
            case TrialResumed():
                self.live[event.trial_id] = self.interrupted.pop(event.trial_id).set_going()
            case TrialReopened():
                self.live[event.trial_id] = LiveTrial.of(event)
                if self.confirmation is not None:
                    self.confirmation.withdraw(event.trial_id)
                if event.compared and event.created.proposed:
                    self.search.restore(event.created.configuration, event.created.proposal)

    def _apply_command(self, event: ControlReceived) -> None:
        self.obeyed.add(event.key)
        if event.refused:
            return
        match event.command:
            case "extend":
                self.search.extend(int(event.arguments.get("trials") or 0))
                self.nearly_spent.difference_update(event.arguments)
            case "enqueue":
                self.search.extend(1)
            case "narrow":
                self.search.narrow(narrowed(self.search.space, event.arguments["domains"]), self.next_configuration)
            case _:
                pass

    def _change(self, trial_id: str, **changes: Any) -> LiveTrial:
        """Replace fields of a living trial; return the changed trial."""
        trial = replace(self.live[trial_id], **changes)
        self.live[trial_id] = trial
        return trial

    def _apply_driver(self) -> None:
        # A killed driver may have started an attempt, or a whole trial, that it could not journal, and whose
        # process still lives and writes. So each driver counts attempts from a number that none before can have used.
        self.first_attempt = 2 * self.drivers
        self.drivers += 1
        self.alike.clear()  # resuming a sweep implies that the cause of its failures is fixed
        for trials in (self.live, self.interrupted):
            for trial_id, trial in trials.items():
                trials[trial_id] = trial.after_restart(self.first_attempt)

    def wall_s(self, now: float) -> float:
        """Return the run time of the sweep's drivers in seconds, the newest until ``now``."""
        return self.wall.seconds(now)

    def quarantined_nodes(self) -> tuple[QuarantinedNode, ...]:
        """Return address and last error of each quarantined node."""
        return tuple(QuarantinedNode(node=event.node, error=event.error) for event in self.quarantines)

    def copy_figures(self) -> dict[CopyFigure, int | float]:
        """Return the sums over trials of ``DataStaged``; empty before the first."""
        names: tuple[CopyFigure, ...] = get_args(CopyFigure)
        return {name: round(self.copies[name], 3) for name in names} if self.copies else {}

    def _apply_report(self, trial: LiveTrial, event: TrialReported) -> None:
        if event.epoch <= trial.epoch:
            return
        best, point = trial.best, trial.point
        if self.objective.better(event.value, None if best is None else best[1]):
            best = (event.epoch, event.value)
            point = (event.value, *(objective.value(event.metrics) for objective in self.started.further))
        kept = dict(trial.kept)
        for label, objective in self.started.keep.items():
            value = objective.value(event.metrics)
            if objective.better(value, kept[label][1] if label in kept else None):
                kept[label] = (event.epoch, value)
        self._change(
            event.trial_id,
            epoch=event.epoch,
            value=event.value,
            best=best,
            point=point,
            kept=kept,
            reported_attempt=event.attempt,
            finished=event.finished,
            stopped_early=event.stopped_early,
            heard=event.time,
        )
        self.health.reported(trial.node_id, trial.trial_id)
        self.reported_any = True
        self.memory = max(self.memory, round(event.metrics.get(MAIN_MEMORY, 0.0) * 10**9))
        if trial.created.proposed:
            self.search.report(trial.created.configuration, event.epoch, event.value)

    def _note_confirmation(self, event: TrialCreated) -> None:
        if self.confirmation is None:
            return
        if event.confirms is None:
            self.confirmation.used_seeds.add(event.config["seed"])
        else:
            created = self.confirmation.created
            created[event.confirms] = created.get(event.confirms, 0) + 1

    def _apply_failure(self, trial: LiveTrial, event: AttemptFailed) -> None:
        self._change(
            event.trial_id,
            running=False,
            attempt=event.attempt + 1,
            failures=trial.failures + 1,
            charges=(*trial.charges, trial.node_id) if event.charged else trial.charges,
        )
        if event.cause not in _NOBODYS_FAULT:
            self._count_failure(trial, event.error)

    def _count_failure(self, trial: LiveTrial, error: str) -> None:
        self.health.failed(trial.node_id, trial.trial_id)
        if not self.reported_any:
            self.alike.setdefault(error, []).append((trial.node_id, trial.trial_id))

    def _apply_quarantine(self, event: NodeQuarantined) -> None:
        self.health.quarantined.add(event.node_id)
        self.quarantines.append(event)
        for trial_id, trial in self.live.items():
            self._change(trial_id, charges=tuple(node for node in trial.charges if node != event.node_id))
        for error, failed in self.alike.items():
            self.alike[error] = [(node, trial) for node, trial in failed if node != event.node_id]

    def _apply_end(self, trial: LiveTrial, event: TrialEnded) -> None:
        if (
            event.outcome == "failed" and not trial.failures
        ):  # reported by the trial itself; failed attempts are already counted
            self._count_failure(trial, event.error or "")
        self.health.ended(trial.trial_id)
        if event.resumable:
            self.interrupted[event.trial_id] = trial
            return
        if trial.created.proposed:
            self.search.finish(trial.created.configuration, event.outcome, event.point)
        if self.confirmation is None or trial.created.confirms is not None:
            return
        if event.outcome == "completed" and event.value is not None:
            self.confirmation.candidates.append((trial.created, event.value))
