"""Figures on the effect of settings on objective values: importance and parallel coordinates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from agr_core.objective import Direction
from orchestrator.journal.sweep_state import SweepState, TrialState
from orchestrator.results.leaderboard import Row
from orchestrator.results.wording import varying
from orchestrator.search.importance import FEWEST, Judged, Tried, importance

_LINES = 300
_BRANCHES = 6
_AXES = 9
_LOG_FROM = 20.0


def varied(states: Sequence[SweepState]) -> list[str]:
    """Return the paths of the settings with more than one value."""
    trials = [trial.created for state in states for trial in state.trials.values()]
    seen: dict[str, set[str]] = {path: set() for path in varying(trials)}
    for trial in trials:
        for path, value in trial.params.items():
            seen[path].add(json.dumps(value, sort_keys=True))
    return [path for path, values in seen.items() if len(values) > 1]


def importances(states: Sequence[SweepState]) -> dict[str, Any]:
    """Compute the importance of settings over all trials, and within each choice on which other settings depend."""
    direction = states[0].started.objective.direction
    tried = [_tried(trial) for state in states for trial in state.trials.values() if trial.confirms is None]
    overall = importance(tried, direction)
    message = None
    if not overall.settings:
        message = f"{overall.trials} trials with a value; importance needs {FEWEST}, and settings that vary."
    return {
        "rows": _rows(overall),
        "trials": overall.trials,
        "predicted": overall.predicted,
        "branches": [] if message else _branches(tried, direction),
        "message": message,
    }


def _tried(trial: TrialState) -> Tried:
    params = {path: value for path, value in trial.created.params.items() if path != "seed"}
    return Tried(params, [(report.epoch, report.value) for report in trial.reports], trial.outcome)


def _rows(judged: Judged) -> list[dict[str, Any]]:
    return [
        {"path": setting.path, "share": setting.share, "low": setting.low, "high": setting.high}
        for setting in judged.settings[:_AXES]
    ]


def _branches(tried: Sequence[Tried], direction: Direction) -> list[dict[str, Any]]:
    """Compute the importance within each choice that determines whether another setting exists."""
    branches = []
    paths = list(dict.fromkeys(chain.from_iterable(trial.params for trial in tried)))
    everywhere = [path for path in paths if all(path in trial.params for trial in tried)]
    partial = [path for path in paths if path not in everywhere]
    for path in everywhere:
        by_choice: dict[str, list[Tried]] = {}
        for trial in tried:
            by_choice.setdefault(json.dumps(trial.params[path]), []).append(trial)
        if len(by_choice) > _BRANCHES or not any(_depends(other, by_choice) for other in partial):
            continue
        for choice, trials in by_choice.items():
            judged = importance(trials, direction)
            if judged.settings:
                branches.append(
                    {"branch": f"{path} = {json.loads(choice)}", "rows": _rows(judged), "trials": judged.trials}
                )
    return branches[:_BRANCHES]


def _depends(path: str, by_choice: Mapping[str, Sequence[Tried]]) -> bool:
    """Return whether a setting exists in all trials of some choices and in none of the others."""
    shares = [sum(path in trial.params for trial in trials) / len(trials) for trials in by_choice.values()]
    return set(shares) == {0.0, 1.0}


def parallel(states: Sequence[SweepState], ranked: Sequence[Row], order: Sequence[str]) -> dict[str, Any]:
    """Return axes and lines of parallel coordinates; ``order`` holds the paths of the axes, most important first.

    Each line is a trial with a value. If there are too many, half of the lines are the best trials, the others are
    chosen evenly.
    """
    with_value = [row for row in ranked if row.value is not None]
    half = _LINES // 2
    rest = with_value[half:]
    chosen = with_value if len(with_value) <= _LINES else with_value[:half] + rest[:: -(-len(rest) // half)]
    axes = []
    for path in order[:_AXES]:
        values = [row.params[path] for row in chosen if path in row.params]
        if not values:
            continue
        if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
            low, high = min(values), max(values)
            log = low > 0 and high / low >= _LOG_FROM
            axes.append({"path": path, "kind": "number", "low": low, "high": high, "log": log})
        else:
            axes.append({"path": path, "kind": "choice", "choices": sorted({_text(value) for value in values})})
    lines = [
        {
            "trial": row.trial_id,
            "number": row.number,
            "rank": row.rank,
            "outcome": row.outcome,
            "value": row.value,
            "settings": [_on_axis(axis, row.params) for axis in axes],
        }
        for row in chosen
    ]
    several = len(states) > 1
    return {"axes": axes, "lines": lines, "left_out": len(with_value) - len(chosen), "several": several}


def _on_axis(axis: Mapping[str, Any], params: Mapping[str, Any]) -> Any:
    if axis["path"] not in params:
        return None
    value = params[axis["path"]]
    return value if axis["kind"] == "number" else _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
