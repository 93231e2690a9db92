"""Figures of the best trial by demographic group, with intervals over the group's images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agr_core.bins import Bins
from agr_core.evaluation.per_image import image_values
from agr_core.evaluation.predictions import Predictions
from orchestrator.journal.sweep_state import TrialState
from orchestrator.stats.intervals import mean_interval

_FIGURES = ("age_mae", "age_interval_mae", "gender_acc", "race_acc")
_AGE_SCHEME = "utk7"
_RESAMPLES = 200
_LEVEL = (0.025, 0.975)
_Z = 1.959964
"""Half-width of a normal 95 % interval, in standard errors."""


def group_figures(trial: TrialState, predictions: Predictions | None) -> list[dict[str, Any]]:
    """Compute each figure by race, gender and age: mean, interval and image count of each group, and the gap.

    With stored predictions, intervals are over the images of a group; the gap has the percentile interval of a
    bootstrap over images with a fixed seed. Without predictions, the means are those reported by the trial, without
    intervals.
    """
    return _reported(trial) if predictions is None else _from_predictions(predictions)


def _from_predictions(predictions: Predictions) -> list[dict[str, Any]]:
    figures: list[dict[str, Any]] = []
    for by, (names, index) in _groupings(predictions).items():
        for figure in _FIGURES:
            if figure == f"{by}_acc" or figure == _needless(predictions):
                continue
            values = image_values(predictions, figure)
            has_both = None if values is None else ~np.isnan(values) & (index >= 0)
            if values is None or has_both is None or not has_both.any():
                continue
            figures.append(_figure(figure, by, names, values[has_both], index[has_both]))
    return [figure for figure in figures if len(figure["groups"]) > 1]


def _needless(predictions: Predictions) -> str:
    """Return the name of the redundant age error: the range error for exact ages, the plain error for ranges."""
    ranges = bool(predictions.years) and bool(np.any(predictions.years["age_low"] < predictions.years["age_high"]))
    return "age_mae" if ranges else "age_interval_mae"


def _groupings(predictions: Predictions) -> dict[str, tuple[tuple[str, ...], NDArray[np.int64]]]:
    """Return, by grouping, the group names and the group index of each image, shape (N,), -1 if unknown."""
    groupings = {
        task: (task_predictions.classes, task_predictions.true)
        for task, task_predictions in predictions.classes.items()
    }
    if predictions.years:
        bins = Bins.from_spec(_AGE_SCHEME)
        low = predictions.years["age_low"].astype(np.float64)
        index = np.full(len(low), -1, dtype=np.int64)
        index[~np.isnan(low)] = bins.index(low[~np.isnan(low)])
        groupings["age"] = (tuple(bins.labels), index)
    return groupings


def _figure(
    figure: str, by: str, names: tuple[str, ...], values: NDArray[np.float64], index: NDArray[np.int64]
) -> dict[str, Any]:
    groups: list[dict[str, Any]] = []
    for number, name in enumerate(names):
        of_group = values[index == number]
        if len(of_group):
            low, high = _interval(of_group)
            mean = float(of_group.mean())
            groups.append({"name": name, "mean": mean, "low": low, "high": high, "images": len(of_group)})
    means = [float(group["mean"]) for group in groups]
    lowest, highest = _gap_interval(values, index, len(names))
    return {
        "figure": figure,
        "by": by,
        "groups": groups,
        "gap": max(means) - min(means),
        "low": lowest,
        "high": highest,
    }


def _interval(values: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """Return the 95 % interval of a group's mean: Wilson's (1927) for binary values, Student's t for errors."""
    if not np.isin(values, (0.0, 1.0)).all():
        estimate = mean_interval(values.tolist())
        return estimate.low, estimate.high
    count, share = len(values), float(values.mean())
    middle = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    margin = _Z / (1 + _Z**2 / count) * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    return max(0.0, middle - margin), min(1.0, middle + margin)


def _gap_interval(values: NDArray[np.float64], index: NDArray[np.int64], groups: int) -> tuple[float, float]:
    """Return the percentile interval of the gap over bootstrap samples of the images."""
    generator = np.random.default_rng(0)
    gaps = []
    for _ in range(_RESAMPLES):
        sample = generator.integers(len(values), size=len(values))
        counts = np.bincount(index[sample], minlength=groups)
        sums = np.bincount(index[sample], weights=values[sample], minlength=groups)
        means = sums[counts > 0] / counts[counts > 0]
        gaps.append(means.max() - means.min())
    low, high = np.quantile(gaps, _LEVEL)
    return float(low), float(high)


def _reported(trial: TrialState) -> list[dict[str, Any]]:
    report = trial.best_report
    metrics: Mapping[str, float] = {} if report is None else report.metrics
    figures: list[dict[str, Any]] = []
    for name, gap in metrics.items():
        figure, mark, by = name.removeprefix("val/").partition(".gap_by_")
        if not mark or figure not in _FIGURES or not name.startswith("val/"):
            continue
        prefix = f"val/{figure}.by_{by}."
        groups = [
            {
                "name": group,
                "mean": value,
                "low": None,
                "high": None,
                "images": metrics.get(f"val/images.by_{by}.{group}"),
            }
            for metric, value in metrics.items()
            if metric.startswith(prefix) and (group := metric.removeprefix(prefix))
        ]
        figures.append({"figure": figure, "by": by, "groups": groups, "gap": gap, "low": None, "high": None})
    return [figure for figure in figures if len(figure["groups"]) > 1]
