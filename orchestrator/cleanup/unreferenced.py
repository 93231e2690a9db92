"""Find and remove shared objects that no sweep references: data sets, splits, stages and initial weights.

They outlive the sweep that created them, because another one may use them. Objects that no journal of the storage
references can be removed (``agr gc --unreferenced``); a later sweep creates them again.

A storage has no locks, so the order of operations protects a starting sweep. A sweep writes a marker (``starting``)
before it looks for shared objects, and removes it once its journal references them. A removal first deletes the one
object of each set that makes it valid, then looks for markers. If there is one, everything is put back; a sweep that
starts later finds nothing and creates the objects anew.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agr_core.data.packed.shards import MANIFEST
from agr_core.identity import is_digest
from orchestrator.catalog.liveness import Silences
from orchestrator.catalog.ownership import refuse_if_driven
from orchestrator.catalog.references import references
from orchestrator.errors import SweepOwnedError
from orchestrator.journal.segments import is_journalled, read_state
from orchestrator.journal.sweep_state import SweepState
from orchestrator.storage import layout
from orchestrator.storage.base import ObjectInfo, Storage

KINDS = {
    layout.DATASETS: "data sets",
    layout.JOINS: "joins of data sets",
    layout.SPLITS: "splits",
    layout.STAGES: "stages",
    layout.WEIGHTS: "files of weights",
}
"""Folders of shared objects, and their display names."""

_CARRIES = (MANIFEST, layout.DONE)
"""Files that make a folder valid. A single file is its own carrier."""

STARTS_WITHIN_S = 86_400.0
"""Longest start of a sweep, in seconds; afterwards it counts as dead: a killed driver cannot remove its marker."""


@dataclass(frozen=True)
class Shared:
    """A set of shared objects: its kind (a folder of the storage), its digest, its objects."""

    kind: str
    digest: str
    objects: tuple[ObjectInfo, ...]

    @property
    def size(self) -> int:
        """Size in bytes."""
        return sum(info.size for info in self.objects)

    @property
    def carrier(self) -> ObjectInfo:
        """The object that makes the others valid; any of them if that was never written."""
        return next((info for info in self.objects if info.key.endswith(_CARRIES)), self.objects[0])


def unreferenced(storage: Storage) -> list[Shared]:
    """Return the shared objects that no sweep of the storage references, by kind and digest."""
    needed = _needed(storage)
    by_digest: dict[tuple[str, str], list[ObjectInfo]] = defaultdict(list)
    for kind in KINDS:
        for info in storage.list(kind):
            digest = info.key.split("/")[1].partition(".")[0]
            if is_digest(digest) and (kind, digest) not in needed:  # other names are not ours
                by_digest[kind, digest].append(info)
    return [Shared(kind, digest, tuple(objects)) for (kind, digest), objects in by_digest.items()]


def remove_unreferenced(storage: Storage) -> list[Shared]:
    """Remove the shared objects that no sweep references; return them.

    Raises:
        SweepOwnedError: If a sweep runs or starts, because its needs are unknown. Nothing is removed.
    """
    refuse_if_busy(storage)
    unused = unreferenced(storage)
    with tempfile.TemporaryDirectory(prefix="agr-gc-") as folder:
        aside: dict[str, Path] = {}
        try:
            for number, shared in enumerate(unused):
                path = Path(folder, str(number))
                storage.download(shared.carrier.key, path)
                aside[shared.carrier.key] = path
                storage.delete(shared.carrier.key)
            refuse_if_busy(storage)
            if {(shared.kind, shared.digest) for shared in unused} & _needed(storage):
                raise SweepOwnedError("a sweep began meanwhile; nothing was removed. Try again when it is over.")
        except BaseException:
            for key, path in aside.items():
                storage.upload(path, key)
            raise
    for shared in unused:
        for info in shared.objects:
            storage.delete(info.key)
    return unused


def refuse_if_busy(storage: Storage) -> None:
    """Raise ``SweepOwnedError`` if a sweep of the storage runs, starts, or waits on a cluster's head to be started."""
    silences = Silences(storage)
    for info in (*storage.list(layout.STARTS), *storage.list(layout.SUBMISSIONS)):
        sweep_id = Path(info.key).stem
        begun = storage.exists(layout.segment(sweep_id, 1))
        if not begun and silences.now() - info.modified < STARTS_WITHIN_S:
            raise SweepOwnedError(
                f"sweep {sweep_id} is about to start; nothing was removed. Try again when it is over."
            )
    for state in _states(storage):
        refuse_if_driven(storage, state, silences)


def _states(storage: Storage) -> Iterator[SweepState]:
    """Yield the states of the sweeps that have a journal. The needs of an unreadable one are unknown.

    Raises:
        DamagedError: If a journal cannot be read, its first segment included.
    """
    for sweep_id in storage.folders(layout.SWEEPS):
        if is_journalled(storage, sweep_id):
            yield read_state(storage, sweep_id)


def _needed(storage: Storage) -> set[tuple[str, str]]:
    """Return kind and digest of everything that the journals reference."""
    return {shared for state in _states(storage) for shared in references(storage, state)}
