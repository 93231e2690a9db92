"""Simulated driver: real sweep run, search and early stopping in an event loop like Ray Tune's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from orchestrator.catalog import ownership
from orchestrator.catalog.summary import HEARTBEAT_S, LOST_AFTER_S
from orchestrator.errors import StorageError, SweepOwnedError
from orchestrator.journal.events import DataRef, DriverStarted, Event, SweepEnded, SweepStarted
from orchestrator.journal.outcome import Cause
from orchestrator.journal.segments import JournalWriter, read_events
from orchestrator.journal.sweep_state import SweepState
from orchestrator.search.search import Search
from orchestrator.simulation.curves import CurveOf
from orchestrator.simulation.workers import Fate, Message, SimulatedWorker
from orchestrator.simulation.world import Actor, World
from orchestrator.spec.load import Sweep
from orchestrator.storage.base import Storage
from orchestrator.sweep.conclude import conclude_sweep, conclude_trial, tidy_sweep
from orchestrator.sweep.failures import cause_of_lost_worker
from orchestrator.sweep.halving import EarlyStopping, early_stopping
from orchestrator.sweep.run import SweepRun
from orchestrator.sweep.settings import SweepSettings
from orchestrator.worker.job import Job

_LOST: Mapping[Cause, str] = {
    "node_lost": "the node is gone",
    "hung": "no report for too long",
    "worker_died": "the worker died",
}

TURN_S = 0.25
"""Simulated time between two iterations of a driver's loop, in seconds."""

NO_DATA = DataRef(data_uri="/nowhere", data_digest="0" * 64, split_digest="0" * 64)
"""Placeholder for a trial's data; nothing is trained."""


@dataclass(eq=False)
class Node:
    """Machine with a number of concurrent trial slots."""

    node_id: str
    slots: int
    alive: bool = True


@dataclass
class Cluster:
    """Machines of the cluster; they outlive drivers."""

    nodes: list[Node]
    attempts: list[tuple[str, int]] = field(default_factory=list)
    """Attempts that drivers started, journalled or not: trial and number."""

    def usable(self, quarantined: set[str]) -> list[Node]:
        """Return the nodes on which trials may start."""
        return [node for node in self.nodes if node.alive and node.node_id not in quarantined]


def build_run(
    sweep: Sweep,
    started: SweepStarted,
    storage: Storage,
    *,
    next_segment: int,
    clock: Callable[[], float],
    listener: Callable[[Event], None],
    about: ownership.AboutDriver,
) -> SweepRun:
    """Build the run of a sweep without data, before its journal is started or replayed."""
    return SweepRun(
        started=started,
        storage=storage,
        search=Search.of(sweep),
        # Nobody reads the time left here, and two hundred futures at each heartbeat would be most of the work.
        settings=replace(SweepSettings.of(sweep.spec, max_epochs=sweep.max_epochs), course=None),
        prepare=lambda _: NO_DATA,
        prepare_weights=lambda _: None,
        writer=JournalWriter(storage, started.sweep_id, next_segment=next_segment),
        listener=listener,
        clock=clock,
        about=about,
    )


@dataclass(eq=False)
class SimulatedDriver:
    """Driver of a sweep, from its start or resume to any kind of end."""

    world: World
    actor: Actor
    sweep: Sweep
    started: SweepStarted
    storage: Storage
    cluster: Cluster
    curve_of: CurveOf
    scratch: Path
    worker_storage: Callable[[Actor], Storage]
    fate: Callable[[], Fate] = lambda: "well"
    start_s: Callable[[], float] = lambda: 1.0
    turn_s: Callable[[], float] = lambda: TURN_S
    """Returns the time to the next iteration of its loop, in seconds."""
    listener: Callable[[Event], None] = lambda _: None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    drift: tuple[str, ...] = ()
    """What differs on its machine from the sweep's start."""
    others: list[SimulatedDriver] = field(default_factory=list)
    """All drivers of the sweep."""
    checks_owner: bool = True
    """Whether it looks for a living driver before it takes the sweep, as ``agr resume`` does."""
    ended: SweepEnded | None = None
    problem: str = ""
    """Reason why it ended before the sweep."""
    signalled: bool = False
    """Whether it received a termination signal."""
    workers: dict[str, SimulatedWorker] = field(default_factory=dict)
    """Workers by trial ID."""
    busy_s: float = 0.0
    """Occupied slot time, in seconds."""
    took: bool = False
    """Whether it is recorded as a driver in the sweep's journal."""
    usurped: str = ""
    """A living driver whose sweep it took although it had looked for one."""
    began_at: float = 0.0
    last_beat: float = 0.0
    """Time of its last iteration."""
    run: SweepRun = field(init=False)
    rule: EarlyStopping = field(init=False)
    _waiting: list[str] = field(default_factory=list)
    """IDs of trials to restart, in order."""
    _inbox: list[Message] = field(default_factory=list)
    _began: dict[str, float] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether this driver has ended."""
        return self.ended is not None or bool(self.problem) or not self.actor.alive

    def begin(self) -> None:
        """Start the sweep."""
        self._guarded(lambda: self._take(None))

    def resume(self) -> None:
        """Resume the sweep from its journal."""
        self._guarded(lambda: self._take(read_events(self.storage, self.started.sweep_id)))

    def _take(self, journal: tuple[list[Event], int] | None) -> None:
        self.run = build_run(
            self.sweep,
            self.started,
            self.storage,
            next_segment=1 if journal is None else journal[1] + 1,
            clock=self.world.clock,
            listener=self.listener,
            about={"host": f"host of {self.actor.name}", "boot": "", "drift": self.drift},
        )
        self.rule = early_stopping(self.sweep)
        self.run.fits_elsewhere = lambda node_id: any(
            node.node_id != node_id for node in self.cluster.usable(self.run.standing.health.quarantined)
        )
        if journal is None:
            self.run.begin()
        else:
            if self.checks_owner:
                living = self._living(journal[0])  # before: one that was held up may go on while this one looks
                ownership.refuse_if_driven(self.storage, SweepState.from_events(journal[0]))
                self.usurped = living
            self.run.replay(journal[0], self.rule)
        self.took, self.began_at, self.last_beat = True, self.world.now, self.world.now
        self._waiting = list(self.run.live)
        self._next_turn()

    def _living(self, events: list[Event]) -> str:
        """Return the driver that holds the sweep if it lives and has given a sign of life recently; else nothing."""
        last = next(event for event in reversed(events) if isinstance(event, DriverStarted | SweepEnded))
        if isinstance(last, SweepEnded):
            return ""
        other = next((each for each in self.others if last.host == f"host of {each.actor.name}"), None)
        if other is not None and not other.over and self.world.now - other.last_beat < LOST_AFTER_S - HEARTBEAT_S:
            return other.actor.name
        return ""

    def _next_turn(self) -> None:
        self.world.after(self.turn_s(), self.actor, lambda: self._guarded(self._turn))

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run a step; errors that end a command with one line end this driver and its workers."""
        try:
            step()
        except (SweepOwnedError, StorageError) as error:
            self.problem = f"{type(error).__name__}: {error}"
            self.world.note(f"{self.actor.name} ends: {type(error).__name__}")
            self.close()

    def close(self) -> None:
        """Stop its workers."""
        for worker in self.workers.values():
            worker.close()

    def _turn(self) -> None:
        """Run one iteration like Tune's loop: stop trials, process workers' messages, fill free slots."""
        self.last_beat = self.world.now  # before it may be held up, with its heartbeat unwritten
        for trial_id in self.run.poll():
            self._conclude(trial_id)
        for trial_id in self.run.newly_hung():
            if trial_id in self.workers:
                self.workers[trial_id].actor.alive = False
        messages, self._inbox = self._inbox, []
        for message in messages:
            self._hear(message)
        for trial_id, worker in list(self.workers.items()):
            if not worker.actor.alive:
                self._lost(trial_id, worker)
        if self.signalled:
            self._finish(interrupted=True)
            return
        self._fill()
        no_more = self.run.stop is not None or (self.run.proposals_over and not self._waiting)
        if no_more and not self.workers:
            self._finish(interrupted=False)
        else:
            self._next_turn()

    def _finish(self, *, interrupted: bool) -> None:
        if not interrupted:
            if self.run.stop is not None:
                self.run.close_all()
            interrupted = bool(self.run.live) or not self.run.proposals_over
            if not interrupted and (self.run.stop is None or self.run.stop.status != "failed"):
                tidy_sweep(self.run)
        self.ended = conclude_sweep(self.run, interrupted=interrupted)
        self.close()

    # ---- trials

    def _fill(self) -> None:
        quarantined = self.run.standing.health.quarantined
        while True:
            usable = self.cluster.usable(quarantined)
            held = [worker.node_id for worker in self.workers.values()]
            free = next((node for node in usable if held.count(node.node_id) < node.slots), None)
            if free is None or self.run.stop is not None:
                return
            if self._waiting:
                trial_id = self._waiting.pop(0)
            else:
                created = self.run.next_trial(sum(node.slots for node in usable))
                if created is None:
                    return
                trial_id = created.trial_id
            self._start(trial_id, free)

    def _start(self, trial_id: str, node: Node) -> None:
        live = self.run.live[trial_id]
        self.rule.added(trial_id, live.compared_as)
        job = Job.of(
            live.created,
            self.started,
            storage=self.storage.uri,
            attempt=live.attempt,
            last_journalled_epoch=live.epoch,
        )
        actor = Actor(f"worker of {trial_id}, attempt {live.attempt}")
        worker = SimulatedWorker(
            self.world,
            job,
            self.curve_of(job.config),
            self.worker_storage(actor),
            actor,
            node.node_id,
            lambda message: self._inbox.append(message),
            self.scratch / f"{self.actor.name}-{trial_id}-{live.attempt}".replace(" ", "-"),
            self.fate,
            self.start_s(),
            self.provenance,
        )
        self.workers[trial_id] = worker
        self.cluster.attempts.append((trial_id, live.attempt))
        self._began[trial_id] = self.world.now
        self.run.attempt_started(trial_id, f"host of {node.node_id}", node.node_id)
        worker.begin()

    def _release(self, trial_id: str) -> None:
        """Free the trial's slot."""
        worker = self.workers.pop(trial_id, None)
        if worker is not None:
            self.busy_s += self.world.now - self._began.pop(trial_id)
            worker.close()
        elif trial_id in self._waiting:
            self._waiting.remove(trial_id)

    def _conclude(self, trial_id: str) -> None:
        self._release(trial_id)
        live = self.run.live[trial_id]
        if not self.run.decisions.is_resumable(trial_id):
            self.rule.ended(trial_id, live.epoch or None, live.value)
        conclude_trial(self.run, trial_id)

    def _hear(self, message: Message) -> None:
        trial_id = message.worker.job.trial_id
        if self.workers.get(trial_id) is not message.worker:
            return  # Tune ignores results of a worker that it has stopped
        if message.diverged:
            self.run.decisions.end_trial(trial_id, "diverged", "the loss is not finite")
            self._conclude(trial_id)
        elif message.report is None:
            self._failed(trial_id, message.error, message.cause)
        else:
            report = message.report
            again = report.epoch <= self.run.live[trial_id].epoch
            stops = not report.finished and self.rule.reported(
                trial_id, report.epoch, self.run.objective.value(report.metrics)
            )
            self.run.epoch_reported(trial_id, report, message.files)
            if report.finished or stops:
                self._conclude(trial_id)
            elif not again:
                message.worker.go_on()

    def _lost(self, trial_id: str, worker: SimulatedWorker) -> None:
        node_lives = any(node.node_id == worker.node_id for node in self.cluster.nodes if node.alive)
        hung = self.run.failures.is_hung(self.run.live[trial_id])
        cause = cause_of_lost_worker(node_lost=not node_lives, hung=hung)
        self._failed(trial_id, _LOST[cause], cause)

    def _failed(self, trial_id: str, error: str, cause: Cause) -> None:
        self._release(trial_id)
        if self.run.attempt_failed(trial_id, error=error, cause=cause) == "retry":
            self._waiting.append(trial_id)
