"""Read objects whose SHA-256 the journal records, and verify them before use."""

from __future__ import annotations

import hashlib
from pathlib import Path

from agr_core.identity import file_digest
from orchestrator.errors import DamagedError
from orchestrator.journal.sweep_state import TrialState
from orchestrator.storage.base import Storage


def download_recorded(storage: Storage, key: str, path: Path, sha256: str | None) -> None:
    """Fetch an object into a file; ``sha256`` is the journal's record of it, None if it has none.

    Raises:
        NotFoundError: If there is no such object.
        DamagedError: If it has another SHA-256. No file is left then.
    """
    storage.download(key, path)
    if sha256 is not None and (present := file_digest(path)) != sha256:
        path.unlink()
        raise _changed(storage, key, present, sha256)


def read_recorded(storage: Storage, key: str, trial: TrialState) -> bytes:
    """Return the bytes of an object that an attempt of ``trial`` stored.

    Raises:
        NotFoundError: If there is no such object.
        DamagedError: If it has another SHA-256 than the journal lists; earlier journals list none.
    """
    data = storage.read(key)
    sha256 = trial.recorded_sha256(key)
    if sha256 is not None and (present := hashlib.sha256(data).hexdigest()) != sha256:
        raise _changed(storage, key, present, sha256)
    return data


def read_recorded_lines(storage: Storage, key: str, trial: TrialState) -> list[bytes]:
    """Return the lines of a trial's ``metrics.jsonl``, one per epoch; only journalled epochs are verified.

    Raises:
        NotFoundError: If there is no such object.
        DamagedError: If the lines of the journalled epochs have another SHA-256 than the journal lists.
    """
    lines = storage.read(key).splitlines(keepends=True)
    sha256 = trial.recorded_sha256(key)
    if sha256 is not None:
        journalled = b"".join(lines[: trial.reports[-1].epoch])
        if (present := hashlib.sha256(journalled).hexdigest()) != sha256:
            raise _changed(storage, key, present, sha256)
    return lines


def _changed(storage: Storage, key: str, present: str, sha256: str) -> DamagedError:
    return DamagedError(
        f"{storage.uri}/{key} has SHA-256 {present[:12]}, and the journal says {sha256[:12]}: it was changed after "
        "it was stored, and is not used. `agr rerun TRIAL` retrains the trial."
    )
