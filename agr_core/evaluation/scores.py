"""Scores computed from plain arrays. N: images, K: classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


def confusion_counts(true: IntArray, predicted: IntArray, count: int) -> IntArray:
    """Return the confusion matrix (K, K) of counts, the true class in rows.

    Args:
        true: True classes 0..K-1 (N,).
        predicted: Predicted classes 0..K-1 (N,).
        count: Number of classes, K.
    """
    return np.bincount(true * count + predicted, minlength=count * count).astype(np.int64).reshape(count, count)


def accuracy(confusion: IntArray, *, off_by: int = 0) -> float:
    """Return the share of images at most ``off_by`` classes from the true one; 0: accuracy, 1: "1-off" accuracy."""
    near = sum(np.trace(confusion, offset=k) for k in range(-off_by, off_by + 1))
    return float(near / confusion.sum())


def class_scores(confusion: IntArray) -> dict[str, FloatArray]:
    """Return precision, recall and F1 of each class (K,); a quotient 0 / 0 counts as 0.

    Precision is the share of images predicted as the class that belong to it. Recall is the share of images of the
    class that are predicted as it. F1 is their harmonic mean.
    """
    right = np.diag(confusion).astype(np.float64)
    is_true, is_predicted = confusion.sum(axis=1), confusion.sum(axis=0)
    return {
        "precision": _ratio(right, is_predicted),
        "recall": _ratio(right, is_true),
        "f1": _ratio(2 * right, is_true + is_predicted),
    }


def class_report(table: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return precision, recall, F1 and number of images by class of a confusion matrix."""
    confusion = np.asarray(table["counts"], dtype=np.int64)
    scores = class_scores(confusion) | {"images": confusion.sum(axis=1).astype(np.float64)}
    return {
        str(label): {name: float(values[place]) for name, values in scores.items()}
        for place, label in enumerate(table["labels"])
    }


def macro_scores(confusion: IntArray) -> dict[str, float]:
    """Return precision, recall and F1, each averaged over the classes that occur as truth or prediction.

    A quotient 0 / 0 counts as 0, as with scikit-learn's ``zero_division=0``.
    """
    occurs = confusion.sum(axis=1) + confusion.sum(axis=0) > 0
    return {name: float(scores[occurs].mean()) for name, scores in class_scores(confusion).items()}


def range_distance(years: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """Return years from each estimate to the label's range (N,), 0 inside; for exact ages the absolute error."""
    return np.maximum(0.0, np.maximum(low - years, years - high))


def _ratio(part: FloatArray, whole: IntArray) -> FloatArray:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
