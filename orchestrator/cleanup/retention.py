"""Retention of a sweep's weights: checkpoints to resume from, and weights of its best trials.

A running trial has its newest checkpoint and its best weights. A completed one keeps its checkpoint along with its
weights if ``agr continue`` can go on from it. Otherwise nothing resumes from a trial that has ended, so its checkpoint
is deleted, and so are the weights of a trial that did not complete, because it has no rank. Once the sweep is over,
only the best trials keep their weights. Journal, metrics, logs and configurations stay, and any trial can be
trained again, to the same bits, by ``agr rerun``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agr_core.config import TrialConfig
from orchestrator.journal.outcome import Outcome
from orchestrator.journal.sweep_state import SweepState, TrialState, attempt_folder
from orchestrator.storage import layout
from orchestrator.storage.base import ObjectInfo, Storage

_WEIGHTS = re.compile(r"(?P<attempt>.+/trials/(?P<trial>[^/]+)/attempt-\d+)/(?P<kind>checkpoints|best)/.+")
"""Below an attempt's folder; see ``orchestrator.storage.layout``."""

_PREDICTIONS = re.compile(r"(?P<attempt>.+/trials/(?P<trial>[^/]+)/attempt-\d+)/predictions/val-\d+\.parquet")


@dataclass(frozen=True)
class Usage:
    """Storage used by a sweep's trials, in bytes."""

    weights: int
    """Checkpoints, and the best weights of each trial."""
    others: int
    """Metrics, logs, configurations."""


def usage(storage: Storage, sweep_id: str) -> Usage:
    """Return the storage used by a sweep's trials; lists all of their objects."""
    sizes = [(_WEIGHTS.fullmatch(info.key) is not None, info.size) for info in storage.list(layout.trials(sweep_id))]
    return Usage(
        weights=sum(size for is_weights, size in sizes if is_weights),
        others=sum(size for is_weights, size in sizes if not is_weights),
    )


def not_needed(state: SweepState, objects: Iterable[ObjectInfo], *, keep: int | None, over: bool) -> list[ObjectInfo]:
    """Return the objects among ``objects`` that are no longer needed.

    Args:
        state: The sweep.
        objects: Objects below its trials' folders.
        keep: Number of best configurations whose weights are kept once the sweep is over; None: all, including those
            that did not complete.
        over: Whether no further trial will be created.
    """
    sweep_id = state.started.sweep_id
    best = None if keep is None or not over else _best(state, keep)
    unneeded = []
    for info in objects:
        match = _WEIGHTS.fullmatch(info.key) or _PREDICTIONS.fullmatch(info.key)
        trial = None if match is None else state.trials.get(match["trial"])
        if match is None or trial is None or trial.ended is None or trial.ended.resumable:
            continue
        folder = attempt_folder(sweep_id, trial)
        needed = folder is not None and info.key in _named(trial, folder)
        if match.re is _WEIGHTS:
            needed &= keep is None or (trial.outcome == "completed" and (best is None or trial.trial_id in best))
        if not needed:
            unneeded.append(info)
    return unneeded


def named_files(attempt: str, epochs: Iterable[int]) -> set[str]:
    """Return the keys of an attempt's best weights and val predictions of ``epochs``."""
    files = (layout.best_weights, lambda folder, epoch: layout.predictions(folder, "val", epoch))
    return {file(attempt, epoch) for epoch in epochs for file in files}


def _best(state: SweepState, keep: int) -> set[str]:
    """Return the trials of the ``keep`` best configurations: all of their seeds, and the representative trial."""
    ranked = state.ranking()[:keep]
    return {trial.trial_id for place in ranked for trial in place.configuration.ranked_trials}


def remove(storage: Storage, objects: Iterable[ObjectInfo]) -> int:
    """Remove objects; return the bytes freed."""
    freed = 0
    for info in objects:
        storage.delete(info.key)
        freed += info.size
    return freed


def tidy(storage: Storage, state: SweepState, *, keep: int | None, over: bool) -> int:
    """Remove the unneeded objects of a sweep; return the bytes freed."""
    objects = list(storage.list(layout.trials(state.started.sweep_id)))
    return remove(storage, not_needed(state, objects, keep=keep, over=over))


def release(
    storage: Storage, sweep_id: str, trial_id: str, outcome: Outcome, *, named: Collection[str], keep: int | None
) -> int:
    """Remove the checkpoints of a trial that has just ended, and its weights if it cannot be among the best.

    ``named``: keys of the weights and predictions that the trial's end names (``named_files``), and of the checkpoint
    that it can be continued from if it completed (``checkpoint_files``). Others are removed:
    they were superseded, or are of an epoch that the driver did not hear of. Returns the bytes freed.
    """
    unneeded = []
    for info in storage.list(layout.trial(sweep_id, trial_id)):
        match = _WEIGHTS.fullmatch(info.key)
        if match is None:
            needed = info.key in named or _PREDICTIONS.fullmatch(info.key) is None
        else:
            stays = outcome == "completed" or (keep is None and match["kind"] == "best")
            needed = info.key in named and stays
        if not needed:
            unneeded.append(info)
    return remove(storage, unneeded)


def checkpoint_files(folder: str, epoch: int, config: Mapping[str, Any]) -> set[str]:
    """Return the keys of the checkpoint from which `agr continue` goes on; empty if no trial of ``config`` can.

    Args:
        folder: Folder of the attempt.
        epoch: The trial's last epoch.
        config: Its configuration, as plain JSON.
    """
    if TrialConfig.from_document(config).schedule.length_matters:
        return set()
    return {f"{layout.checkpoint(folder, epoch)}/{name}" for name in (layout.LAST, layout.STATE)}


def checkpoint_epoch(storage: Storage, state: SweepState, trial_id: str) -> int | None:
    """Return the epoch of the checkpoint that a trial which has ended can go on from; None without one."""
    folder = attempt_folder(state.started.sweep_id, state.trials[trial_id])
    if folder is None:
        return None
    names = storage.folders(layout.checkpoints(folder))
    return max(
        (int(name) for name in names if storage.exists(f"{layout.checkpoint(folder, int(name))}/{layout.STATE}")),
        default=None,
    )


def _named(trial: TrialState, folder: str) -> set[str]:
    """Return the keys of the files that the end of a trial names, and of the checkpoint to continue it from."""
    named = set(named_files(folder, trial.kept_epochs.values()))
    if trial.outcome == "completed" and trial.ended is not None:
        named |= checkpoint_files(folder, trial.ended.epochs, trial.created.config)
    return named
