"""Storage and tracker with injected faults: failure before an effect, after it, delay, or rejection."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.errors import StorageError, StorageUnavailableError, TrackerUnavailableError
from orchestrator.simulation.memory_storage import MemoryStorage
from orchestrator.simulation.memory_tracker import MemoryTracker
from orchestrator.simulation.world import Actor, World
from orchestrator.storage.base import ObjectInfo
from orchestrator.tracking.base import MetricPoint, RunStatus, TrackedRun

_Result = TypeVar("_Result")

SECRET = "hunter2-canary"  # noqa: S105 - not a secret: a canary that a check searches for in all written objects
"""Credential of the simulated store; no written object may contain it."""


class FaultyStorage:
    """Storage client of one actor (``Storage``). Each operation counts as an effect of the actor.

    Args:
        world: Source of the faults.
        storage: Storage of the objects.
        actor: Owner of this client.
        rate: Probability of a fault in an operation.
        hidden: Names of objects that this client does not find.
    """

    def __init__(
        self, world: World, storage: MemoryStorage, actor: Actor, *, rate: float, hidden: tuple[str, ...] = ()
    ) -> None:
        self._world = world
        self._storage = storage
        self._actor = actor
        self._rate = rate
        self._hidden = hidden

    @property
    def uri(self) -> str:
        """URI of the storage."""
        return self._storage.uri

    def read(self, key: str) -> bytes:
        """Return the object's bytes (``Storage.read``)."""
        return self._do("reading", key, lambda: self._storage.read(f"{key}.hidden" if self._hides(key) else key))

    def write(self, key: str, data: bytes) -> None:
        """Store ``data`` (``Storage.write``)."""
        self._do("writing", key, lambda: self._storage.write(key, data))

    def create(self, key: str, data: bytes) -> None:
        """Store ``data`` unless the object exists (``Storage.create``)."""
        self._do("creating", key, lambda: self._storage.create(key, data))

    def exists(self, key: str) -> bool:
        """Return whether the object exists (``Storage.exists``)."""
        return self._do("looking for", key, lambda: self._storage.exists(key)) and not self._hides(key)

    def info(self, key: str) -> ObjectInfo:
        """Return size and modification time of the object (``Storage.info``)."""
        return self._do("looking at", key, lambda: self._storage.info(key))

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """Yield the objects below the folder ``prefix`` (``Storage.list``), possibly unordered as in some stores."""
        objects = self._do("listing", prefix, lambda: list(self._storage.list(prefix)))
        if len(objects) > 1 and self._world.happens(self._rate / 2, f"a list out of order for {self._actor.name}"):
            self._world.chance.shuffle(objects)
        return iter(objects)

    def folders(self, prefix: str) -> tuple[str, ...]:
        """Return the folders directly below the folder ``prefix`` (``Storage.folders``)."""
        return self._do("listing", prefix, lambda: self._storage.folders(prefix))

    def delete(self, key: str) -> None:
        """Delete the object (``Storage.delete``)."""
        self._do("deleting", key, lambda: self._storage.delete(key))

    def upload(self, path: Path, key: str) -> None:
        """Store a file (``Storage.upload``)."""
        self._do("writing", key, lambda: self._storage.upload(path, key))

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the object's bytes in chunks (``Storage.stream``)."""
        return iter(self._do("reading", key, lambda: list(self._storage.stream(key))))

    def download(self, key: str, path: Path) -> None:
        """Download an object into a file (``Storage.download``)."""
        self._do("reading", key, lambda: self._storage.download(key, path))

    def _hides(self, key: str) -> bool:
        return key.endswith(self._hidden) if self._hidden else False

    def _do(self, operation: str, key: str, effect: Callable[[], _Result]) -> _Result:
        """Perform an effect with possible faults before and after it."""
        world, name = self._world, self._actor.name
        key = _CLOCK_PROBE.sub("probes/clock/any", key)  # its random name would differ in a repetition
        self._actor.count_effect()
        if world.happens(self._rate / 3, f"{name} is held up before {operation} {key}"):
            world.hold(self._actor, world.chance.choice((0.3, 4.0, 45.0)))
        if world.happens(self._rate / 3, f"no answer to {name} {operation} {key}"):
            raise StorageUnavailableError(f"{operation} {key!r} in {self.uri}: no answer.")
        if world.happens(self._rate / 40, f"{name} is refused {operation} {key}"):
            raise StorageError(f"{operation} {key!r} in {self.uri}: access denied.")
        result = effect()
        if world.happens(self._rate / 3, f"{operation} {key} by {name} succeeds and is not answered"):
            raise StorageUnavailableError(f"{operation} {key!r} in {self.uri}: the connection broke.")
        self._actor.count_effect()
        return result


_CLOCK_PROBE = re.compile(r"probes/clock/[0-9a-f]+")


class FaultyTracker(MemoryTracker):
    """Tracker with time-outs, restarts and late creations after a time-out; faults occur only through ``client``."""

    def __init__(self, world: World, *, rate: float) -> None:
        super().__init__()
        self._world = world
        self._rate = rate
        self._actor = Actor("nobody")
        self._outage = {"until": 0.0}  # shared by all clients

    def client(self, actor: Actor) -> FaultyTracker:
        """Return this tracker as an actor's client. Each call counts as an effect of the actor."""
        client = copy.copy(self)
        client._actor = actor
        return client

    def experiment(self, name: str) -> str:
        """Return the ID of the experiment of that name, created if needed."""
        return self._do("experiment", lambda: super(FaultyTracker, self).experiment(name))

    def set_experiment_tags(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of an experiment."""
        self._do("tags", lambda: super(FaultyTracker, self).set_experiment_tags(experiment_id, tags))

    def create_run(self, experiment_id: str, name: str, start_time: float, tags: dict[str, str]) -> str:
        """Create a run; after a time-out it may still be created, at once or later."""
        make = super().create_run
        if self._world.happens(self._rate / 2, "the tracker makes a run after its creation was given up"):
            late = self._world.chance.choice((0.0, 3.0)) * self._world.further.choice((1, 10))
            self._world.after(late, Actor("tracker"), lambda: _drop(make(experiment_id, name, start_time, tags)))
            raise TrackerUnavailableError("the tracker does not answer in time.")
        return self._do("create", lambda: make(experiment_id, name, start_time, tags))

    def runs(self, experiment_id: str, tags: Mapping[str, str]) -> list[TrackedRun]:
        """Return all runs of an experiment whose tags include all of ``tags``."""
        return self._do("search", lambda: super(FaultyTracker, self).runs(experiment_id, tags))

    def delete_run(self, run_id: str) -> None:
        """Delete a run."""
        self._do("delete", lambda: super(FaultyTracker, self).delete_run(run_id))

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Sequence[MetricPoint] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Add params, points and tags to a run."""
        self._do("log", lambda: super(FaultyTracker, self).log(run_id, params=params, metrics=metrics, tags=tags))

    def log_artifact(self, run_id: str, path: Path, folder: str = "") -> None:
        """Store a file, or the contents of a folder, under the run."""
        self._do("artifact", lambda: super(FaultyTracker, self).log_artifact(run_id, path, folder))

    def end(self, run_id: str, *, status: RunStatus, time: float) -> None:
        """Close a run."""
        self._do("end", lambda: super(FaultyTracker, self).end(run_id, status=status, time=time))

    def reopen(self, run_id: str) -> None:
        """Set a closed run to ``RUNNING`` again."""
        self._do("reopen", lambda: super(FaultyTracker, self).reopen(run_id))

    def _do(self, call: str, effect: Callable[[], _Result]) -> _Result:
        world = self._world
        self._actor.count_effect()
        if world.happens(self._rate / 20, "the tracker restarts"):
            self._outage["until"] = world.now + world.chance.choice((5.0, 60.0))
        if world.now < self._outage["until"]:
            raise TrackerUnavailableError("the tracker does not answer.")
        if world.happens(self._rate / 2, f"the tracker does not answer {call}"):
            raise TrackerUnavailableError("the tracker does not answer in time.")
        result = effect()
        if world.happens(self._rate / 2, f"the tracker does {call} and does not answer"):
            raise TrackerUnavailableError("the tracker does not answer in time.")
        self._actor.count_effect()
        return result


def _drop(_: object) -> None:
    return None
