"""What sweeps share in a storage: data sets, splits, stages and initial weights; and what none of them refers to.

They outlive the sweep that brought them, because another one may take them up. What no journal of the storage refers
to can be removed (``agr gc --unreferenced``), and is made again by whoever needs it.

A storage has no locks, so the order of things keeps a removal from taking what a sweep is about to use. A sweep that
starts says so (``starting``) before it looks at what is there, until its journal speaks for it; a removal first takes
away the one object of each thing without which it counts for nothing, then looks whether somebody came. Whoever came
before that was seen, and everything is put back; whoever comes later finds nothing and makes it anew.
"""

from __future__ import annotations

import json
import socket
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agr_core.data.joined import Join
from agr_core.data.shards import MANIFEST
from agr_core.identity import is_digest
from orchestrator.errors import NotFoundError, SweepOwnedError
from orchestrator.journal import read_state
from orchestrator.ownership import refuse_if_driven
from orchestrator.records import StageRef, TrialCreated
from orchestrator.state import SweepState
from orchestrator.storage import layout
from orchestrator.storage.base import ObjectInfo, Storage

KINDS = {
    layout.DATASETS: "data sets",
    layout.JOINS: "joins of data sets",
    layout.SPLITS: "splits",
    layout.STAGES: "stages",
    layout.WEIGHTS: "files of weights",
}
"""Folders of what is shared, and what to call it."""

_CARRIES = (MANIFEST, layout.DONE)
"""Files without which a folder counts for nothing. What is one file carries itself."""

STARTS_WITHIN_S = 86_400.0
"""A sweep that has been starting for longer (seconds) is taken for dead: a killed driver cannot take its word back."""


@dataclass(frozen=True)
class Shared:
    """One thing that sweeps share: its kind (a folder of the storage), its digest, its objects."""

    kind: str
    digest: str
    objects: tuple[ObjectInfo, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(info.size for info in self.objects)

    @property
    def carrier(self) -> ObjectInfo:
        """The object without which the others count for nothing; any of them where that was never written."""
        return next((info for info in self.objects if info.key.endswith(_CARRIES)), self.objects[0])


@contextmanager
def starting(storage: Storage, sweep_id: str) -> Iterator[None]:
    """Say that a sweep is about to use what is shared; the block ends when its journal says so."""
    key = layout.start(sweep_id)
    storage.write(key, json.dumps({"host": socket.gethostname(), "time": time.time()}).encode("utf-8"))
    try:
        yield
    finally:
        storage.delete(key)


def unreferenced(storage: Storage) -> list[Shared]:
    """What no sweep of the storage refers to, in order of kind and digest."""
    needed = _needed(storage)
    found: dict[tuple[str, str], list[ObjectInfo]] = defaultdict(list)
    for kind in KINDS:
        for info in storage.list(kind):
            digest = info.key.split("/")[1].partition(".")[0]
            if is_digest(digest) and (kind, digest) not in needed:  # other names are people's
                found[kind, digest].append(info)
    return [Shared(kind, digest, tuple(objects)) for (kind, digest), objects in found.items()]


def remove_unreferenced(storage: Storage) -> list[Shared]:
    """Remove what no sweep refers to; returns what that was.

    Raises:
        SweepOwnedError: If a sweep runs or starts: what it is about to need, nobody can know. Nothing is removed.
    """
    refuse_if_busy(storage)
    found = unreferenced(storage)
    with tempfile.TemporaryDirectory(prefix="agr-gc-") as folder:
        aside: dict[str, Path] = {}
        try:
            for number, each in enumerate(found):
                path = Path(folder, str(number))
                storage.download(each.carrier.key, path)
                aside[each.carrier.key] = path
                storage.delete(each.carrier.key)
            refuse_if_busy(storage)
            if {(each.kind, each.digest) for each in found} & _needed(storage):
                raise SweepOwnedError("a sweep began meanwhile; nothing was removed. Try again when it is over.")
        except BaseException:
            for key, path in aside.items():
                storage.upload(path, key)
            raise
    for each in found:
        for info in each.objects:
            storage.delete(info.key)
    return found


def refuse_if_busy(storage: Storage) -> None:
    """Raise ``SweepOwnedError`` if a sweep of the storage runs, starts, or waits on a cluster's head to be started."""
    for info in (*storage.list(layout.STARTS), *storage.list(layout.SUBMISSIONS)):
        sweep_id = Path(info.key).stem
        begun = storage.exists(layout.segment(sweep_id, 1))
        if not begun and time.time() - info.modified < STARTS_WITHIN_S:
            raise SweepOwnedError(
                f"sweep {sweep_id} is about to start; nothing was removed. Try again when it is over."
            )
    for state in _states(storage):
        refuse_if_driven(storage, state)


def _states(storage: Storage) -> Iterator[SweepState]:
    for sweep_id in storage.folders(layout.SWEEPS):
        if storage.exists(layout.segment(sweep_id, 1)):  # else it is being removed
            yield read_state(storage, sweep_id)


def _needed(storage: Storage) -> set[tuple[str, str]]:
    """Kind and digest of all that the journals refer to."""
    needed: set[tuple[str, str]] = set()

    def data(ref: TrialCreated | StageRef) -> None:
        needed.update(((layout.DATASETS, ref.data_digest), (layout.SPLITS, ref.split_digest)))
        if ref.weights_sha256 is not None:
            needed.add((layout.WEIGHTS, ref.weights_sha256))

    for state in _states(storage):
        for trial in state.trials.values():
            data(trial.created)
            for ref in trial.created.stages:
                data(ref)
                needed.add((layout.STAGES, ref.key))
    for kind, digest in list(needed):
        if kind == layout.DATASETS:
            needed.update(_of_join(storage, digest))
        elif kind == layout.STAGES:
            needed.update(_of_stage(storage, digest))
    return needed


def _of_stage(storage: Storage, key: str) -> Iterator[tuple[str, str]]:
    """The weights that came of a stage; its driver may have died before its journal had them."""
    try:
        done = json.loads(storage.read(layout.stage_done(key)))
    except NotFoundError:
        return
    if "weights_sha256" in done:  # else it diverged
        yield layout.WEIGHTS, done["weights_sha256"]


def _of_join(storage: Storage, digest: str) -> Iterator[tuple[str, str]]:
    """A join, if that is what a data digest is of, and its members."""
    key = layout.join(digest)
    try:
        join = Join.from_bytes(storage.read(key), f"{storage.uri}/{key}")
    except NotFoundError:
        return
    yield layout.JOINS, digest
    for member in join.members:
        yield layout.DATASETS, member.digest
