"""Identify the images behind a trial's metrics, so that metrics on the same images are comparable."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from agr_core.data.splits.split_file import read_split
from orchestrator.errors import NotFoundError
from orchestrator.journal.recorded_config import recorded_data_config
from orchestrator.journal.sweep_state import TrialState
from orchestrator.storage import layout
from orchestrator.storage.base import Storage

EVALUATED = ("val", "test")
"""The parts that are evaluated, of the data that is split."""


def same_images(trials: Collection[TrialState], storage: Storage | None) -> tuple[str, ...]:
    """Return the parts among ``val`` and ``test`` that hold the same images, by content, for all trials.

    Args:
        trials: At least one trial.
        storage: Storage of their splits; None, or without one of them: parts of different splits count as different.

    Raises:
        IntegrityError: If a split does not have its digest.
    """
    of_splits = {digest: _images(storage, digest) for digest in {trial.created.split_digest for trial in trials}}
    contents = [_evaluated(trial, of_splits) for trial in trials]
    return tuple(part for part in EVALUATED if all(by_part[part] == contents[0][part] for by_part in contents))


def _evaluated(trial: TrialState, of_splits: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return by part what determines its images and their classes."""
    races = recorded_data_config(trial.created).races
    return {part: (of_splits[trial.created.split_digest][part], races) for part in EVALUATED}


def _images(storage: Storage | None, split_digest: str) -> dict[str, str]:
    """Return the digest of each part's images: of their bytes, from which ``sample_id`` is derived in any data set."""
    if storage is None:
        return dict.fromkeys(EVALUATED, split_digest)
    with tempfile.TemporaryDirectory(prefix="agr-split-") as folder:
        path = Path(folder, "split.parquet")
        try:
            storage.download(layout.split(split_digest), path)
        except NotFoundError:
            return dict.fromkeys(EVALUATED, split_digest)
        split = read_split(path)
    return {part: _digest(split.sample_ids[split.rows(part)].tolist()) for part in EVALUATED}


def _digest(sample_ids: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(name.rpartition("/")[2] for name in sample_ids)).encode()).hexdigest()
