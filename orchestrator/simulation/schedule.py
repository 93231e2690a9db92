"""Schedule of one simulated sweep and its faults, drawn from a seed, and its outcome."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator import provenance
from orchestrator.cleanup.retention import not_needed, remove
from orchestrator.errors import NotFoundError, StorageError, TrackerError, TrackerUnavailableError
from orchestrator.journal.events import Event, SweepStarted
from orchestrator.journal.segments import read_events, read_state
from orchestrator.simulation.curves import PowerLaws
from orchestrator.simulation.driver import Cluster, Node, SimulatedDriver
from orchestrator.simulation.faults import FaultyStorage, FaultyTracker
from orchestrator.simulation.kept_weights import lost_weights
from orchestrator.simulation.memory_storage import MemoryStorage
from orchestrator.simulation.surroundings import surroundings
from orchestrator.simulation.workers import Fate
from orchestrator.simulation.world import START, Actor, World
from orchestrator.spec.load import Sweep, sweep_from_document
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.storage.patient import PatientStorage
from orchestrator.tracking.delivery import Syncer

_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder in it, made for one schedule
_LOOK_S = 5.0
"""Time between two actions of the simulated user, in seconds."""

_OTHER_VERSIONS = ("torch: 1.0 -> 2.0",)
"""What differs on a machine with other versions."""

_FATES: tuple[Fate, ...] = ("dies", "hangs", "raises", "late", "twice")


@dataclass(frozen=True)
class Plan:
    """Settings drawn from a seed before the sweep starts."""

    document: dict[str, Any]
    slots: tuple[int, ...]
    """Number of slots of each node."""
    storage_faults: float
    tracker_faults: float
    worker_faults: float
    driver_kills: float
    """Probability, at each action of the user, of a coming kill of the driver."""
    commands: tuple[str, ...]
    """Commands given by the simulated user."""

    @property
    def one_worker(self) -> bool:
        """Whether the history must equal that of an undisturbed sweep."""
        return self.document.get("concurrency") == 1 and "kill" not in self.commands and "budget" not in self.document


def draw_plan(world: World) -> Plan:
    """Draw a small sweep and its fault settings."""
    chance = world.chance
    world.calm_after = world.now + chance.choice((60.0, 200.0, 500.0))
    alone = chance.random() < 0.5
    epochs = chance.choice((3, 4, 6))
    schedulers = ("none", *({"name": name, "grace_epochs": 1, "reduction_factor": 2} for name in ("asha", "hyperband")))
    document: dict[str, Any] = {
        "name": "simulated",
        "trial": {"schedule": {"name": "constant", "epochs": epochs}},
        "space": {
            "model": [{"name": "basic_cnn", "conv_layers": {"randint": [2, 4]}}, {"name": "resnet10t"}],
            "optimizer": {"name": "sgd", "lr": {"loguniform": [1.0e-3, 1.0e-1]}},
        },
        "search": {
            "algorithm": chance.choice(("random", "random", "tpe")),
            "trials": chance.randint(3, 14),
            "seed": chance.randrange(1000),
        },
        "scheduler": chance.choice(schedulers),
        "objective": {"metric": "val/age_mae", "direction": chance.choice(("minimize", "maximize"))},
        "retries": 100 if alone else chance.choice((0, 1, 3)),
        "limits": {"report": 60},
        "keep_checkpoints": chance.choice((1, 2, None)),
    }
    if alone:
        document["concurrency"] = 1
    elif chance.random() < 0.4:
        document["budget"] = {"wall": chance.choice((60, 200, 500))}
    if chance.random() < 0.25:
        document["confirm"] = {"top": 2, "seeds": 2}
    if chance.random() < 0.25:
        document["keep"] = {"gender": {"metric": "val/gender_acc", "direction": "maximize"}}
    trouble = [chance.choice((0.0, 0.3, 1.0)) for _ in range(4)]
    return Plan(
        document=document,
        slots=tuple(chance.randint(1, 2) for _ in range(chance.randint(1, 3))),
        storage_faults=0.03 * trouble[0],
        tracker_faults=0.2 * trouble[1],
        worker_faults=0.15 * trouble[2],
        driver_kills=0.12 * trouble[3],
        commands=tuple(name for name in ("stop", "kill", "signal", "second driver") if chance.random() < 0.4),
    )


@dataclass
class Outcome:
    """Faults of a schedule and the resulting state of the sweep."""

    seed: str
    plan: Plan
    world: World
    storage: MemoryStorage
    tracker: FaultyTracker
    sweep: Sweep
    started: SweepStarted
    cluster: Cluster
    drivers: list[SimulatedDriver] = field(default_factory=list)
    heard: list[Event] = field(default_factory=list)
    """Events that drivers passed to listeners, in order."""
    lost: list[str] = field(default_factory=list)
    """Weights that were missing when no driver was running."""


@dataclass
class Schedule:
    """Run of a sweep under faults, until it has ended and all events are delivered."""

    outcome: Outcome
    scratch: Path
    cluster: Cluster
    person: Actor = field(default_factory=lambda: Actor("person"))
    _writers: int = 0
    _joined: int = 0

    def run(self) -> None:
        """Run the schedule.

        Raises:
            Stuck: If the sweep does not end.
        """
        world = self.outcome.world
        self._drive(resumes=False)
        world.after(_LOOK_S, self.person, self._look)
        world.after(1.0, self.person, self._new_writer)
        if world.further.random() < 0.3:
            world.note("a second writer")
            world.after(1.0, self.person, self._new_writer)
        world.run(lambda: self._settled)
        self._let_go()
        world.calm_after = world.now
        world.hold(self.person, 200.0)  # orphaned workers end, and late effects take place
        self._deliver_rest()
        self._collect_garbage()

    @property
    def _settled(self) -> bool:
        """Return whether the sweep has ended permanently and no driver is running."""
        drivers = self.outcome.drivers
        return (
            all(driver.over for driver in drivers)
            and any(driver.ended is not None and driver.ended.status == "completed" for driver in drivers)
        ) or self._failed_for_good

    @property
    def _failed_for_good(self) -> bool:
        """Return whether the sweep failed and a retry would fail again."""
        drivers = self.outcome.drivers
        failed = [driver for driver in drivers if driver.ended is not None and driver.ended.status == "failed"]
        return len(failed) >= 3 and all(driver.over for driver in drivers)

    # ---- drivers

    def _client(self, actor: Actor, *, hidden: tuple[str, ...] = ()) -> Storage:
        outcome = self.outcome
        faulty = FaultyStorage(outcome.world, outcome.storage, actor, rate=outcome.plan.storage_faults, hidden=hidden)
        return PatientStorage(
            faulty, sleep=lambda seconds: outcome.world.hold(actor, seconds), clock=outcome.world.clock
        )

    def _drive(self, *, resumes: bool, checks_owner: bool = True) -> None:
        outcome, world = self.outcome, self.outcome.world
        actor = Actor(f"driver {len(outcome.drivers)}")
        driver = SimulatedDriver(
            world,
            actor,
            outcome.sweep,
            outcome.started,
            self._client(actor),
            self.cluster,
            PowerLaws(outcome.started.objectives, lambda _: 10.0, diverging=0.1),
            self.scratch,
            self._client,
            fate=self._fate,
            start_s=lambda: 2.0,
            listener=outcome.heard.append,
            provenance=outcome.started.provenance,
            drift=_OTHER_VERSIONS if resumes and world.further.random() < 0.3 else (),
            others=outcome.drivers,
            checks_owner=checks_owner,
        )
        outcome.drivers.append(driver)
        world.after(0.0, actor, driver.resume if resumes else driver.begin)

    def _fate(self) -> Fate:
        world = self.outcome.world
        if not world.happens(self.outcome.plan.worker_faults):
            return "well"
        fate = world.chance.choice(_FATES)
        world.note(f"a worker {fate}")
        return fate

    def _look(self) -> None:
        """Inject user or machine actions, and resume the sweep if it has no driver."""
        outcome, world = self.outcome, self.outcome.world
        driver = outcome.drivers[-1]
        if all(past.over for past in outcome.drivers):
            for past in outcome.drivers:
                self._orphan(past)
            if not self._settled:
                begun = outcome.storage.exists(layout.segment(outcome.started.sweep_id, 1))
                if begun:
                    outcome.lost += lost_weights(outcome.storage, outcome.started)
                world.note("resume" if begun else "submit again")
                self._drive(resumes=begun)
        else:
            self._meddle(driver)
        world.after(_LOOK_S * world.chance.uniform(0.5, 3), self.person, self._look)

    def _meddle(self, driver: SimulatedDriver) -> None:
        outcome, world, chance = self.outcome, self.outcome.world, self.outcome.world.chance
        plan = outcome.plan
        if not driver.over and world.happens(plan.driver_kills):
            driver.actor.kill_in = chance.randrange(30)
            world.note(f"{driver.actor.name} is killed in {driver.actor.kill_in} effects")
        if plan.worker_faults and world.happens(0.03):
            self._node_goes()
        command = chance.choice(plan.commands) if plan.commands and world.happens(0.06) else ""
        if command == "signal" and not driver.over:
            world.note("a signal")
            driver.signalled = True
        elif command == "second driver" and outcome.storage.exists(layout.segment(outcome.started.sweep_id, 1)):
            world.note("a second driver")
            # Two that are started at the same time both find no living driver.
            self._drive(resumes=True, checks_owner=world.further.random() < 0.5)
        elif command == "stop":
            self._send("stop", {})
        elif command == "kill" and driver.workers:
            self._send("kill", {"trial_id": chance.choice(sorted(driver.workers))})

    def _send(self, name: str, arguments: dict[str, Any]) -> None:
        outcome, world = self.outcome, self.outcome.world
        world.note(f"agr {name}")
        key = f"{layout.control(outcome.started.sweep_id)}/{int(world.now * 1e9):020d}-{len(world.happened):08x}.json"
        outcome.storage.create(key, json.dumps({"command": name, "arguments": arguments}).encode())

    def _node_goes(self) -> None:
        world = self.outcome.world
        node = world.chance.choice(self.cluster.nodes)
        world.note(f"{node.node_id} vanishes")
        node.alive = False
        for driver in self.outcome.drivers:
            for worker in driver.workers.values():
                if worker.node_id == node.node_id:
                    worker.actor.alive = False
        self._joined += 1
        new = Node(f"node {len(self.cluster.nodes)}-{self._joined}", node.slots)
        world.after(world.chance.choice((1.0, 60.0)), self.person, lambda: self.cluster.nodes.append(new))

    def _orphan(self, driver: SimulatedDriver) -> None:
        """Let the workers of a killed driver run for a short time."""
        for worker in driver.workers.values():
            if worker.actor.alive:
                self.outcome.world.after(self.outcome.world.chance.uniform(0, 25), worker.actor, worker.close)

    def _let_go(self) -> None:
        for driver in self.outcome.drivers:
            self._orphan(driver)

    # ---- delivery and garbage

    def _new_writer(self) -> None:
        """Start a process that delivers to the tracker; it may be killed and is then replaced."""
        world = self.outcome.world
        actor = Actor(f"writer {self._writers}")
        self._writers += 1
        if world.happens(0.5 if self.outcome.plan.tracker_faults else 0.0):
            actor.kill_in = world.chance.randrange(200)
        storage = self._client(actor, hidden=("metrics.jsonl",))  # without them, no pictures are drawn
        client = self.outcome.tracker.client(actor)
        syncer = Syncer(storage, client, self.outcome.started.sweep_id, clock=world.clock)
        world.after(0.0, actor, lambda: self._deliver(actor, syncer))
        if actor.kill_in is not None:
            self._watch(actor)

    def _watch(self, writer: Actor) -> None:
        """Start another writer after this one has died."""
        if writer.alive:
            self.outcome.world.after(30.0, self.person, lambda: self._watch(writer))
        else:
            self._new_writer()

    def _deliver(self, actor: Actor, syncer: Syncer) -> None:
        world = self.outcome.world
        try:
            syncer.run_once()
        except (TrackerUnavailableError, StorageError, NotFoundError):  # `Syncer.follow` retries
            pass
        except TrackerError as error:  # another writer has removed a run as made twice; `agr sync` delivers the rest
            world.note(f"{actor.name} ends: {type(error).__name__}")
            return
        world.after(world.chance.uniform(3.0, 20.0), actor, lambda: self._deliver(actor, syncer))

    def _deliver_rest(self) -> None:
        """Deliver the rest, as `agr sync` does."""
        actor = Actor("agr sync")
        storage = self._client(actor, hidden=("metrics.jsonl",))
        Syncer(storage, self.outcome.tracker.client(actor), self.outcome.started.sweep_id).run_once()

    def _collect_garbage(self) -> None:
        """Remove unneeded objects, as `agr gc` does for this sweep."""
        outcome = self.outcome
        state = read_state(outcome.storage, outcome.started.sweep_id)
        over = state.ended is not None and state.ended.status in ("completed", "stopped", "failed")
        objects = outcome.storage.list(layout.trials(outcome.started.sweep_id))
        keep = outcome.sweep.spec.keep_checkpoints
        remove(outcome.storage, not_needed(state, list(objects), keep=keep, over=over))


def new_outcome(seed: str, plan: Plan, world: World) -> Outcome:
    """Return the initial outcome of a sweep."""
    sweep = sweep_from_document(plan.document)
    sweep_id = f"{sweep.spec.name}-20260101-000000-0000"
    started = SweepStarted.of(sweep, time=world.now, sweep_id=sweep_id, provenance=provenance.collect())
    tracker = FaultyTracker(world, rate=plan.tracker_faults)
    cluster = Cluster([Node(f"node {number}", slots) for number, slots in enumerate(plan.slots)])
    return Outcome(seed, plan, world, MemoryStorage(world.clock), tracker, sweep, started, cluster)


def run_schedule(seed: str) -> Outcome:
    """Run the schedule of a seed to its end.

    Raises:
        Stuck: If the sweep does not end.
    """
    world = World(seed)
    plan = draw_plan(world)
    with _scratch() as scratch, surroundings():
        outcome = new_outcome(seed, plan, world)
        Schedule(outcome, scratch, outcome.cluster).run()
    return outcome


def undisturbed_events(plan: Plan) -> list[Event]:
    """Return the journal of the same sweep without faults, on one worker."""
    world = World("undisturbed", calm_after=START)
    outcome = new_outcome("undisturbed", plan, world)
    actor = Actor("driver")
    with _scratch() as scratch:
        driver = SimulatedDriver(
            world,
            actor,
            outcome.sweep,
            outcome.started,
            outcome.storage,
            Cluster([Node("node 0", 1)]),
            PowerLaws(outcome.started.objectives, lambda _: 10.0, diverging=0.1),
            scratch,
            lambda _: outcome.storage,
        )
        driver.begin()
        world.run(lambda: driver.over)
    assert not driver.problem, driver.problem
    return read_events(outcome.storage, outcome.started.sweep_id)[0]


@contextmanager
def _scratch() -> Iterator[Path]:
    folder = tempfile.mkdtemp(prefix="agr-simulation-", dir=_SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None)
    try:
        yield Path(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
