"""Figures of a report as JSON, computed as a pure function of the sweeps' states.

The report, the live board and the images in MLflow draw this document and compute no figures themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from agr_core.evaluation.per_image import image_values
from orchestrator.journal.sweep_state import SweepState, TrialState
from orchestrator.report.evidence import Stored
from orchestrator.report.front import pareto_front
from orchestrator.report.groups import group_figures
from orchestrator.report.settings_figures import importances, parallel, varied
from orchestrator.report.timeline import errors, timeline
from orchestrator.results.leaderboard import Row
from orchestrator.results.trial_metrics import against_baseline
from orchestrator.results.wording import KEY_METRICS, rerun_command, short, trial_name
from orchestrator.spec.model import SchedulerSpec
from orchestrator.stats.intervals import mean_interval

BEST_CURVES = 10
_OTHER_CURVES = 300
_ROWS = 300
_COLUMNS = 8
_TASKS = ("age", "gender", "race")

_SCHEDULER: TypeAdapter[SchedulerSpec] = TypeAdapter(SchedulerSpec)

Key = tuple[str, str]
"""Sweep ID and trial ID."""


def first_two(rows: Sequence[Row]) -> list[Key]:
    """Return the representative trials of the best and the second-best configuration, as far as they exist."""
    by_rank: dict[int, Key] = {}
    for row in rows:
        if row.rank is not None and row.value is not None:
            by_rank.setdefault(row.rank, (row.sweep_id, row.trial_id))
    return [by_rank[rank] for rank in sorted(by_rank)[:2]]


def page_figures(
    states: Sequence[SweepState],
    rows: Sequence[Row],
    stored: Mapping[Key, Stored],
    *,
    storage_uri: str,
    now: float,
) -> dict[str, Any]:
    """Build the JSON document that the page draws.

    Args:
        states: The sweeps, at least one; several must be comparable (``leaderboard.check_comparable``).
        rows: Their leaderboard.
        stored: Stored results of ``first_two(rows)``.
        storage_uri: URI of the storage, for the commands shown.
        now: Current time, in seconds since the epoch.
    """
    trials = {(state.started.sweep_id, trial.trial_id): trial for state in states for trial in state.trials.values()}
    best = [key for key in first_two(rows) if key in trials]
    importance = importances(states)
    ordered = _by_importance(varied(states), importance)
    return {
        "title": ", ".join(state.started.sweep_id for state in states),
        "now": now,
        "running": any(state.ended is None for state in states),
        "objective": states[0].started.objective.formula,
        "direction": states[0].started.objective.direction,
        "sweeps": [_sweep(state, now) for state in states],
        "head": _head(states, rows, best, trials, stored),
        "curves": _curves(states, rows, trials),
        "front": pareto_front(states, rows, trials),
        "parallel": parallel(states, rows, ordered),
        "importance": importance,
        "survival": _survival(states),
        "groups": {
            "figures": group_figures(trials[best[0]], stored.get(best[0], Stored()).predictions) if best else [],
            "trial": best[0][1] if best else None,
        },
        "confusion": _confusion(best, trials, stored),
        "leaderboard": _leaderboard(
            rows,
            trials,
            ordered,
            storage_uri,
            objective=states[0].started.objective.name.removeprefix("val/"),
            several=len(states) > 1,
        ),
        "timeline": timeline(states, now),
        "errors": errors(states),
    }


def _by_importance(paths: Sequence[str], importance: Mapping[str, Any]) -> list[str]:
    position = {row["path"]: number for number, row in enumerate(importance["rows"])}
    return sorted(paths, key=lambda path: position.get(path, len(position)))


def _sweep(state: SweepState, now: float) -> dict[str, Any]:
    started = state.started
    counts = state.counts()
    planned = (started.document.get("search") or {}).get("trials")
    spent = state.ended.wall_s if state.ended is not None else now - started.time
    message = None
    if not state.trials:
        message = "No trial was created yet." if state.ended is None else "It ended before its first trial."
    elif not counts["completed"]:
        message = "No trial has completed yet, so none is ranked." if state.ended is None else "No trial completed."
    return {
        "sweep_id": started.sweep_id,
        "name": started.name,
        "description": started.description,
        "status": state.status,
        "reason": "" if state.ended is None else state.ended.reason,
        "objectives": [f"{objective.direction} {objective.formula}" for objective in started.objectives],
        "counts": {outcome: count for outcome, count in counts.items() if count},
        "training": sum(trial.running for trial in state.trials.values()),
        "waiting": sum(trial.ended is None and not trial.running for trial in state.trials.values()),
        "planned": planned,
        "started": started.time,
        "spent_s": spent,
        "budget": (started.document.get("budget") or {}).get("wall"),
        "test_reads": state.test_reads,
        "leaks": state.leaks,
        "message": message,
    }


def _head(
    states: Sequence[SweepState],
    rows: Sequence[Row],
    best: Sequence[Key],
    trials: Mapping[Key, TrialState],
    stored: Mapping[Key, Stored],
) -> dict[str, Any] | None:
    """Return value, interval and baseline of the best configuration; None before any is ranked."""
    if not best:
        return None
    sweep_id, trial_id = best[0]
    state = next(state for state in states if state.started.sweep_id == sweep_id)
    row = next(row for row in rows if (row.sweep_id, row.trial_id) == best[0])
    objective = state.started.objective
    name = objective.name.removeprefix("val/")
    value = row.value if row.mean is None else row.mean
    interval: dict[str, Any] = {"low": None, "high": None, "over": "one seed, no stored predictions: no interval"}
    if row.margin is not None and row.mean is not None:
        over = f"{row.seeds} seeds"
        interval = {"low": row.mean - row.margin, "high": row.mean + row.margin, "over": over}
    elif row.mean is None:
        interval = _image_interval(stored.get(best[0], Stored()), name) or interval
    return {
        "sweep_id": sweep_id,
        "trial_id": trial_id,
        "name": trial_name(trials[best[0]].created),
        "metric": name,
        "value": value,
        "interval": interval,
        "baseline": against_baseline(state).get(name, (None, None))[1],
        "figures": [
            {"name": metric, "best": ours, "baseline": base}
            for metric, (ours, base) in against_baseline(state).items()
            if metric != name
        ],
        "settings": {path: short(value) for path, value in row.params.items()},
    }


def _image_interval(stored: Stored, figure: str) -> dict[str, Any] | None:
    """Return the 95 % interval of a trial's figure over the validation images; None if they do not determine it."""
    values = None if stored.predictions is None else image_values(stored.predictions, figure)
    if values is None:
        return None
    defined = values[~np.isnan(values)]
    if len(defined) < 2:
        return None
    estimate = mean_interval(defined.tolist())
    return {"low": estimate.low, "high": estimate.high, "over": f"{len(defined):,} validation images, one seed"}


def _curves(states: Sequence[SweepState], rows: Sequence[Row], trials: Mapping[Key, TrialState]) -> dict[str, Any]:
    """Return curves of the objective by epoch: the best ten trials, and the others for the grey background."""
    state = states[0]
    keys = [(row.sweep_id, row.trial_id) for row in rows]
    best = [key for key, row in zip(keys, rows, strict=True) if row.rank is not None][:BEST_CURVES]
    chosen = set(best)
    others = [key for key in keys if key not in chosen and trials[key].reports]
    drawn = others[:: max(1, -(-len(others) // _OTHER_CURVES))]
    ranks = {key: row.rank for key, row in zip(keys, rows, strict=True)}

    def curve(key: Key) -> dict[str, Any]:
        trial = trials[key]
        return {
            "trial": trial.trial_id,
            "name": trial_name(trial.created),
            "rank": ranks[key],
            "outcome": trial.outcome,
            "points": [[report.epoch, report.value] for report in trial.reports],
        }

    baselines = [of_split.get(state.started.objective.name) for of_split in state.baselines.values()]
    return {
        "best": [curve(key) for key in best],
        "others": [curve(key) for key in drawn],
        "left_out": len(others) - len(drawn),
        "baseline": baselines[0] if len(baselines) == 1 else None,
    }


def _survival(states: Sequence[SweepState]) -> dict[str, Any]:
    """Return the number of trials that reached each epoch, and the scheduler's rungs."""
    last = [trial.reports[-1].epoch for state in states for trial in state.trials.values() if trial.reports]
    rungs: set[int] = set()
    for state in states:
        longest = max((int(trial.created.config["schedule"]["epochs"]) for trial in state.trials.values()), default=0)
        scheduler = _SCHEDULER.validate_python(state.started.document.get("scheduler", "none"))
        rungs.update(rung for bracket in scheduler.brackets(longest) for rung in bracket.rungs)
    reached = np.array(last, dtype=np.int64)
    epochs = range(1, max(last, default=0) + 1)
    return {
        "reached": [[epoch, int((reached >= epoch).sum())] for epoch in epochs],
        "rungs": sorted(rungs),
        "trials": len(last),
    }


def _confusion(
    best: Sequence[Key], trials: Mapping[Key, TrialState], stored: Mapping[Key, Stored]
) -> list[dict[str, Any]]:
    """Return the confusion matrices of the best trial, each with that of the second-best."""
    matrices_by_task = []
    matrices = [stored.get(key, Stored()).tables for key in best]
    for task in _TASKS:
        name = f"val/{task}_confusion"
        sides = [
            {"trial": key[1], "name": trial_name(trials[key].created), **tables[name]}
            for key, tables in zip(best, matrices, strict=True)
            if name in tables
        ]
        if sides:
            matrices_by_task.append({"task": task, "sides": sides})
    return matrices_by_task


def _leaderboard(
    rows: Sequence[Row],
    trials: Mapping[Key, TrialState],
    ordered: Sequence[str],
    storage_uri: str,
    *,
    objective: str,
    several: bool,
) -> dict[str, Any]:
    metrics = [name for name in KEY_METRICS if name != objective and any(f"best/{name}" in row.metrics for row in rows)]
    shown = rows[:_ROWS]
    return {
        "several": several,
        "seeds": any(row.mean is not None for row in shown),
        "params": list(ordered[:_COLUMNS]),
        "metrics": metrics[:4],
        "rows": [
            {
                "rank": row.rank,
                "sweep": row.sweep_id,
                "trial": row.trial_id,
                "name": trial_name(trials[row.sweep_id, row.trial_id].created),
                "outcome": row.outcome or ("running" if trials[row.sweep_id, row.trial_id].running else "waiting"),
                "value": row.value,
                "mean": row.mean,
                "margin": row.margin,
                "epochs": row.epochs,
                "params": [short(row.params[path]) if path in row.params else "" for path in ordered[:_COLUMNS]],
                "metrics": [row.metrics.get(f"best/{name}") for name in metrics[:4]],
                "rerun": rerun_command(row.sweep_id, row.trial_id, storage_uri),
            }
            for row in shown
        ],
        "left_out": len(rows) - len(shown),
    }
