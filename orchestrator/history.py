"""What earlier sweeps found, for a search to begin with: ``search.history``.

Their trials are not trained again. They become part of this sweep's journal, so that a resumed search knows the same
although the earlier sweep may be gone by then.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from agr_core.errors import InputError
from orchestrator.journal import read_state
from orchestrator.lookup import find_sweep
from orchestrator.records import HistoryTaken, KnownTrial
from orchestrator.spec.load import Sweep
from orchestrator.spec.space import Space
from orchestrator.spec.start import Point, config_at, point_of_trial
from orchestrator.state import SweepState, TrialState
from orchestrator.storage.base import Storage
from orchestrator.tracking.describe import flat

_NO_MATTER = ("seed", "compute.threads", "compute.device")
"""Fields that may differ without a word: they make other bits, and not another training."""


def read_history(sweep: Sweep, storage: Storage, *, split_digest: str) -> list[HistoryTaken]:
    """The trials of the sweeps that ``search.history`` names, as points of this sweep's space.

    Args:
        sweep: The sweep that is about to start.
        storage: Where the earlier ones are.
        split_digest: The split on which this sweep's trials are validated.

    Raises:
        NotFoundError: If there is no such sweep.
        InputError: If its figures say nothing of this sweep: other objectives, another split, another space.
    """
    search = sweep.spec.search
    if search is None or not search.history:
        return []
    found = dict.fromkeys(find_sweep(storage, text) for text in search.history)
    return [_taken(sweep, read_state(storage, sweep_id), split_digest) for sweep_id in found]


def _taken(sweep: Sweep, state: SweepState, split_digest: str) -> HistoryTaken:
    sweep_id = state.started.sweep_id
    ours, theirs = sweep.spec.objectives, state.started.objectives
    if ours != theirs:
        shown = [", ".join(f"{each.direction} {each.formula}" for each in side) for side in (theirs, ours)]
        raise InputError(
            f"search.history: sweep {sweep_id} was to {shown[0]}, and this one is to {shown[1]}; figures of other "
            "objectives teach nothing. Take it out, or name its best trials in search.start."
        )
    if state.splits != (split_digest,):
        used = ", ".join(split[:8] for split in state.splits) or "none"
        raise InputError(
            f"search.history: the trials of sweep {sweep_id} were validated on another split ({used}) than its own "
            f"({split_digest[:8]}); figures of other images do not compare. Take it out, or name its best trials in "
            "search.start."
        )
    trials, outside, differing = [], 0, dict[str, None]()
    for trial in state.trials.values():
        if not trial.created.proposed or trial.outcome not in ("completed", "pruned", "diverged"):
            continue
        point = _point(sweep.space, trial, differing)
        if point is None:
            outside += 1
        else:
            trials.append(_known(trial, point))
    if not trials:
        raise InputError(
            f"search.history: sweep {sweep_id} has no completed, pruned or diverged trial in this space ({outside} lie "
            "outside it). Take it out, or widen the space."
        )
    return HistoryTaken(
        time=time.time(), sweep_id=sweep_id, trials=tuple(trials), outside=outside, differing=tuple(differing)
    )


def _point(space: Space, trial: TrialState, differing: dict[str, None]) -> Point | None:
    """The point of the space that the trial trained, None without one; ``differing``: fixed fields that differ."""
    created = trial.created
    try:
        point = point_of_trial(space, created.config, created.variant)
        config = config_at(space, point)
    except InputError:
        return None
    here, there = dict(flat(config)), dict(flat(created.config))
    others = [path for path in {**here, **there} if here.get(path) != there.get(path) and path not in _NO_MATTER]
    varied = [".".join(path) for path in space.varied_paths()]
    if any(path == each or path.startswith(f"{each}.") for path in others for each in varied):
        return None
    differing |= dict.fromkeys(others)
    return point


def _known(trial: TrialState, point: Mapping[str, Any]) -> KnownTrial:
    ended = trial.ended
    assert ended is not None, "only trials that ended are taken"
    return KnownTrial(
        trial_id=trial.trial_id,
        point=dict(point),
        outcome=ended.outcome,
        values=ended.point,
        epochs=tuple((report.epoch, report.value) for report in trial.reports),
    )
