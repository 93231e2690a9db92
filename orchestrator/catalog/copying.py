"""Copy sweeps to another storage, with the data sets, splits, stages and weights that they use."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agr_core.data.packed.shards import MANIFEST
from agr_core.errors import IntegrityError
from orchestrator.catalog.ownership import refuse_if_driven
from orchestrator.catalog.references import references, starting
from orchestrator.errors import AlreadyExistsError
from orchestrator.journal.segments import read_state
from orchestrator.storage import layout
from orchestrator.storage.base import ObjectInfo, Storage

_COMPLETING = (f"/{MANIFEST}", f"/{layout.DONE}")
_FILES: dict[str, Callable[[str], str]] = {
    layout.JOINS: layout.join,
    layout.SPLITS: layout.split,
    layout.WEIGHTS: layout.weights,
}
"""Kinds that are one object; the others are folders."""


@dataclass(frozen=True)
class Copied:
    """Result of copying a sweep: number of objects and bytes copied, and of objects that existed already."""

    sweep_id: str
    objects: int
    size: int
    unchanged: int


def copy_sweep(sweep_id: str, source: Storage, target: Storage) -> Copied:
    """Copy a sweep and all that it refers to; each object is read back and its SHA-256 compared.

    A repeated call continues an interrupted one: objects with the same content stay. The journal is copied last, so
    every sweep listed in ``target`` is whole.

    Raises:
        NotFoundError: If ``source`` has no such sweep.
        SweepOwnedError: If a driver runs it.
        AlreadyExistsError: If ``target`` has a sweep of this ID with another history.
        IntegrityError: If a copy differs from its source, or an object named by its content holds something else.
    """
    state = read_state(source, sweep_id)
    refuse_if_driven(source, state)
    segments = list(source.list(layout.journal(sweep_id)))
    _refuse_other_history(sweep_id, segments, source, target)
    objects = size = unchanged = 0
    with starting(target, sweep_id):  # a cleanup of unreferenced objects keeps those that a start marker may need
        for info in (*_shared(source, references(source, state)), *_of_sweep(source, sweep_id), *segments):
            if _bring(info, source, target):
                objects, size = objects + 1, size + info.size
            else:
                unchanged += 1
        if source.exists(layout.summary(sweep_id)):
            target.write(layout.summary(sweep_id), source.read(layout.summary(sweep_id)))
    return Copied(sweep_id, objects, size, unchanged)


def _refuse_other_history(sweep_id: str, segments: list[ObjectInfo], source: Storage, target: Storage) -> None:
    copied = {info.key for info in target.list(layout.journal(sweep_id))}
    further = copied - {info.key for info in segments}
    differs = [key for key in sorted(copied - further) if _sha256(source, key) != _sha256(target, key)]
    if further or differs:
        first = min([*further, *differs])
        raise AlreadyExistsError(
            f"{target.uri} has a sweep {sweep_id} with another history, from {first} on: it continued there after it "
            "was copied. Nothing was changed. Copy in the other direction, or remove one of them (`agr rm`)."
        )


def _shared(source: Storage, references: set[tuple[str, str]]) -> Iterator[ObjectInfo]:
    """Yield the shared objects of a sweep; the object that completes a data set or stage comes last."""
    files = {_FILES[kind](digest) for kind, digest in references if kind in _FILES}
    for kind in sorted({kind for kind, _ in references}):
        if kind in _FILES:
            yield from (info for info in source.list(kind) if info.key in files)
    for kind, digest in sorted(references):
        if kind not in _FILES:
            yield from sorted(source.list(f"{kind}/{digest}"), key=lambda info: (info.key.endswith(_COMPLETING), info))


def _of_sweep(source: Storage, sweep_id: str) -> Iterator[ObjectInfo]:
    """Yield the objects of a sweep except its journal, its summary, and commands to a driver that is gone."""
    left_out = (f"{layout.journal(sweep_id)}/", f"{layout.control(sweep_id)}/", layout.summary(sweep_id))
    for info in source.list(layout.sweep(sweep_id)):
        if not info.key.startswith(left_out):
            yield info


def _bring(info: ObjectInfo, source: Storage, target: Storage) -> bool:
    """Copy an object unless the target has the same content; return whether it was copied."""
    there = target.exists(info.key)
    with tempfile.TemporaryDirectory(prefix="agr-copy-") as folder:
        file = Path(folder, "object")
        source.download(info.key, file)
        with file.open("rb") as opened:
            expected = hashlib.file_digest(opened, "sha256").hexdigest()
        if there and _sha256(target, info.key) == expected:
            return False
        target.upload(file, info.key)
    if _sha256(target, info.key) != expected:
        raise IntegrityError(f"{target.uri}/{info.key} differs from {source.uri} after the copy. Copy the sweep again.")
    return True


def _sha256(storage: Storage, key: str) -> str:
    digest = hashlib.sha256()
    for piece in storage.stream(key):
        digest.update(piece)
    return digest.hexdigest()
