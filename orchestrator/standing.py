"""Where a running sweep stands: its journal, folded into what its driver needs. Writes nothing.

Each event is applied when it is journalled, and again when the sweep is resumed; so a resumed sweep stands where the
interrupted one stood. What readers need of a journal is another fold, ``orchestrator.state``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from agr_core.evaluation.names import MAIN_MEMORY
from agr_core.objective import Objective
from orchestrator.confirmation import Confirmation
from orchestrator.node_health import NodeHealth
from orchestrator.outcome import Outcome, SweepStatus
from orchestrator.pareto import ordering
from orchestrator.records import (
    AttemptFailed,
    AttemptStarted,
    BaselineMeasured,
    ControlReceived,
    DataStaged,
    DriverStarted,
    Event,
    HistoryTaken,
    NodeQuarantined,
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
    TrialReported,
    TrialResumed,
)
from orchestrator.search import Search

_NOBODYS_FAULT = ("node_lost", "moved", "out_of_memory")
"""Causes that say nothing against a node or against all trials: there are no such nodes, and smaller trials, left."""


@dataclass
class LiveTrial:
    """A trial that has not ended, as the driver needs it."""

    created: TrialCreated
    attempt: int = 0
    node: str = ""
    """Address of the node where its last attempt trains; empty before the first, and where it is not known."""
    node_id: str = ""
    running: bool = False
    """Whether an attempt is under way."""
    heard: float = 0.0
    """When something was last heard of it: its start, a stage, an epoch; or since when it can have been heard."""
    hung: bool = False
    """Whether its attempt was given up because nothing was heard of it."""
    reconfigured: bool = False
    """Whether it trains another configuration than the one proposed."""
    epoch: int = 0
    value: float | None = None
    best: tuple[int, float] | None = None
    point: tuple[float, ...] = ()
    """The value of each objective at the best epoch."""
    stages: set[str] = field(default_factory=set)
    """Keys of the stages whose weights it has."""
    kept: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Best epoch and its value for each label of ``keep``."""
    reported_attempt: int | None = None
    failures: int = 0
    charges: list[str] = field(default_factory=list)
    """Of the failures those that count against the retries, by the node (ID) where they happened."""
    finished: bool = False
    stopped_early: bool = False
    ending: tuple[Outcome, str] | None = None
    """Outcome and reason, when a person, the budget or the trial itself said how it ends."""
    resumable: bool = False
    """Whether it ends only because the sweep does, and goes on with it."""

    @property
    def trial_id(self) -> str:
        """The trial's ID."""
        return self.created.trial_id

    @property
    def charged(self) -> int:
        """Failures that count against the retries."""
        return len(self.charges)

    def end_as(self, outcome: Outcome, reason: str, *, resumable: bool = False) -> None:
        """Say how it is to end, whatever was said before."""
        self.ending, self.resumable = (outcome, reason), resumable


@dataclass
class Stop:
    """The sweep is to end before its last trial: how, and why."""

    status: SweepStatus
    reason: str


@dataclass
class Standing:
    """What the journal of a running sweep says so far."""

    started: SweepStarted
    search: Search
    """Hears of every report and end."""
    confirmation: Confirmation | None = None
    live: dict[str, LiveTrial] = field(default_factory=dict)
    """Trials that have not ended, by ID."""
    interrupted: dict[str, LiveTrial] = field(default_factory=dict)
    """Trials that were ended with the sweep and that go on with it. To the search they run still."""
    counts: Counter[str] = field(default_factory=Counter)
    """Ended trials, by outcome."""
    stages: Counter[str] = field(default_factory=Counter)
    """Stages that were trained and that were reused."""
    test_reads: int = 0
    """How often the sealed test part was read."""
    copies: Counter[str] = field(default_factory=Counter)
    """Bytes fetched, seconds spent and saved by trials that brought their data to their nodes."""
    staged: dict[str, set[str]] = field(default_factory=dict)
    """Digests of the data that trials brought to a node or found there, by the node's ID."""
    memory: int = 0
    """The most main memory (bytes) that a trial held at the end of an epoch."""
    best: tuple[str, tuple[float, ...]] | None = None
    """The best completed trial and the value of each objective; of several the first one tells."""
    next_number: int = 0
    last_created: TrialCreated | None = None
    first_attempt: int = 0
    """The number from which this driver counts attempts."""
    obeyed: set[str] = field(default_factory=set)
    """Keys of the commands that were journalled."""
    stop: Stop | None = None
    reported_any: bool = False
    alike: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Before any trial reported an epoch: what failed, as node (ID) and trial, by the error."""
    health: NodeHealth = field(default_factory=NodeHealth)
    quarantines: list[NodeQuarantined] = field(default_factory=list)
    _wall_before: float = 0.0
    _session: tuple[float, float] | None = None
    """Start and last event of the newest driver."""

    @property
    def objective(self) -> Objective:
        """What is optimised."""
        return self.started.objective

    def apply(self, event: Event) -> None:
        """Take in what was journalled."""
        self._apply_time(event)
        match event:
            case TrialCreated():
                self.live[event.trial_id] = LiveTrial(event, attempt=self.first_attempt)
                self.next_number = max(self.next_number, event.number + 1)
                self.last_created = event
                self._note_confirmation(event)
            case AttemptStarted():
                trial = self.live[event.trial_id]
                trial.attempt, trial.node, trial.node_id = event.attempt, event.node, event.node_id
                trial.running, trial.heard, trial.hung = True, event.time, False
            case TeamPlaced():
                trial = self.live[event.trial_id]
                trial.node, trial.node_id, trial.heard = event.node, event.node_id, event.time
            case TrialReconfigured():
                trial = self.live[event.trial_id]
                trial.created, trial.reconfigured = event.applied_to(trial.created), True
            case StageTrained() | StageReused():
                self.live[event.trial_id].stages.add(event.key)
                self.live[event.trial_id].heard = event.time
                self.stages["trained" if isinstance(event, StageTrained) else "reused"] += 1
            case DataStaged():
                trial = self.live[event.trial_id]
                trial.heard = event.time
                self.staged.setdefault(trial.node_id, set()).add(trial.created.data_digest)
                self.copies.update(fetched_bytes=event.fetched_bytes, spent_s=event.spent_s, saved_s=event.saved_s)  # type: ignore[call-overload]
            case TrialReported():
                self._apply_report(self.live[event.trial_id], event)
            case AttemptFailed():
                self._apply_failure(self.live[event.trial_id], event)
            case NodeQuarantined():
                self._apply_quarantine(event)
            case TrialEnded():
                self._apply_end(self.live.pop(event.trial_id), event)
            case HistoryTaken():
                self.search.learn(event.trials)
            case TrialResumed():
                self.live[event.trial_id] = self.interrupted.pop(event.trial_id)
                self.counts["interrupted"] -= 1
            case ControlReceived():
                self.obeyed.add(event.key)
            case TestOpened():
                self.test_reads += 1
            case SweepStarted() | DriverStarted() | TestRead() | BaselineMeasured() | SweepEnded():
                pass

    def _apply_time(self, event: Event) -> None:
        if isinstance(event, DriverStarted):
            self._wall_before += 0.0 if self._session is None else self._session[1] - self._session[0]
            self._session = (event.time, event.time)
        elif self._session is not None:
            self._session = (self._session[0], event.time)

    def wall_s(self, now: float) -> float:
        """Seconds that drivers of this sweep have run, the newest until ``now``; between drivers no time passes."""
        return 0.0 if self._session is None else max(0.0, self._wall_before + now - self._session[0])

    def quarantined_nodes(self) -> list[dict[str, str]]:
        """Address and last error of each node that is given no more trials."""
        return [{"node": event.node, "error": event.error} for event in self.quarantines]

    def stage_counts(self) -> dict[str, int]:
        """Stages ``trained`` and ``reused``; empty in a sweep without stages."""
        return {name: self.stages[name] for name in ("trained", "reused")} if self.stages else {}

    def copy_figures(self) -> dict[str, float]:
        """Sums over trials of ``DataStaged``; empty before the first."""
        return {name: round(figure, 3) for name, figure in self.copies.items()}

    def _apply_report(self, trial: LiveTrial, event: TrialReported) -> None:
        if event.epoch <= trial.epoch:
            return
        trial.epoch, trial.value, trial.reported_attempt = event.epoch, event.value, event.attempt
        trial.finished, trial.stopped_early = event.finished, event.stopped_early
        trial.heard = event.time
        self.health.reported(trial.node_id, trial.trial_id)
        if self.objective.better(event.value, None if trial.best is None else trial.best[1]):
            trial.best = (event.epoch, event.value)
            further = (objective.value(event.metrics) for objective in self.started.further)
            trial.point = (event.value, *further)
        for label, objective in self.started.keep.items():
            value = objective.value(event.metrics)
            if objective.better(value, trial.kept[label][1] if label in trial.kept else None):
                trial.kept[label] = (event.epoch, value)
        self.reported_any = True
        self.memory = max(self.memory, round(event.metrics.get(MAIN_MEMORY, 0.0) * 10**9))
        if trial.created.proposed:
            self.search.report(trial.created.configuration, event.epoch, event.value)

    def _note_confirmation(self, event: TrialCreated) -> None:
        if self.confirmation is not None and event.confirms is None:
            self.confirmation.used_seeds.add(event.config["seed"])
        elif self.confirmation is not None:
            self.confirmation.created += 1

    def _apply_failure(self, trial: LiveTrial, event: AttemptFailed) -> None:
        trial.running = False
        trial.failures += 1
        if event.charged:
            trial.charges.append(trial.node_id)
        if event.cause not in _NOBODYS_FAULT:
            self._count_failure(trial, event.error)

    def _count_failure(self, trial: LiveTrial, error: str) -> None:
        self.health.failed(trial.node_id, trial.trial_id)
        if not self.reported_any:
            self.alike.setdefault(error, []).append((trial.node_id, trial.trial_id))

    def _apply_quarantine(self, event: NodeQuarantined) -> None:
        self.health.quarantined.add(event.node_id)
        self.quarantines.append(event)
        for trial in self.live.values():
            trial.charges = [node for node in trial.charges if node != event.node_id]
        for error, failed in self.alike.items():
            self.alike[error] = [(node, trial) for node, trial in failed if node != event.node_id]

    def _apply_end(self, trial: LiveTrial, event: TrialEnded) -> None:
        self.counts[event.outcome] += 1
        if event.outcome == "failed" and not trial.failures:  # it said so itself; failed attempts are counted already
            self._count_failure(trial, event.error or "")
        self.health.ended(trial.trial_id)
        if event.resumable:
            self.interrupted[event.trial_id] = trial
            return
        if trial.created.proposed:
            self.search.finish(trial.created.configuration, event.outcome, event.point)
        if event.outcome != "completed" or event.value is None:
            return
        if self.confirmation is not None:
            if trial.created.confirms is not None:
                self.confirmation.results.setdefault(trial.created.configuration, []).append(
                    (trial.created, event.value)
                )
                confirmed = self.confirmation.best()
                self.best = self.best if confirmed is None else (confirmed[0].trial_id, (confirmed[1],))
                return
            self.confirmation.candidates.append((trial.created, event.value))
        directions = self.started.directions
        if self.best is None or ordering(event.point, directions) < ordering(self.best[1], directions):
            self.best = (event.trial_id, event.point)

    def forget_stop(self) -> None:
        """What stopped the sweep before is past: whoever resumes it wants it to go on."""
        self.stop = None
        self.alike.clear()

    def stop_all(self, stop: Stop) -> None:
        """End the sweep, and with it every trial that lives."""
        self.stop = stop
        for trial in self.live.values():
            if trial.ending is None:
                trial.end_as("interrupted", stop.reason, resumable=stop.status != "completed")
