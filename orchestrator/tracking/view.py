"""The saved view: MLflow's run table with the leaderboard's columns, sorted by the objective.

MLflow keeps a shared view as a tag of the experiment, ``mlflow.sharedViewState.<key>``. Its JSON is not documented;
what is used here was read off MLflow 3.17 and is pinned by the browser test.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

from agr_core.objective import Objective
from orchestrator.tracking.describe import (
    EPOCHS,
    FRONT,
    KEY_METRICS,
    OUTCOME,
    RANK,
    RANK_METRIC,
    SWEEP_ID,
    best_name,
    mean_name,
)

_MAX_PARAMS = 12
_RUN_NAME = "attributes.`Run Name`"  # always shown, and too narrow for our names unless it has a width
_RUN_NAME_WIDTH = 330
_TAG = "mlflow.sharedViewState."


def view_key(sweep_id: str) -> str:
    """The key of a sweep's view, which its link carries."""
    return hashlib.sha256(sweep_id.encode()).hexdigest()[:16]


def leaderboard_view(
    sweep_id: str,
    objective: Objective,
    *,
    started: float,
    metrics: Iterable[str],
    params: Sequence[str],
    variants: bool,
    means: bool = False,
    further: Sequence[str] = (),
    ranked: bool = False,
) -> dict[str, str]:
    """The experiment tag that makes the view.

    Args:
        sweep_id: The sweep whose completed trials are shown.
        objective: What the rows are sorted by.
        started: When the sweep started, seconds since the epoch.
        metrics: Names of the validation metrics that its trials report to MLflow (``val/...``).
        params: Paths of what varies, in the order of their columns.
        variants: Whether the trials are of labelled variants.
        means: Sort by the mean over the configuration's seeds, as the ranks under ``repeat`` are; known at the end.
        further: Names of the objectives after the first.
        ranked: Sort by the rank, which tells the front of several objectives; known at the end.
    """
    value = f"metrics.`{best_name(objective.name)}`"
    sort_by = f"metrics.`{mean_name(objective.name)}`" if means else value
    values = [value, *(f"metrics.`{best_name(name)}`" for name in further)]
    fronts = [f"tags.`{FRONT}`"] if further else []
    reported = set(metrics)
    others = [best_name(f"val/{name}") for name in KEY_METRICS if f"val/{name}" in reported]
    rank = f"metrics.`{RANK_METRIC}`" if ranked else f"tags.`{RANK}`"
    columns = [*fronts, rank, *(["tags.`agr.variant`"] if variants else [])]
    columns += dict.fromkeys([sort_by, *values])
    columns += [column for name in others if (column := f"metrics.`{name}`") not in values]
    columns += [f"params.`{path}`" for path in params[:_MAX_PARAMS]]
    columns += [f"tags.`{EPOCHS}`", f"tags.`{OUTCOME}`"]
    widths = {_RUN_NAME: _RUN_NAME_WIDTH, **{column: _width(column) for column in columns}}
    state = {
        "searchFilter": f"tags.`{SWEEP_ID}` = '{sweep_id}' AND tags.`{OUTCOME}` = 'completed'",
        "orderByKey": rank if ranked else sort_by,
        "orderByAsc": ranked or objective.direction == "minimize",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": list(widths),
        "columnWidths": widths,
        "runsHiddenMode": "FIRST_20_RUNS",
        "viewMaximized": False,
        "runListHidden": False,
        "groupBy": None,
        "autoRefreshEnabled": True,
    }
    moment = round(started * 1000)
    view = {
        "name": f"Leaderboard {sweep_id}",
        "createdAt": moment,
        "updatedAt": moment,
        "state": json.dumps(state, ensure_ascii=False),
    }
    return {_TAG + view_key(sweep_id): json.dumps(view, ensure_ascii=False)}


def view_link(uri: str, experiment_id: str, sweep_id: str) -> str:
    """Where a browser opens the view: ``uri`` is the server's address. Without ``/runs`` the table does not open."""
    key = view_key(sweep_id)
    return f"{uri.rstrip('/')}/#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={key}"


def _width(column: str) -> int:
    """Pixels that show the column's title, its arrow, and a figure."""
    title = column.split("`")[1]
    return max(90, 7 * len(title) + 45)
