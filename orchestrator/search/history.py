"""Import trials of earlier sweeps into a search: ``search.history``.

The trials are not trained again. They are recorded in this sweep's journal, so that a resumed search has the same
history even if the earlier sweep is deleted by then.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from agr_core.errors import InputError
from orchestrator.catalog.find import find_sweep
from orchestrator.journal.events import HistoryTaken, KnownTrial
from orchestrator.journal.segments import read_state
from orchestrator.journal.sweep_state import SweepState, TrialState
from orchestrator.results.wording import flat
from orchestrator.spec.load import Sweep
from orchestrator.spec.space import Space
from orchestrator.spec.start import Point, config_at, point_of_trial
from orchestrator.storage.base import Storage

_NO_MATTER = ("seed", "compute.threads", "compute.device")
"""Fields that may differ without a warning: they change bits, not the training."""


def read_history(sweep: Sweep, storage: Storage, *, split_digest: str) -> list[HistoryTaken]:
    """Return the trials of the sweeps that ``search.history`` names, as points of this sweep's space.

    Args:
        sweep: The sweep that is about to start.
        storage: Storage of the earlier sweeps.
        split_digest: The split on which this sweep's trials are validated.

    Raises:
        NotFoundError: If there is no such sweep.
        InputError: If its values do not apply to this sweep: other objectives, another split, another space.
    """
    search = sweep.spec.search
    if search is None or not search.history:
        return []
    sweep_ids = dict.fromkeys(find_sweep(storage, text) for text in search.history)
    return [_taken(sweep, read_state(storage, sweep_id), split_digest) for sweep_id in sweep_ids]


def _taken(sweep: Sweep, state: SweepState, split_digest: str) -> HistoryTaken:
    sweep_id = state.started.sweep_id
    ours, theirs = sweep.spec.objectives, state.started.objectives
    if ours != theirs:
        shown = [
            ", ".join(f"{objective.direction} {objective.formula}" for objective in side) for side in (theirs, ours)
        ]
        raise InputError(
            f"search.history: the objectives of sweep {sweep_id} are {shown[0]}, those of this one {shown[1]}; values "
            "of other objectives cannot be used. Remove it, or name its best trials in search.start."
        )
    if state.splits != (split_digest,):
        used = ", ".join(split[:8] for split in state.splits) or "none"
        raise InputError(
            f"search.history: the trials of sweep {sweep_id} were validated on another split ({used}) than its own "
            f"({split_digest[:8]}); metrics on other images are not comparable. Remove it, or name its best trials in "
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
            f"search.history: sweep {sweep_id} has no completed, pruned or diverged trial in this space ({outside} are "
            "outside). Remove it, or widen the space."
        )
    return HistoryTaken(
        time=time.time(), sweep_id=sweep_id, trials=tuple(trials), outside=outside, differing=tuple(differing)
    )


def _point(space: Space, trial: TrialState, differing: dict[str, None]) -> Point | None:
    """Return a trial's point in the space, None if it is outside; ``differing`` collects fixed fields that differ."""
    created = trial.created
    try:
        point = point_of_trial(space, created.config, created.variant)
        config = config_at(space, point)
    except InputError:
        return None
    here, there = dict(flat(config)), dict(flat(created.config))
    others = [path for path in {**here, **there} if here.get(path) != there.get(path) and path not in _NO_MATTER]
    varied = [".".join(path) for path in space.varied_paths()]
    if any(path == varied_path or path.startswith(f"{varied_path}.") for path in others for varied_path in varied):
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
