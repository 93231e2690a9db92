"""Which stored weights of a sweep are still needed: those to resume from, and those of its best trials.

A running trial has its newest checkpoint and its best weights. Once it has ended nothing resumes from it, so the
checkpoint goes, and with it the weights of a trial that did not complete: it has no rank, so it is never among the
best. Once the sweep is over, so do the weights of all but the best trials. Journal, metrics, logs and
configurations stay, and any trial can be trained again, to the same bits, by ``agr rerun``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from orchestrator import leaderboard
from orchestrator.outcome import Outcome
from orchestrator.state import SweepState
from orchestrator.storage import layout
from orchestrator.storage.base import ObjectInfo, Storage
from orchestrator.tracking.files import attempt_folder

_WEIGHTS = re.compile(r"(?P<attempt>.+/trials/(?P<trial>[^/]+)/attempt-\d+)/(?P<kind>checkpoints|best)/.+")
"""Below an attempt's folder; see ``orchestrator.storage.layout``."""


@dataclass(frozen=True)
class Usage:
    """What a sweep's trials hold in the storage, in bytes."""

    weights: int
    """Checkpoints, and the best weights of each trial."""
    others: int
    """Metrics, logs, configurations."""


def usage(storage: Storage, sweep_id: str) -> Usage:
    """What the trials of a sweep hold now; lists all of their objects."""
    sizes = [(_WEIGHTS.fullmatch(info.key) is not None, info.size) for info in storage.list(layout.trials(sweep_id))]
    return Usage(
        weights=sum(size for is_weights, size in sizes if is_weights),
        others=sum(size for is_weights, size in sizes if not is_weights),
    )


def not_needed(state: SweepState, objects: Iterable[ObjectInfo], *, keep: int | None, over: bool) -> list[ObjectInfo]:
    """The objects among ``objects`` that nothing needs any more.

    Args:
        state: The sweep.
        objects: What lies below its trials' folders.
        keep: Of how many of the best configurations the weights are needed once the sweep is over; None: of all, those
            that did not complete included.
        over: Whether no further trial comes.
    """
    sweep_id = state.started.sweep_id
    best = None if keep is None or not over else _best(state, keep)
    found = []
    for info in objects:
        match = _WEIGHTS.fullmatch(info.key)
        trial = None if match is None else state.trials.get(match["trial"])
        if match is None or trial is None or trial.ended is None or trial.ended.resumable:
            continue
        own = match["attempt"] == attempt_folder(sweep_id, trial)
        may_be_best = keep is None or (trial.outcome == "completed" and (best is None or trial.trial_id in best))
        needed = match["kind"] == "best" and own and may_be_best
        if not needed:
            found.append(info)
    return found


def _best(state: SweepState, keep: int) -> set[str]:
    """Trials of the ``keep`` best configurations: with all of their seeds, and the trial that others are fit to."""
    ranked = [row for row in leaderboard.rows([state]) if row.rank is not None]
    ranks = sorted({row.rank for row in ranked if row.rank is not None})[:keep]
    return {row.trial_id for row in ranked if row.rank in ranks}


def remove(storage: Storage, objects: Iterable[ObjectInfo]) -> int:
    """Remove them; returns how many bytes that freed."""
    freed = 0
    for info in objects:
        storage.delete(info.key)
        freed += info.size
    return freed


def tidy(storage: Storage, state: SweepState, *, keep: int | None, over: bool) -> int:
    """Remove what nothing needs any more of a sweep; returns how many bytes that freed."""
    objects = list(storage.list(layout.trials(state.started.sweep_id)))
    return remove(storage, not_needed(state, objects, keep=keep, over=over))


def release(storage: Storage, sweep_id: str, trial_id: str, outcome: Outcome, *, keep: int | None) -> int:
    """Remove the checkpoints of a trial that has just ended, and its weights if it cannot be among the best.

    Returns how many bytes that freed.
    """
    kinds = {"checkpoints"} if keep is None or outcome == "completed" else {"checkpoints", "best"}
    objects = storage.list(layout.trial(sweep_id, trial_id))
    matches = ((info, _WEIGHTS.fullmatch(info.key)) for info in objects)
    return remove(storage, [info for info, match in matches if match is not None and match["kind"] in kinds])
