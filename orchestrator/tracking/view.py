"""The saved view: MLflow's run table with the leaderboard's columns, sorted by the objective.

MLflow keeps a shared view as a tag of the experiment, ``mlflow.sharedViewState.<key>``. Its JSON is not documented;
what is used here was read off MLflow 3.17 and is pinned by the browser test.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence

from agr_core.objective import Objective
from orchestrator.tracking.describe import EPOCHS, OUTCOME, RANK, SWEEP_ID, best_name

_MAX_PARAMS = 12
_KEY_METRICS = ("age_mae", "age_interval_mae", "age_cs5", "age_f1.utk7", "gender_acc", "race_acc")
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
) -> dict[str, str]:
    """The experiment tag that makes the view.

    Args:
        sweep_id: The sweep whose completed trials are shown.
        objective: What the rows are sorted by.
        started: When the sweep started, seconds since the epoch.
        metrics: Names of the validation metrics that its trials report to MLflow (``val/...``).
        params: Paths of what varies, in the order of their columns.
        variants: Whether the trials are of labelled variants.
    """
    sort_by = f"metrics.`{best_name(objective.metric)}`"
    reported = set(metrics)
    others = [best_name(f"val/{name}") for name in _KEY_METRICS if f"val/{name}" in reported]
    columns = [f"tags.`{RANK}`", *(["tags.`agr.variant`"] if variants else []), sort_by]
    columns += [f"params.`{path}`" for path in params[:_MAX_PARAMS]]
    columns += [f"metrics.`{name}`" for name in others if name != best_name(objective.metric)]
    columns += [f"tags.`{EPOCHS}`", f"tags.`{OUTCOME}`"]
    state = {
        "searchFilter": f"tags.`{SWEEP_ID}` = '{sweep_id}' AND tags.`{OUTCOME}` = 'completed'",
        "orderByKey": sort_by,
        "orderByAsc": objective.direction == "minimize",
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
        "columnWidths": {column: _width(column) for column in columns},
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
    """Pixels that show the column's title."""
    title = column.split("`")[1]
    return max(80, 8 * len(title) + 40)
