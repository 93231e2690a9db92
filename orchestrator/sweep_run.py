"""A running sweep: what to try next, what happened, what to stop. Knows nothing of Ray.

Everything that happens passes through ``_record`` into the journal and through ``_apply`` into the search and the
counts. Resuming applies the journal again, so a resumed sweep stands where the interrupted one stood.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from agr_core.config import DataConfig, ModelConfig, TrialConfig
from agr_core.objective import Objective
from agr_core.reporting import EpochReport
from orchestrator import control
from orchestrator.confirmation import Confirmation
from orchestrator.errors import NotFoundError
from orchestrator.ids import trial_id as make_trial_id
from orchestrator.journal import JournalWriter
from orchestrator.outcome import OUTCOMES, Outcome, SweepStatus
from orchestrator.records import (
    AttemptFailed,
    AttemptStarted,
    BaselineMeasured,
    ControlReceived,
    DriverStarted,
    Event,
    StageRef,
    StageReused,
    StageTrained,
    SweepEnded,
    SweepStarted,
    TestRead,
    TrialCreated,
    TrialEnded,
    TrialReported,
)
from orchestrator.search import Search
from orchestrator.spec.model import ConfirmSpec
from orchestrator.storage import layout
from orchestrator.storage.base import Storage

FLUSH_S = 1.0
"""A stored event is at most so old (seconds)."""

HEARTBEAT_S = 5.0
"""The summary is rewritten at least so often (seconds); readers call a driver lost after 30."""

POLL_S = 2.0
"""Commands are looked for so often (seconds)."""

ALIKE_FAILURES = 3
"""So many failures with one and the same error before any trial reported an epoch stop the sweep."""


class DataRef(Protocol):
    """Where a trial's data lies, by content; see ``orchestrator.datasets``."""

    @property
    def data_uri(self) -> str: ...  # noqa: D102
    @property
    def data_digest(self) -> str: ...  # noqa: D102
    @property
    def split_digest(self) -> str: ...  # noqa: D102


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
class LiveTrial:
    """A trial that has not ended, as the driver needs it."""

    created: TrialCreated
    attempt: int = 0
    node: str | None = None
    epoch: int = 0
    value: float | None = None
    best: tuple[int, float] | None = None
    stages: set[str] = field(default_factory=set)
    """Keys of the stages whose weights it has."""
    kept: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Best epoch and its value for each label of ``keep``."""
    reported_attempt: int | None = None
    charged: int = 0
    finished: bool = False
    stopped_early: bool = False
    ending: tuple[Outcome, str] | None = None
    """Outcome and reason, when a person, the budget or the trial itself said how it ends."""

    @property
    def trial_id(self) -> str:
        """The trial's ID."""
        return self.created.trial_id


@dataclass
class Stop:
    """The sweep is to end before its last trial: how, and why."""

    status: SweepStatus
    reason: str


@dataclass
class SweepSettings:
    """What a sweep file says about running, beside its space."""

    seeds: int = 1
    retries: int = 3
    concurrency: int | None = None
    wall_s: float | None = None
    confirm: ConfirmSpec | None = None


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

    live: dict[str, LiveTrial] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    stages: Counter[str] = field(default_factory=Counter)
    best: tuple[str, float] | None = None
    next_number: int = 0
    first_attempt: int = 0
    stop: Stop | None = None
    wall_before: float = 0.0
    obeyed: set[str] = field(default_factory=set)
    fatal: Exception | None = None
    """An error of ours raised inside Tune, which would hide it; the driver raises it again."""
    reported_any: bool = False
    confirmation: Confirmation | None = None
    _last_created: TrialCreated | None = None
    _alike: Counter[str] = field(default_factory=Counter)
    _driver_started: float = 0.0
    _flushed: float = 0.0
    _beat: float = 0.0
    _polled: float = 0.0

    def __post_init__(self) -> None:
        confirm = self.settings.confirm
        if confirm is not None:
            self.confirmation = Confirmation(confirm.top, confirm.seeds, self.objective)

    @property
    def sweep_id(self) -> str:
        """The sweep's ID."""
        return self.started.sweep_id

    @property
    def objective(self) -> Objective:
        """What is optimised."""
        return self.started.objective

    @property
    def planned(self) -> int | None:
        """Number of trials asked for, the most that confirmation may take included; None when only a budget ends it."""
        confirm = self.settings.confirm
        confirmations = 0 if confirm is None else confirm.trials
        return None if self.search.limit is None else self.search.limit * self.settings.seeds + confirmations

    @property
    def wall_s(self) -> float:
        """Seconds that drivers of this sweep have run, this one included."""
        return self.wall_before + (self.clock() - self._driver_started)

    # ---- beginning and end

    def begin(self) -> None:
        """Open the journal of a new sweep. Raises ``SweepOwnedError`` if the sweep exists."""
        self.writer.append(self.started)
        self._take(resumed=False)

    def replay(self, events: list[Event], scheduler: Replayed) -> None:
        """Take over a sweep from its journal.

        A trial that the scheduler had decided to stop, or that had finished, without its end in the journal, is ended
        now. All other unfinished trials stay in ``live``, to be started again.
        """
        decided: dict[str, bool] = {}
        session: tuple[float, float] | None = None
        for event in events:
            if isinstance(event, DriverStarted):
                self.wall_before += 0.0 if session is None else session[1] - session[0]
                session = (event.time, event.time)
            elif session is not None:
                session = (session[0], event.time)
            if isinstance(event, TrialCreated):
                if event.proposed:
                    self.search.restore(event.configuration, event.proposal)
                scheduler.added(event.trial_id, event.number)
            elif isinstance(event, TrialReported) and not event.finished and event.trial_id in self.live:
                if event.epoch > self.live[event.trial_id].epoch:
                    decided[event.trial_id] = scheduler.reported(event.trial_id, event.epoch, event.value)
            elif isinstance(event, TrialEnded):
                trial = self.live[event.trial_id]
                scheduler.ended(event.trial_id, trial.epoch or None, trial.value)
            self._apply(event)
        self.wall_before += 0.0 if session is None else session[1] - session[0]
        self._take(resumed=True)
        # What stopped the sweep before is past: whoever resumes it wants it to go on.
        self.stop = None
        self._alike.clear()
        # A driver that was killed may have started an attempt, or a whole trial, that it could not journal, and whose
        # process still lives and writes. So each driver counts attempts from a number none before it can have used.
        self.first_attempt = 2 * sum(isinstance(event, DriverStarted) for event in events)
        for trial in list(self.live.values()):
            trial.ending = None
            if trial.finished or decided.get(trial.trial_id):
                scheduler.ended(trial.trial_id, trial.epoch, trial.value)
                self.trial_over(trial.trial_id)
            else:
                trial.attempt = max(trial.attempt + 2, self.first_attempt)

    def _take(self, *, resumed: bool) -> None:
        self._driver_started = self.clock()
        self._record(
            DriverStarted(
                time=self.clock(),
                driver_id=secrets.token_hex(4),
                host=socket.gethostname(),
                pid=os.getpid(),
                resumed=resumed,
            )
        )
        self.flush()

    def end(self, status: SweepStatus, reason: str = "") -> SweepEnded:
        """Let go of the sweep; returns the journal's last word."""
        ended = SweepEnded(time=self.clock(), status=status, reason=reason, wall_s=max(0.0, self.wall_s))
        self._record(ended)
        self.flush(status)
        return ended

    # ---- proposals

    @property
    def proposals_over(self) -> bool:
        """Whether no further trial will be created."""
        if self.stop is not None or not self._exhausted:
            return self.stop is not None
        if self.confirmation is None:
            return True
        return not self._searching and self.confirmation.next() is None

    @property
    def _searching(self) -> bool:
        """Whether a trial of the search still lives: the best of them are not known before."""
        return any(trial.created.confirms is None for trial in self.live.values())

    @property
    def _exhausted(self) -> bool:
        return self.search.exhausted(self.next_number // self.settings.seeds)

    def next_trial(self, slots: int) -> TrialCreated | None:
        """A new trial, unless ``slots`` (or ``concurrency``) trials live already or nothing is left to propose."""
        limit = slots if self.settings.concurrency is None else min(slots, self.settings.concurrency)
        if self.proposals_over or len(self.live) >= limit:
            return None
        if self._exhausted:
            return None if self._searching else self._next_confirmation()
        number = self.next_number
        configuration, repeat = divmod(number, self.settings.seeds)
        if repeat == 0:
            suggestion = self.search.propose(configuration)
            proposal, record = suggestion.proposal, suggestion.record
            config, params, variant = proposal.config, proposal.params, proposal.variant
        else:
            first = self._last_created
            assert first is not None, "the first repetition comes first"
            params, variant, record = first.params, first.variant, {}
            document = {**first.config, "seed": first.config["seed"] - first.repeat + repeat}
            config = TrialConfig.from_document(document)
        return self._create(
            config, configuration=configuration, repeat=repeat, variant=variant, params=params, proposal=record
        )

    def _next_confirmation(self) -> TrialCreated | None:
        """A trial of one of the search's best configurations with a seed that the search did not use."""
        following = None if self.confirmation is None else self.confirmation.next()
        if following is None:
            return None
        original, repeat, seed = following
        return self._create(
            TrialConfig.from_document({**original.config, "seed": seed}),
            configuration=original.configuration,
            repeat=repeat,
            variant=original.variant,
            params=original.params,
            proposal={},
            confirms=original.trial_id,
        )

    def _create(self, config: TrialConfig, **which: Any) -> TrialCreated:
        """Journal a trial of ``config``; ``which`` are the fields that say where it comes from."""
        number = self.next_number
        stages = self.prepare_stages(config)
        data = self.prepare(config.data)
        weights = None if stages else self.prepare_weights(config.model)
        created = TrialCreated(
            time=self.clock(),
            trial_id=make_trial_id(self.sweep_id, number),
            number=number,
            config=config.to_document(),
            config_digest=config.digest(
                data_digest=data.data_digest,
                split_digest=data.split_digest,
                weights_sha256=stages[-1].key if stages else weights,
            ),
            data_digest=data.data_digest,
            split_digest=data.split_digest,
            data_uri=data.data_uri,
            weights_sha256=weights,
            stages=stages,
            **which,
        )
        self._record(created)
        return created

    def prepare_stages(self, config: TrialConfig) -> tuple[StageRef, ...]:
        """Data and key of each stage that a trial starts from, the first one first."""
        refs: list[StageRef] = []
        for stage in config.stages:
            data = self.prepare(stage.config.data)
            weights = None if refs else self.prepare_weights(stage.config.model)
            key = stage.key(
                data_digest=data.data_digest,
                split_digest=data.split_digest,
                weights_sha256=refs[-1].key if refs else weights,
            )
            refs.append(
                StageRef(
                    id=stage.id,
                    key=key,
                    data_uri=data.data_uri,
                    data_digest=data.data_digest,
                    split_digest=data.split_digest,
                    weights_sha256=weights,
                )
            )
        return tuple(refs)

    # ---- what happens to trials

    def attempt_started(self, trial_id: str, node: str) -> None:
        """The trial's current attempt begins to train on ``node``."""
        trial = self.live[trial_id]
        self._record(AttemptStarted(time=self.clock(), trial_id=trial_id, attempt=trial.attempt, node=node))

    def stage_obtained(self, trial_id: str, figures: Mapping[str, Any], *, trained: bool) -> None:
        """A trial has the weights of a stage. What a further attempt finds again is left out."""
        trial = self.live[trial_id]
        if figures["key"] not in trial.stages:
            event = StageTrained if trained else StageReused
            self._record(event(time=self.clock(), trial_id=trial_id, attempt=trial.attempt, **figures))

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

    def attempt_failed(self, trial_id: str, *, error: str, details: str, charged: bool) -> Literal["retry", "give up"]:
        """The current attempt ended by an error; says whether there is to be another."""
        trial = self.live[trial_id]
        self._record(
            AttemptFailed(
                time=self.clock(),
                trial_id=trial_id,
                attempt=trial.attempt,
                error=error,
                details=details,
                charged=charged,
            )
        )
        if trial.charged > self.settings.retries:
            trial.ending = ("failed", error)
            return "give up"
        trial.attempt += 1
        return "retry"

    def trial_over(self, trial_id: str) -> None:
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
                best_epoch=None if trial.best is None else trial.best[0],
                kept_epochs={label: epoch for label, (epoch, _) in trial.kept.items()},
                stopped_early=trial.stopped_early,
                error=reason or None,
                attempt=trial.reported_attempt,
            )
        )
        self.flush()

    def test_read(self, trial_id: str, label: str, metrics: Mapping[str, float], tables: Mapping[str, Any]) -> None:
        """The sealed test part was read with the weights that a trial keeps for ``label``."""
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
        if self.writer.pending and now - self._flushed >= FLUSH_S:
            self.flush()
        elif now - self._beat >= HEARTBEAT_S:
            self._write_summary("running")
        if self.stop is None and self.settings.wall_s is not None and self.wall_s >= self.settings.wall_s:
            self._stop_all(Stop("completed", f"budget.wall of {self.settings.wall_s:g} s is used up"))
        if now - self._polled >= POLL_S:
            self._polled = now
            for command in control.pending(self.storage, self.sweep_id, obeyed=self.obeyed):
                self._obey(command)
        return [trial.trial_id for trial in self.live.values() if trial.ending is not None]

    def _obey(self, command: control.Command) -> None:
        arguments = dict(command.arguments)
        self._record(ControlReceived(time=self.clock(), command=command.name, arguments=arguments, key=command.key))
        if command.name == "stop":
            self._stop_all(Stop("stopped", "agr stop"))
        elif command.name == "kill":
            trial = self.live.get(str(arguments.get("trial_id")))
            if trial is not None and trial.ending is None:
                trial.ending = ("interrupted", "agr kill")
        else:
            raise NotFoundError(
                f"{command.key} asks for {command.name!r}; a driver of this version knows stop and kill."
            )

    def _stop_all(self, stop: Stop) -> None:
        self.stop = stop
        for trial in self.live.values():
            if trial.ending is None:
                trial.ending = ("interrupted", stop.reason)

    # ---- journal, counts, summary

    def _record(self, event: Event) -> None:
        self.writer.append(event)
        self._apply(event)

    def _apply(self, event: Event) -> None:
        match event:
            case TrialCreated():
                self.live[event.trial_id] = LiveTrial(event, attempt=self.first_attempt)
                self.next_number = max(self.next_number, event.number + 1)
                self._last_created = event
                self._note_confirmation(event)
            case AttemptStarted():
                self.live[event.trial_id].attempt = event.attempt
                self.live[event.trial_id].node = event.node
            case StageTrained() | StageReused():
                self.live[event.trial_id].stages.add(event.key)
                self.stages["trained" if isinstance(event, StageTrained) else "reused"] += 1
            case TrialReported():
                self._apply_report(self.live[event.trial_id], event)
            case AttemptFailed():
                trial = self.live[event.trial_id]
                trial.charged += event.charged
                self._count_alike(event.error)
            case TrialEnded():
                self._apply_end(self.live.pop(event.trial_id), event)
            case ControlReceived():
                self.obeyed.add(event.key)
            case SweepStarted() | DriverStarted() | TestRead() | BaselineMeasured() | SweepEnded():
                pass

    def _apply_report(self, trial: LiveTrial, event: TrialReported) -> None:
        if event.epoch <= trial.epoch:
            return
        trial.epoch, trial.value, trial.reported_attempt = event.epoch, event.value, event.attempt
        trial.finished, trial.stopped_early = event.finished, event.stopped_early
        if self.objective.better(event.value, None if trial.best is None else trial.best[1]):
            trial.best = (event.epoch, event.value)
        for label, objective in self.started.keep.items():
            value = objective.value(event.metrics)
            if objective.better(value, trial.kept[label][1] if label in trial.kept else None):
                trial.kept[label] = (event.epoch, value)
        self.reported_any = True
        if trial.created.proposed:
            self.search.report(trial.created.configuration, event.epoch, event.value)

    def _note_confirmation(self, event: TrialCreated) -> None:
        if self.confirmation is not None and event.confirms is None:
            self.confirmation.used_seeds.add(event.config["seed"])
        elif self.confirmation is not None:
            self.confirmation.created += 1

    def _count_alike(self, error: str) -> None:
        if self.reported_any:
            return
        self._alike[error] += 1
        if self._alike[error] >= ALIKE_FAILURES and self.stop is None:
            self._stop_all(Stop("failed", f"the first trials failed alike: {error}"))

    def _apply_end(self, trial: LiveTrial, event: TrialEnded) -> None:
        self.counts[event.outcome] += 1
        if event.outcome == "failed" and not trial.charged:  # it said so itself; failed attempts are counted already
            self._count_alike(event.error or "")
        if trial.created.proposed:
            self.search.finish(trial.created.configuration, event.outcome, event.value)
        if event.outcome != "completed" or event.value is None:
            return
        if self.confirmation is not None:
            if trial.created.confirms is not None:
                self.confirmation.results.setdefault(trial.created.configuration, []).append(
                    (trial.created, event.value)
                )
                confirmed = self.confirmation.best()
                self.best = self.best if confirmed is None else (confirmed[0].trial_id, confirmed[1])
                return
            self.confirmation.candidates.append((trial.created, event.value))
        if self.objective.better(event.value, None if self.best is None else self.best[1]):
            self.best = (event.trial_id, event.value)

    def flush(self, status: SweepStatus = "running") -> None:
        """Store what is pending; only then does anyone else hear of it."""
        stored = self.writer.flush()
        self._flushed = self.clock()
        self._write_summary(status)
        for event in stored:
            self.listener(event)

    def summary(self, status: SweepStatus) -> dict[str, Any]:
        """What ``list`` and ``status`` read."""
        return {
            "sweep_id": self.sweep_id,
            "name": self.started.name,
            "status": status,
            "started": self.started.time,
            "heartbeat": self.clock(),
            "wall_s": round(max(0.0, self.wall_s), 3),
            "budget_wall_s": self.settings.wall_s,
            "objective": self.objective.model_dump(mode="json"),
            "trials": {**{name: self.counts[name] for name in OUTCOMES}, "running": len(self.live)},
            "stages": {name: self.stages[name] for name in ("trained", "reused")} if self.stages else {},
            "planned": self.planned,
            "best": None if self.best is None else {"trial_id": self.best[0], "value": self.best[1]},
            "rerun_of": self.started.rerun_of,
        }

    def _write_summary(self, status: SweepStatus) -> None:
        self._beat = self.clock()
        self.storage.write(layout.summary(self.sweep_id), json.dumps(self.summary(status), indent=1).encode("utf-8"))
