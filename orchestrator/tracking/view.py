"""The saved views: MLflow's run table with the leaderboard's columns, and with the gaps between groups of people.

MLflow keeps a shared view as a tag of the experiment, ``mlflow.sharedViewState.<key>``. Its JSON is undocumented; this
form was taken from MLflow 3.17 and is pinned by the browser test.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agr_core.objective import Objective
from orchestrator.results.wording import KEY_METRICS
from orchestrator.tracking.describe import (
    EPOCHS,
    FRONT,
    KIND,
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
    """Return the key of a sweep's view, which is part of its link."""
    return hashlib.sha256(sweep_id.encode()).hexdigest()[:16]


def saved_views(
    sweep_id: str,
    objective: Objective,
    *,
    started: float,
    metrics: Iterable[str],
    params: Sequence[str],
    variants: bool,
    gaps: Iterable[str] = (),
    means: bool = False,
    further: Sequence[str] = (),
    ranked: bool = False,
) -> dict[str, str]:
    """Return the experiment tags of a sweep's views: its leaderboard and, if gaps are known, its groups.

    Args:
        sweep_id: The sweep whose trials are shown, whatever their outcome.
        objective: What the rows are sorted by until ranks are known.
        started: When the sweep started, seconds since the epoch.
        metrics: Names of the validation metrics that its trials report to MLflow (``val/...``).
        params: Paths of what varies, in the order of their columns.
        variants: Whether the trials are of labelled variants.
        gaps: Names of the gaps between groups of people (``val/...``), in the order of their columns.
        means: Show the mean over the configuration's seeds, and sort by it; known at the end.
        further: Names of the objectives after the first.
        ranked: Sort by the rank, which only completed trials have; known at the end.
    """
    value = f"metrics.`{best_name(objective.name)}`"
    sort_by = f"metrics.`{mean_name(objective.name)}`" if means else value
    values = [value, *(f"metrics.`{best_name(name)}`" for name in further)]
    reported = set(metrics)
    others = [best_name(f"val/{name}") for name in KEY_METRICS if f"val/{name}" in reported]
    rank = f"metrics.`{RANK_METRIC}`" if ranked else f"tags.`{RANK}`"
    head = [rank, *([f"tags.`{FRONT}`"] if further else []), *(["tags.`agr.variant`"] if variants else [])]
    settings = [f"params.`{path}`" for path in params[:_MAX_PARAMS]]
    charts = _charts([objective.name, *further], reported)
    figures = [*dict.fromkeys([sort_by, *values])]
    figures += [column for name in others if (column := f"metrics.`{name}`") not in values]
    ends = [f"tags.`{EPOCHS}`", f"tags.`{OUTCOME}`"]
    order = (rank, True) if ranked else (sort_by, objective.direction == "minimize")
    common: Any = {"order": order, "started": started, "charts": charts}
    columns = [*head, *settings, *figures, *ends]
    views = _view(view_key(sweep_id), f"Leaderboard {sweep_id}", sweep_id, columns, **common)
    of_groups = [f"metrics.`{best_name(name)}`" for name in gaps if best_name(name) not in others]
    if of_groups:
        columns = [*head, *dict.fromkeys([sort_by, *values]), *of_groups, *settings, *ends]
        views |= _view(view_key(f"{sweep_id}/groups"), f"Groups {sweep_id}", sweep_id, columns, **common)
    return views


def _charts(objectives: Sequence[str], reported: Iterable[str]) -> dict[str, Any]:
    """Return the part of a view's state that draws validation curves first, those of the objectives before others.

    MLflow adds a section for each further prefix that it finds, such as ``mean/``, after these. By itself it sorts
    the sections by name, so that the bars of ``best/...``, which the table has as columns, come first.
    """
    curves = [name for name in (*objectives, *sorted(reported)) if name.startswith("val/")]
    sections = [("val", True), ("train", True), ("best", False)]
    return {
        "compareRunSections": [
            {"uuid": f"agr-{name}", "name": name, "display": shown, "isReordered": True, "isGenerated": True}
            for name, shown in sections
        ],
        "compareRunCharts": [_curve(name, "agr-val") for name in dict.fromkeys(curves)],
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
    }


def _curve(metric: str, section: str) -> dict[str, Any]:
    """Return MLflow's line chart of a metric over the epochs, as its page would generate it."""
    return {
        "type": "LINE",
        "uuid": f"agr-{metric}",
        "metricSectionId": section,
        "metricKey": metric,
        "displayName": metric.partition("/")[2],
        "isGenerated": True,
        "deleted": False,
        "runsCountToCompare": 10,
        "lineSmoothness": 0,
        "xAxisKey": "step",
        "xAxisScaleType": "linear",
        "selectedXAxisMetricKey": "",
        "scaleType": "linear",
        "range": {},
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": True,
        "useGlobalLineSmoothing": True,
    }


def _view(
    key: str,
    name: str,
    sweep_id: str,
    columns: Sequence[str],
    *,
    order: tuple[str, bool],
    started: float,
    charts: Mapping[str, Any],
) -> dict[str, str]:
    """Return the experiment tag of a view; ``order``: the column that sorts the rows, and whether ascending."""
    widths = {_RUN_NAME: _RUN_NAME_WIDTH, **{column: _width(column) for column in columns}}
    state = {
        "searchFilter": f"tags.`{SWEEP_ID}` = '{sweep_id}' AND tags.`{KIND}` = 'trial'",
        "orderByKey": order[0],
        "orderByAsc": order[1],
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "columnOrder": list(widths),
        "columnWidths": widths,
        "runsHiddenMode": "FIRST_20_RUNS",
        "viewMaximized": False,
        "runListHidden": False,
        "groupBy": None,
        "autoRefreshEnabled": True,
        **charts,
    }
    moment = round(started * 1000)
    view = {"name": name, "createdAt": moment, "updatedAt": moment, "state": json.dumps(state, ensure_ascii=False)}
    return {_TAG + key: json.dumps(view, ensure_ascii=False)}


def view_link(uri: str, experiment_id: str, sweep_id: str) -> str:
    """Return the browser's link to the view; ``uri`` is the server's address. Without ``/runs`` no table opens."""
    key = view_key(sweep_id)
    return f"{uri.rstrip('/')}/#/experiments/{experiment_id}/runs?workflowType=machine_learning&viewStateShareKey={key}"


def _width(column: str) -> int:
    """Return the pixels for the column's title, its arrow, and a number."""
    title = column.split("`")[1]
    return max(90, 7 * len(title) + 45)
