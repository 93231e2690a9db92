"""Figures of a sweep with several objectives: its trials in the plane of two of them, and the Pareto front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.journal.sweep_state import SweepState, TrialState
from orchestrator.results.leaderboard import Row
from orchestrator.results.wording import trial_name

_POINTS = 300


def pareto_front(
    states: Sequence[SweepState], rows: Sequence[Row], trials: Mapping[tuple[str, str], TrialState]
) -> dict[str, Any]:
    """Return the objectives and the ranked trials with their values; both are empty with one objective.

    ``front`` of a point counts from 1, the trials that no other one dominates. The first ``_POINTS`` of the
    leaderboard are returned, which begins with the first front.
    """
    objectives = states[0].started.objectives
    if len(objectives) < 2:
        return {"objectives": [], "points": [], "left_out": 0}
    placed = [row for row in rows if row.front is not None and row.point and (row.sweep_id, row.trial_id) in trials]
    return {
        "objectives": [{"name": objective.name, "direction": objective.direction} for objective in objectives],
        "points": [
            {
                "trial": row.trial_id,
                "name": trial_name(trials[row.sweep_id, row.trial_id].created),
                "front": row.front,
                "values": list(row.point),
            }
            for row in placed[:_POINTS]
        ],
        "left_out": max(0, len(placed) - _POINTS),
    }
