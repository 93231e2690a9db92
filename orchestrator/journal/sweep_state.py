"""Fold a journal into the state of a sweep."""

from __future__ import annotations

import marshal
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from agr_core.objective import BEST
from orchestrator.errors import DamagedError, NotFoundError
from orchestrator.journal.annotations import Annotations
from orchestrator.journal.best import (
    Best,
    Configuration,
    CreatedTrial,
    JudgedT,
    JudgedTrial,
    Place,
    configurations,
    ranking,
    winner,
)
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
from orchestrator.journal.outcome import Outcome, SweepStatus
from orchestrator.journal.spending import Spending
from orchestrator.journal.steering import Steering
from orchestrator.journal.totals import Totals
from orchestrator.storage import layout

_MAX_PARTS = 1_000
"""Most parts of configurations that are kept for later trials."""

_WITHOUT_REFERENCES = 0
"""The version of marshal's format in which equal values have equal bytes. ``repr`` has that too, at twice the time."""

TrialEvent = (
    AttemptStarted
    | TeamPlaced
    | TrialReconfigured
    | StageTrained
    | StageReused
    | TrialReported
    | AttemptFailed
    | TrialEnded
    | TrialResumed
    | TrialReopened
    | TestOpened
    | TestRead
)
"""Events of a created trial."""


@dataclass
class TrialState(CreatedTrial):
    """The state of one trial."""

    created: TrialCreated
    """The creation event, with the current configuration if the trial was reconfigured."""
    reconfigured: TrialReconfigured | None = None
    reopened: TrialReopened | None = None
    """The last event that reopened it after its end."""
    reports: list[TrialReported] = field(default_factory=list)
    attempts: int = 0
    node: str | None = None
    running: bool = False
    """Whether an attempt is running; a living trial that is not running waits for a worker."""
    started_at: float | None = None
    hardware: str = ""
    """Kind of machine that trains it; empty if unknown."""
    failures: list[AttemptFailed] = field(default_factory=list)
    ended: TrialEnded | None = None
    stages: dict[str, StageTrained | StageReused] = field(default_factory=dict)
    """How each stage's weights were obtained, by key, the first stage first."""
    tests: dict[str, TestRead] = field(default_factory=dict)
    """Test metrics of the weights kept for each label."""
    test_reads: int = 0
    """Number of reads of the test part for it."""
    opened: set[str] = field(default_factory=set)
    """Labels for which a read was announced; earlier journals have the metrics alone."""
    drifts: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """What differed from the sweep's start in the driver of an attempt, by attempt; those without a difference lack."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 of what its attempts stored, by name below the trial's folder; earlier journals list none."""

    def apply(self, event: TrialEvent) -> None:
        """Apply one more event of this trial."""
        match event:
            case TrialReported():
                if self.reports and self.reports[-1].epoch >= event.epoch:
                    self.reports[:] = [report for report in self.reports if report.epoch < event.epoch]
                self.reports.append(event)
                self._note_files(event.attempt, event.files)
            case AttemptStarted():
                self.attempts = max(self.attempts, event.attempt + 1)
                self.node, self.running = event.node, True
                self.started_at = self.started_at or event.time
            case TeamPlaced():
                self.node = event.node
            case TrialReconfigured():
                self.created, self.reconfigured = event.applied_to(self.created), event
            case StageTrained() | StageReused():
                self.stages[event.key] = event
            case AttemptFailed():
                self.failures.append(event)
                self.running = False
            case TrialEnded():
                self.ended, self.running = event, False
            case TrialResumed():
                self.ended = None
            case TrialReopened():
                self.created, self.ended, self.reopened = event.created, None, event
                self.tests.clear()  # of its earlier weights
                self.opened.clear()
            case TestOpened():
                self.opened.update(event.labels)
                self.test_reads += 1
            case TestRead():
                self.tests[event.label] = event
                if self.ended is not None and self.ended.attempt is not None:
                    self._note_files(self.ended.attempt, event.files)
                self.test_reads += event.label not in self.opened and event.is_of_test

    def _note_files(self, attempt: int, files: dict[str, str]) -> None:
        self.files.update((f"attempt-{attempt}/{name}", sha256) for name, sha256 in files.items())

    def recorded_sha256(self, key: str) -> str | None:
        """Return the journalled SHA-256 of an object below the trial's folder; None if the journal lists none."""
        return self.files.get(key.partition(f"/trials/{self.trial_id}/")[2])

    @property
    def drift(self) -> list[str]:
        """A line for each difference from the sweep's start under which it ran, with the attempts: as of ``rerun``."""
        attempts: dict[str, list[str]] = {}
        for attempt, lines in self.drifts.items():
            for line in lines:
                attempts.setdefault(line, []).append(str(attempt))
        return [f"{line} (attempt {', '.join(numbers)})" for line, numbers in attempts.items()]

    @property
    def result(self) -> tuple[float, ...]:
        """The value of each objective; empty unless it completed."""
        return self.ended.point if self.ended is not None and self.ended.outcome == "completed" else ()

    @property
    def outcome(self) -> Outcome | None:
        """Its outcome; None until it ends."""
        return None if self.ended is None else self.ended.outcome

    @property
    def test(self) -> dict[str, float]:
        """``test/...`` of the best weights; empty if the test part was not read."""
        return self.tests[BEST].metrics if BEST in self.tests else {}

    @property
    def test_tables(self) -> dict[str, Any]:
        """Tables of the test part, of the best weights."""
        return self.tests[BEST].tables if BEST in self.tests else {}

    @property
    def kept_epochs(self) -> dict[str, int]:
        """The epochs of the kept weights by label, ``best`` first; empty until the trial ends with one."""
        if self.ended is None or self.ended.best_epoch is None:
            return {}
        return {BEST: self.ended.best_epoch, **self.ended.kept_epochs}

    @property
    def best_report(self) -> TrialReported | None:
        """The report of the best epoch; None until the trial ends with one."""
        if self.ended is None or self.ended.best_epoch is None:
            return None
        return next((report for report in self.reports if report.epoch == self.ended.best_epoch), None)


@dataclass
class SweepState:
    """The state of a sweep; ``trials`` is in order of creation."""

    started: SweepStarted
    trials: MutableMapping[str, TrialState] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    steering: Steering = field(default_factory=Steering)
    annotations: Annotations = field(default_factory=Annotations)
    spending: Spending = field(init=False)
    drivers: list[DriverStarted] = field(default_factory=list)
    obeyed: set[str] = field(default_factory=set)
    ended: SweepEnded | None = None
    quarantined: list[NodeQuarantined] = field(default_factory=list)
    """Quarantined nodes."""
    audits: dict[str, SplitAudited] = field(default_factory=dict)
    """Audit findings by split digest; earlier journals have none."""
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    """Validation figures of the mean / majority predictor, by split digest."""
    _parts: dict[bytes, Any] = field(default_factory=dict, repr=False, compare=False)
    """Parts of configurations, by their bytes: ``==`` would take 1 for 1.0."""

    def __post_init__(self) -> None:
        self.spending = Spending.of(self.started.document)

    @classmethod
    def from_events(cls, events: Iterable[Event]) -> SweepState:
        """Fold a whole journal into a state.

        Raises:
            NotFoundError: If the journal is empty.
            DamagedError: If it does not begin with the sweep's start, or no driver writes such a journal.
        """
        iterator = iter(events)
        first = next(iterator, None)
        if first is None:
            raise NotFoundError("the journal is empty.")
        if not isinstance(first, SweepStarted):
            raise DamagedError("the journal does not begin with the sweep's start; it may be another file.")
        state = cls(started=first)
        for event in iterator:
            state.apply(event)
        return state

    def _share_parts(self, created: TrialCreated) -> TrialCreated:
        """Make parts of the configuration that earlier trials have too the same objects, and return the event.

        Trials of a sweep differ in few fields, and configurations make up most of a state's memory. A part with a
        continuous value is another one in each trial.
        """
        for name, part in created.config.items():
            if isinstance(part, dict | list):
                key = marshal.dumps(part, _WITHOUT_REFERENCES)
                if key in self._parts or len(self._parts) < _MAX_PARTS:
                    created.config[name] = self._parts.setdefault(key, part)
        return created

    def apply(self, event: Event) -> None:
        """Apply one more event. A second report of an epoch replaces the first (a retried epoch).

        Raises:
            DamagedError: If no driver writes such a journal: a second start, or a trial that was never created.
        """
        trial_id: str | None = getattr(event, "trial_id", None)
        if trial_id is not None and trial_id not in self.trials and not isinstance(event, TrialCreated):
            raise DamagedError(f"the journal of sweep {self.started.sweep_id} never created trial {trial_id}.")
        self.spending.apply(event)
        if isinstance(event, TrialReported):  # nearly all events, of which the other folds take nothing
            self.trials[event.trial_id].apply(event)
            return
        self.totals.apply(event)
        self.steering.apply(event)
        self.annotations.apply(event)
        match event:
            case SweepStarted():
                raise DamagedError(f"the journal of sweep {self.started.sweep_id} starts a second time.")
            case DriverStarted():
                self.drivers.append(event)
                self.ended = None
                for trial in self.trials.values():
                    trial.running = False
            case TrialCreated():
                self.trials[event.trial_id] = TrialState(created=self._share_parts(event))
            case NodeQuarantined():
                self.quarantined.append(event)
            case DataStaged():
                staged = self.trials[event.trial_id]
                staged.hardware = event.hardware or staged.hardware
            case HistoryTaken() | NodeJoined() | NodeLeft() | NodeShared() | BudgetNearlySpent():
                pass
            case SplitAudited():
                self.audits[event.split_digest] = event
            case BaselineMeasured():
                self.baselines[event.split_digest] = dict(event.metrics)
            case ControlReceived():
                self.obeyed.add(event.key)
            case SweepEnded():
                self.ended = event
            case AttemptStarted():
                trial = self.trials[event.trial_id]
                trial.apply(event)
                if self.drivers and self.drivers[-1].drift:
                    trial.drifts[event.attempt] = self.drivers[-1].drift
            case _:
                self.trials[event.trial_id].apply(event)

    @property
    def status(self) -> SweepStatus:
        """Status by the journal alone: running until a driver releases the sweep."""
        return "running" if self.ended is None else self.ended.status

    def leaks_of(self, trial: TrialState) -> int:
        """Return the number of groups in several parts of the split of a trial; 0 if it was not audited."""
        audit = self.audits.get(trial.created.split_digest)
        return 0 if audit is None else audit.leaks

    @property
    def leaks(self) -> int:
        """Largest number of groups in several parts of any split of this sweep."""
        return max((audit.leaks for audit in self.audits.values()), default=0)

    def counts(self) -> dict[Outcome, int]:
        """Return the number of ended trials by outcome, every outcome named."""
        return self.totals.by_outcome()

    @property
    def test_reads(self) -> int:
        """Number of reads of the test part for its trials."""
        return self.totals.test_reads

    @property
    def running(self) -> int:
        """Number of trials created and not ended."""
        return sum(trial.ended is None for trial in self.trials.values())

    def configurations(self) -> list[Configuration[TrialState]]:
        """Return its trials grouped by configuration, in order of creation."""
        return self._grouped((trial.created.configuration, trial) for trial in self.trials.values())

    def _grouped(self, trials: Iterable[tuple[int, JudgedT]]) -> list[Configuration[JudgedT]]:
        return configurations(trials, seeds=self.started.seeds, confirm_seeds=self.started.confirm_seeds)

    def ranking(self) -> list[Place[Configuration[TrialState]]]:
        """Return its ranked configurations, best first; see ``orchestrator.journal.best``."""
        return ranking(self.configurations(), self.started.directions)

    def winner(self) -> Configuration[TrialState] | None:
        """Return the best configuration; None before one has a rank."""
        return winner(self.configurations(), self.started.directions)

    def best_result(self) -> Best | None:
        """Return trial and value of the best configuration, without holding all trials at once; None before a rank."""
        judged = (
            (trial.created.configuration, JudgedTrial(trial.trial_id, trial.seed, trial.confirms, trial.result))
            for trial in self.trials.values()
        )
        best = winner(self._grouped(judged), self.started.directions)
        return None if best is None else best.best

    def best(self) -> TrialState | None:
        """Return the trial that represents the best configuration; None before one has a rank."""
        best = self.winner()
        return None if best is None else best.judged[0]

    @property
    def splits(self) -> tuple[str, ...]:
        """Digests of the splits that its trials were validated on, in order of first use."""
        return tuple(dict.fromkeys(trial.created.split_digest for trial in self.trials.values()))


def attempt_folder(sweep_id: str, trial: TrialState) -> str | None:
    """Return the storage folder of the attempt whose files are the trial's; None if it never started."""
    attempt = trial.attempts - 1
    if trial.ended is not None and trial.ended.attempt is not None:
        attempt = trial.ended.attempt
    return layout.attempt(sweep_id, trial.trial_id, attempt) if attempt >= 0 else None
