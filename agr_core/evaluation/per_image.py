"""Per-image contributions: values whose mean is the metric, for paired comparison of two models.

An error or a hit is used directly. Scores that are not means over images (macro precision, recall and F1) are
represented by jackknife pseudovalues, ``N * score - (N - 1) * score without the image`` (Quenouille 1956; Tukey 1958),
shifted so that their mean is the score itself. Radiology uses the same method for areas under the curve (Dorfman,
Berbaum and Metz 1992; Hillis, Berbaum and Metz 2008).
"""

from __future__ import annotations

import numpy as np

from agr_core.bins import SCHEMES, Bins, nearest_year
from agr_core.evaluation.predictions import Predictions
from agr_core.evaluation.scores import (
    FloatArray,
    IntArray,
    confusion_counts,
    macro_scores,
    range_distance,
)

_MACRO = ("precision", "recall", "f1")
_ERRORS = ("age_mae", "age_interval_mae")


def image_values(predictions: Predictions, figure: str) -> FloatArray | None:
    """Return each image's contribution to ``figure`` (N,), NaN for images that do not contribute.

    None for metrics that cannot be computed from predictions: losses, scores in the trial's own bins, of a group or
    class.

    Args:
        predictions: The predictions of a part.
        figure: Name of a metric of the part without its prefix, such as ``age_mae``, ``age_f1.utk7``, ``gender_acc``.
    """
    name, _, scheme = figure.partition(".")
    task, _, score = name.partition("_")
    if task == "age" and predictions.years:
        return _of_age(predictions, figure, score, scheme)
    if task in predictions.classes and not scheme:
        task_predictions = predictions.classes[task]
        return _of_classes(task_predictions.true, task_predictions.predicted, len(task_predictions.classes), score)
    return None


def _of_age(predictions: Predictions, figure: str, score: str, scheme: str) -> FloatArray | None:
    low, high, years = (predictions.years[name].astype(np.float64) for name in ("age_low", "age_high", "age_predicted"))
    errors = range_distance(years, low, high)
    if figure in _ERRORS:
        return errors
    if figure == "age_cs5":
        return np.where(np.isnan(errors), np.nan, (errors <= 5).astype(np.float64))
    if scheme not in SCHEMES:
        return None
    bins = Bins.from_spec(scheme)
    known = ~np.isnan(errors)
    true, predicted = np.full(len(errors), -1, dtype=np.int64), np.full(len(errors), -1, dtype=np.int64)
    true[known] = bins.index(low[known])
    predicted[known] = bins.index(nearest_year(years[known]))
    return _of_classes(true, predicted, bins.count, score)


def _of_classes(true: IntArray, predicted: IntArray, count: int, score: str) -> FloatArray | None:
    known = true >= 0
    values = np.full(len(true), np.nan)
    if score == "acc":
        values[known] = true[known] == predicted[known]
    elif score == "acc1off":
        values[known] = np.abs(true[known] - predicted[known]) <= 1
    elif score in _MACRO and known.sum() > 1:
        values[known] = _pseudovalues(true[known], predicted[known], count, score)
    else:
        return None
    return values


def _pseudovalues(true: IntArray, predicted: IntArray, count: int, score: str) -> FloatArray:
    """Return jackknife pseudovalues, computed once per cell of the confusion matrix, whose images share them."""
    confusion = confusion_counts(true, predicted, count)
    score_of_all, images = macro_scores(confusion)[score], len(true)
    of_cell = np.zeros(confusion.shape)
    for cell in zip(*np.nonzero(confusion), strict=True):
        without = confusion.copy()
        without[cell] -= 1
        of_cell[cell] = images * score_of_all - (images - 1) * macro_scores(without)[score]
    values = of_cell[true, predicted]
    return np.asarray(values + (score_of_all - values.mean()), dtype=np.float64)
