"""The state of a sweep: its journal, folded up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from agr_core.errors import IntegrityError
from agr_core.objective import BEST
from orchestrator.confirmation import winner
from orchestrator.errors import NotFoundError
from orchestrator.outcome import OUTCOMES, Outcome, SweepStatus
from orchestrator.pareto import ordering
from orchestrator.records import (
    AttemptFailed,
    AttemptStarted,
    BaselineMeasured,
    ControlReceived,
    DataStaged,
    DriverStarted,
    Event,
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


@dataclass
class TrialState:
    """One trial so far."""

    created: TrialCreated
    """With the configuration that it trains, also where that is not the one it was created with."""
    reconfigured: TrialReconfigured | None = None
    reports: list[TrialReported] = field(default_factory=list)
    attempts: int = 0
    node: str | None = None
    running: bool = False
    """Whether an attempt is under way; a trial that lives and is not running waits for a worker."""
    started_at: float | None = None
    failures: list[AttemptFailed] = field(default_factory=list)
    ended: TrialEnded | None = None
    stages: dict[str, StageTrained | StageReused] = field(default_factory=dict)
    """How the weights of its stages were come by, by key, the first stage first."""
    tests: dict[str, TestRead] = field(default_factory=dict)
    """What was read of the test part with the weights kept for each label."""
    test_reads: int = 0
    """How often the test part was read for it."""
    opened: set[str] = field(default_factory=set)
    """Labels for which a read was announced; journals of before that have the figures alone."""

    @property
    def trial_id(self) -> str:
        """The trial's ID."""
        return self.created.trial_id

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None while it has not."""
        return None if self.ended is None else self.ended.outcome

    @property
    def test(self) -> dict[str, float]:
        """``test/...`` of the best weights; empty where it was not read."""
        return self.tests[BEST].metrics if BEST in self.tests else {}

    @property
    def test_tables(self) -> dict[str, Any]:
        """Tables of the test part, of the best weights."""
        return self.tests[BEST].tables if BEST in self.tests else {}

    @property
    def kept_epochs(self) -> dict[str, int]:
        """The epochs whose weights are kept, by label, ``best`` first; empty before the trial ended with one."""
        if self.ended is None or self.ended.best_epoch is None:
            return {}
        return {BEST: self.ended.best_epoch, **self.ended.kept_epochs}

    @property
    def best_report(self) -> TrialReported | None:
        """The report of the best epoch; None before the trial ended with one."""
        if self.ended is None or self.ended.best_epoch is None:
            return None
        return next((report for report in self.reports if report.epoch == self.ended.best_epoch), None)

    @property
    def charged_failures(self) -> int:
        """Failures that count against the retries."""
        return sum(failure.charged for failure in self.failures)


@dataclass
class SweepState:
    """A sweep so far. ``trials`` is in order of creation."""

    started: SweepStarted
    trials: dict[str, TrialState] = field(default_factory=dict)
    drivers: list[DriverStarted] = field(default_factory=list)
    obeyed: set[str] = field(default_factory=set)
    ended: SweepEnded | None = None
    quarantined: list[NodeQuarantined] = field(default_factory=list)
    """Nodes that were given no more trials."""
    baselines: dict[str, dict[str, float]] = field(default_factory=dict)
    """Validation figures of the mean / majority predictor, by split digest."""

    @classmethod
    def from_events(cls, events: Iterable[Event]) -> SweepState:
        """Fold a whole journal.

        Raises:
            NotFoundError: If the journal is empty or does not begin with the sweep's start.
        """
        iterator = iter(events)
        first = next(iterator, None)
        if not isinstance(first, SweepStarted):
            raise NotFoundError("the journal does not begin with the sweep's start; is it the journal of a sweep?")
        state = cls(started=first)
        for event in iterator:
            state.apply(event)
        return state

    def apply(self, event: Event) -> None:
        """Take one more event. A report of an epoch that is there already replaces it (a retried epoch).

        Raises:
            IntegrityError: If no driver writes such a journal: a second start, or a trial that was never created.
        """
        trial_id: str | None = getattr(event, "trial_id", None)
        if trial_id is not None and trial_id not in self.trials and not isinstance(event, TrialCreated):
            raise IntegrityError(f"the journal of sweep {self.started.sweep_id} never created trial {trial_id}.")
        match event:
            case SweepStarted():
                raise IntegrityError(f"the journal of sweep {self.started.sweep_id} starts a second time.")
            case DriverStarted():
                self.drivers.append(event)
                self.ended = None
                for trial in self.trials.values():
                    trial.running = False
            case TrialCreated():
                self.trials[event.trial_id] = TrialState(created=event)
            case AttemptStarted():
                trial = self.trials[event.trial_id]
                trial.attempts = max(trial.attempts, event.attempt + 1)
                trial.node, trial.running = event.node, True
                trial.started_at = trial.started_at or event.time
            case TeamPlaced():
                self.trials[event.trial_id].node = event.node
            case TrialReconfigured():
                trial = self.trials[event.trial_id]
                trial.created, trial.reconfigured = event.applied_to(trial.created), event
            case StageTrained() | StageReused():
                self.trials[event.trial_id].stages[event.key] = event
            case DataStaged():
                pass
            case TrialReported():
                reports = self.trials[event.trial_id].reports
                if not reports or reports[-1].epoch < event.epoch:
                    reports.append(event)
                else:
                    reports[:] = [*(r for r in reports if r.epoch < event.epoch), event]
            case AttemptFailed():
                trial = self.trials[event.trial_id]
                trial.failures.append(event)
                trial.running = False
            case NodeQuarantined():
                self.quarantined.append(event)
            case TrialEnded():
                trial = self.trials[event.trial_id]
                trial.ended, trial.running = event, False
            case TestOpened():
                self.trials[event.trial_id].opened.update(event.labels)
                self.trials[event.trial_id].test_reads += 1
            case TrialResumed():
                self.trials[event.trial_id].ended = None
            case TestRead():
                trial = self.trials[event.trial_id]
                trial.tests[event.label] = event
                trial.test_reads += event.label not in trial.opened
            case BaselineMeasured():
                self.baselines[event.split_digest] = dict(event.metrics)
            case ControlReceived():
                self.obeyed.add(event.key)
            case SweepEnded():
                self.ended = event

    @property
    def status(self) -> SweepStatus:
        """As the journal has it: running until a driver let go."""
        return "running" if self.ended is None else self.ended.status

    def counts(self) -> dict[str, int]:
        """Number of trials by outcome, every outcome named."""
        counted = Counter(trial.outcome for trial in self.trials.values())
        return {outcome: counted[outcome] for outcome in OUTCOMES}

    def stage_counts(self) -> dict[str, int]:
        """How often a stage was trained by this sweep's trials, and how often reused; empty without stages."""
        kinds = Counter(stage.kind for trial in self.trials.values() for stage in trial.stages.values())
        return {"trained": kinds["stage_trained"], "reused": kinds["stage_reused"]} if kinds else {}

    @property
    def test_reads(self) -> int:
        """How often the test part was read for its trials."""
        return sum(trial.test_reads for trial in self.trials.values())

    @property
    def running(self) -> int:
        """Number of trials created and not ended."""
        return sum(trial.ended is None for trial in self.trials.values())

    def best(self) -> TrialState | None:
        """The completed trial with the best value; None without one. Ties go to the earlier trial.

        Of several objectives the first tells, then the second, and so on; so nobody dominates it. Once there are
        confirmed configurations, it is the first confirmation of the winner.
        """
        confirmed = self._confirmed()
        if confirmed is not None:
            return confirmed
        best: TrialState | None = None
        for trial in self.trials.values():
            if trial.created.confirms is not None:
                continue
            if trial.ended is None or trial.ended.outcome != "completed" or trial.ended.value is None:
                continue
            if best is None or self._place(trial) < self._place(best):
                best = trial
        return best

    @property
    def splits(self) -> tuple[str, ...]:
        """Digests of the splits that its trials were validated on, in order of first use."""
        return tuple(dict.fromkeys(trial.created.split_digest for trial in self.trials.values()))

    @property
    def seeds(self) -> int:
        """How many seeds each configuration is trained with."""
        return int((self.started.document.get("repeat") or {}).get("seeds", 1))

    def _place(self, trial: TrialState) -> tuple[float, ...]:
        return () if trial.ended is None else ordering(trial.ended.point, self.started.directions)

    @property
    def confirm_seeds(self) -> int:
        """With how many fresh seeds the best configurations are trained again; 0: they are not."""
        return int((self.started.document.get("confirm") or {}).get("seeds", 0))

    def _confirmed(self) -> TrialState | None:
        results: dict[int, list[TrialState]] = {}
        for trial in self.trials.values():
            if trial.created.confirms is not None and trial.outcome == "completed":
                results.setdefault(trial.created.configuration, []).append(trial)
        values = {
            key: [t.ended.value for t in trials if t.ended is not None and t.ended.value is not None]
            for key, trials in results.items()
        }
        found = winner(values, self.started.objective, self.confirm_seeds)
        return None if found is None else min(results[found], key=lambda trial: trial.created.repeat)
