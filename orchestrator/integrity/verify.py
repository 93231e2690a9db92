"""Comparison of a sweep's objects with their recorded digests."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from agr_core.data.packed.joined import Join
from agr_core.data.packed.pack import verify as verify_packed
from agr_core.data.packed.shards import MANIFEST
from agr_core.data.splits.split_file import read_split
from agr_core.errors import AgrError, DataError, IntegrityError
from orchestrator.assets.recorded import read_recorded_lines
from orchestrator.assets.transfer import download, manifest_of
from orchestrator.catalog.rebuilt import rebuild_summary
from orchestrator.catalog.references import references
from orchestrator.catalog.stages import read_stage_done
from orchestrator.catalog.summary import SummaryError, read_summary
from orchestrator.errors import DamagedError, NotFoundError
from orchestrator.journal.segments import whole_segments
from orchestrator.journal.sweep_state import SweepState, TrialState, attempt_folder
from orchestrator.storage import is_remote, layout, open_storage
from orchestrator.storage.base import Storage

_METRICS = "metrics.jsonl"


@dataclass(frozen=True)
class Problem:
    """Object that differs from its record."""

    key: str
    """Key of the object, or folder of several objects."""
    text: str


@dataclass
class SweepCheck:
    """Result of checking one sweep."""

    sweep_id: str
    segments: int = 0
    """Number of intact segments of the journal."""
    files: int = 0
    """Number of trial files whose SHA-256 equals that in the journal."""
    unproven: int = 0
    """Number of trials whose files are not in the journal, because an older version trained them."""
    shared: int = 0
    """Number of intact data sets, joins, splits, stages and weights that it references."""
    problems: list[Problem] = field(default_factory=list)


class Verifier:
    """Checker for the sweeps of a storage; objects shared by sweeps are checked once."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._shared: dict[tuple[str, str], Problem | None] = {}

    def sweep(self, sweep_id: str) -> SweepCheck:
        """Check a sweep's journal, summary, files of trials and shared objects.

        Raises:
            StorageError: If the storage does not answer.
        """
        check = SweepCheck(sweep_id)
        segments, damage = whole_segments(self._storage, sweep_id)
        check.segments = len(segments)
        if damage is not None:
            check.problems.append(Problem(layout.journal(sweep_id), str(damage)))
        try:
            state = SweepState.from_events(event for segment in segments for event in segment.events)
        except NotFoundError:
            if damage is None:
                check.problems.append(Problem(layout.journal(sweep_id), "there is no journal."))
            return check
        except DamagedError as error:
            check.problems.append(Problem(layout.journal(sweep_id), str(error)))
            return check
        check.problems += self._summary(sweep_id, journal_is_whole=damage is None)
        for trial in state.trials.values():
            self._trial(sweep_id, trial, check)
        try:
            needed = sorted(references(self._storage, state))
        except (DataError, IntegrityError) as error:
            check.problems.append(Problem(layout.sweep(sweep_id), str(error)))
            return check
        for shared in needed:
            problem = self._of_shared(*shared)
            if problem is None:
                check.shared += 1
            else:
                check.problems.append(problem)
        return check

    def _summary(self, sweep_id: str, *, journal_is_whole: bool) -> Iterator[Problem]:
        key = layout.summary(sweep_id)
        try:
            written = read_summary(self._storage, sweep_id)
        except NotFoundError:
            yield Problem(key, f"there is none; `agr repair {sweep_id}` writes it from the journal.")
            return
        except SummaryError as error:
            yield Problem(key, str(error))
            return
        if not journal_is_whole:
            return
        rebuilt = rebuild_summary(self._storage, sweep_id)
        if written.journal is not None and written.journal != rebuilt.journal:
            return  # a driver has written the segment and not yet the summary
        for name in ("status", "trials", "best", "test_reads"):
            if getattr(written, name) != getattr(rebuilt, name):
                yield Problem(
                    key, f"{name} is {getattr(written, name)}, and the journal says {getattr(rebuilt, name)}."
                )

    def _trial(self, sweep_id: str, trial: TrialState, check: SweepCheck) -> None:
        folder = attempt_folder(sweep_id, trial)
        if folder is None:
            return
        if not trial.files:
            check.unproven += bool(trial.reports)
            return
        epochs = set(trial.kept_epochs.values())
        kept = {layout.best_weights(folder, epoch) for epoch in epochs}
        for name, sha256 in trial.files.items():
            key = f"{layout.trial(sweep_id, trial.trial_id)}/{name}"
            is_document = "/" not in key.removeprefix(f"{folder}/")
            is_of_kept = key in kept or any(key.endswith(f"-{epoch:06d}.parquet") for epoch in epochs)
            if not key.startswith(f"{folder}/") or not (is_document or is_of_kept):
                continue  # of another attempt, or of an epoch that is not kept
            problem = self._file(key, sha256, trial, may_be_gone=not is_document)
            if problem is None:
                check.files += 1
            else:
                check.problems.append(problem)

    def _file(self, key: str, sha256: str, trial: TrialState, *, may_be_gone: bool) -> Problem | None:
        """Compare a file with its digest; return the problem, if any.

        ``may_be_gone`` allows a missing file: weights and predictions stay only for the best trials.
        """
        try:
            if key.endswith(f"/{_METRICS}"):
                read_recorded_lines(self._storage, key, trial)
                return None
            present = _sha256(self._storage, key)
        except NotFoundError:
            return None if may_be_gone else Problem(key, "it is missing, and the journal lists it.")
        except DamagedError as error:
            return Problem(key, str(error))
        if present == sha256:
            return None
        return Problem(key, f"it has SHA-256 {present[:12]}, and the journal says {sha256[:12]}.")

    def _of_shared(self, kind: str, digest: str) -> Problem | None:
        if (kind, digest) not in self._shared:
            check, key = _CHECKS[kind], _KEYS[kind](digest)
            try:
                check(self._storage, digest)
                problem = None
            except NotFoundError as error:
                # Data sets may be used in place, from another storage or folder.
                problem = None if kind == layout.DATASETS else Problem(key, f"it is missing: {error}")
            except (DataError, IntegrityError) as error:
                problem = Problem(key, str(error))
            self._shared[kind, digest] = problem
        return self._shared[kind, digest]


def _dataset(storage: Storage, digest: str) -> None:
    uri = f"{storage.uri}/{layout.dataset(digest)}"
    source = open_storage(uri)
    if not source.exists(MANIFEST):
        raise NotFoundError(f"there is no data set at {uri}.")
    if manifest_of(source)["digest"] != digest:
        raise DamagedError(f"{uri} holds a data set of another digest than its name.")
    if not is_remote(uri):
        verify_packed(Path(uri))
        return
    with tempfile.TemporaryDirectory(prefix="agr-verify-") as scratch:
        folder = Path(scratch, "packed")
        download(source, folder, manifest_of(source))
        verify_packed(folder)


def _join(storage: Storage, digest: str) -> None:
    key = layout.join(digest)
    if Join.from_bytes(storage.read(key), f"{storage.uri}/{key}").digest != digest:
        raise DamagedError(f"{storage.uri}/{key} joins other data sets than its name.")


def _split(storage: Storage, digest: str) -> None:
    with tempfile.TemporaryDirectory(prefix="agr-verify-") as scratch:
        path = Path(scratch, "split.parquet")
        storage.download(layout.split(digest), path)
        try:
            present = read_split(path).digest
        except AgrError as error:
            name = f"{storage.uri}/{layout.split(digest)}"
            raise DamagedError(str(error).replace(str(path), name)) from error
    if present != digest:
        raise DamagedError(f"{storage.uri}/{layout.split(digest)} is another split than its name.")


def _stage(storage: Storage, digest: str) -> None:
    if storage.exists(layout.stage_done(digest)):  # else its training has not finished yet
        read_stage_done(storage, digest)


def _weights(storage: Storage, digest: str) -> None:
    present = _sha256(storage, layout.weights(digest))
    if present != digest:
        raise DamagedError(f"{storage.uri}/{layout.weights(digest)} has SHA-256 {present[:12]}.")


def _sha256(storage: Storage, key: str) -> str:
    hasher = hashlib.sha256()
    for piece in storage.stream(key):
        hasher.update(piece)
    return hasher.hexdigest()


_CHECKS: dict[str, Callable[[Storage, str], None]] = {
    layout.DATASETS: _dataset,
    layout.JOINS: _join,
    layout.SPLITS: _split,
    layout.STAGES: _stage,
    layout.WEIGHTS: _weights,
}
_KEYS: dict[str, Callable[[str], str]] = {
    layout.DATASETS: layout.dataset,
    layout.JOINS: layout.join,
    layout.SPLITS: layout.split,
    layout.STAGES: layout.stage,
    layout.WEIGHTS: layout.weights,
}
