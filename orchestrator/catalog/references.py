"""References of a sweep to shared objects: data sets, joins of them, splits, stages and weights, by digest."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from agr_core.data.packed.joined import Join
from orchestrator.catalog.stages import read_stage_done
from orchestrator.errors import NotFoundError
from orchestrator.journal.events import StageRef, TrialCreated
from orchestrator.journal.sweep_state import SweepState
from orchestrator.storage import layout
from orchestrator.storage.base import Storage


@contextmanager
def starting(storage: Storage, sweep_id: str) -> Iterator[None]:
    """Mark that a sweep is about to use shared objects; the block ends when its journal refers to them."""
    key = layout.start(sweep_id)
    storage.write(key, json.dumps({"host": socket.gethostname(), "time": time.time()}).encode("utf-8"))
    try:
        yield
    finally:
        storage.delete(key)


def references(storage: Storage, state: SweepState) -> set[tuple[str, str]]:
    """Return kind (a folder of the storage) and digest of all that a sweep's journal refers to, also indirectly."""
    needed: set[tuple[str, str]] = set()

    def data(ref: TrialCreated | StageRef) -> None:
        needed.update(((layout.DATASETS, ref.data_digest), (layout.SPLITS, ref.split_digest)))
        if ref.weights_sha256 is not None:
            needed.add((layout.WEIGHTS, ref.weights_sha256))

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
    """Return the weights of a stage; its driver may have died before it journalled them."""
    try:
        done = read_stage_done(storage, key)
    except NotFoundError:
        return
    if done.weights_sha256 is not None:  # else it diverged
        yield layout.WEIGHTS, done.weights_sha256


def _of_join(storage: Storage, digest: str) -> Iterator[tuple[str, str]]:
    """Return a join and its members, if the data digest is that of a join."""
    key = layout.join(digest)
    try:
        join = Join.from_bytes(storage.read(key), f"{storage.uri}/{key}")
    except NotFoundError:
        return
    yield layout.JOINS, digest
    for member in join.members:
        yield layout.DATASETS, member.digest
