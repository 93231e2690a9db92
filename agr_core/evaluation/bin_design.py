"""Age bins derived from a model's confusions (report S4, S4-Z7): ages confused with each other share a bin.

The confusion matrix of narrow bins is cut along its diagonal into square blocks, one per new bin; counts inside a block
are correct in the new bins. Accuracy over all images would be highest with nearly all images in one bin. Therefore, by
default, each new bin has equal weight, and a minimum size keeps every bin trainable.

N: narrow bins; K: new bins.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from agr_core.bins import MAX_AGE, Bins, nearest_year
from agr_core.errors import InputError
from agr_core.evaluation.scores import FloatArray, IntArray, confusion_counts

Weigh = Literal["bins", "ages", "images"]
"""Unit of equal weight: every new bin (macro recall), every narrow bin with an image, or every image (accuracy)."""


@dataclass(frozen=True)
class Suggestion:
    """New bins and the recall of each; ``score`` is the mean by ``weigh``."""

    bins: Bins
    score: float
    shares: tuple[float | None, ...]
    images: tuple[int, ...]


def even_bins(width: int) -> Bins:
    """Return bins of ``width`` years, from 0 on."""
    return Bins(tuple(range(0, MAX_AGE + 1, width)))


def narrow_confusion(true: FloatArray, predicted: FloatArray, *, bins: Bins) -> tuple[Bins, IntArray]:
    """Return the confusion of ages in narrow bins, (N, N) with the true bin in rows.

    Args:
        true: True ages, years, 0 or more (n,).
        predicted: Predicted ages, years (n,), rounded to the nearest whole year.
        bins: The narrow bins.
    """
    return bins, confusion_counts(bins.index(true), bins.index(nearest_year(predicted)), bins.count)


def suggest_bins(narrow: Bins, confusion: IntArray, count: int, *, weigh: Weigh, min_share: float = 0.0) -> Suggestion:
    """Return the ``count`` contiguous groups of narrow bins with the highest score; ties: lower edges first.

    Dynamic programming over the last edge: the best k bins of the first j narrow bins are the best k - 1 of the first
    i, and one from i to j.

    Args:
        narrow: The narrow bins.
        confusion: Their confusion (N, N), the true bin in rows.
        count: Number of new bins, K, at least 2.
        weigh: Unit of equal weight.
        min_share: Smallest share of the images in a new bin; every bin has at least one image.

    Raises:
        InputError: If no such bins exist.
    """
    gain = _block_scores(confusion, weigh)
    images = _block_images(confusion)
    gain[images < max(1.0, min_share * confusion.sum())] = -np.inf
    size = narrow.count
    best = np.full((count + 1, size + 1), -np.inf)
    cut = np.zeros((count + 1, size + 1), dtype=np.int64)
    best[0, 0] = 0.0
    for k in range(1, count + 1):
        for stop in range(k, size + 1):
            candidates = best[k - 1, :stop] + gain[:stop, stop]
            cut[k, stop] = int(candidates.argmax())  # ties: the first
            best[k, stop] = candidates[cut[k, stop]]
    if count < 2 or not np.isfinite(best[count, size]):
        raise InputError(
            f"{count} bins, each with {min_share:.1%} of the {confusion.sum()} images and at least one, cannot be made "
            "of these ages; ask for at least 2, for fewer, or for a smaller share."
        )
    starts = [size]
    for k in range(count, 0, -1):
        starts.append(int(cut[k, starts[-1]]))
    edges = tuple(narrow.edges[start] for start in reversed(starts[1:]))
    return score_bins(Bins(edges), narrow, confusion, weigh=weigh)


def score_bins(bins: Bins, narrow: Bins, confusion: IntArray, *, weigh: Weigh) -> Suggestion:
    """Return the score of given bins, whose edges are edges of the narrow bins.

    Raises:
        InputError: If an edge is not an edge of the narrow bins.
    """
    missing = sorted(set(bins.edges) - set(narrow.edges))
    if missing:
        raise InputError(
            f"the edge at {missing[0]} is not an edge of the narrow bins; their confusion does not determine it."
        )
    starts = [narrow.edges.index(edge) for edge in bins.edges]
    blocks = list(zip(starts, [*starts[1:], narrow.count], strict=True))
    gain = _block_scores(confusion, weigh)
    images = [int(confusion[start:stop].sum()) for start, stop in blocks]
    inside = [int(confusion[start:stop, start:stop].sum()) for start, stop in blocks]
    return Suggestion(
        bins=bins,
        score=float(sum(gain[start, stop] for start, stop in blocks) / _whole(confusion, bins.count, weigh)),
        shares=tuple(right / n if n else None for right, n in zip(inside, images, strict=True)),
        images=tuple(images),
    )


def _block_scores(confusion: IntArray, weigh: Weigh) -> FloatArray:
    """Return the score of a block of narrow bins i..j - 1, at [i, j] (N + 1, N + 1)."""
    counts = confusion.astype(np.float64)
    rows = counts.sum(axis=1)
    if weigh == "ages":
        counts = np.divide(counts, rows[:, np.newaxis], out=np.zeros_like(counts), where=rows[:, np.newaxis] > 0)
    # Two-dimensional prefix sums: the sum of a block takes four look-ups.
    corner = np.zeros((len(rows) + 1, len(rows) + 1))
    corner[1:, 1:] = counts.cumsum(axis=0).cumsum(axis=1)
    diagonal = np.diag(corner)
    inside = diagonal[np.newaxis, :] - corner - corner.T + diagonal[:, np.newaxis]
    if weigh == "bins":
        images = _block_images(confusion)
        inside = np.divide(inside, images, out=np.zeros_like(inside), where=images > 0)
    return np.asarray(inside, dtype=np.float64)


def _block_images(confusion: IntArray) -> FloatArray:
    """Return the number of images with true narrow bin i..j - 1, at [i, j] (N + 1, N + 1)."""
    below = np.concatenate([[0], confusion.sum(axis=1).cumsum()]).astype(np.float64)
    return np.asarray(below[np.newaxis, :] - below[:, np.newaxis], dtype=np.float64)


def _whole(confusion: IntArray, count: int, weigh: Weigh) -> float:
    """Return the score sum of a perfect model."""
    match weigh:
        case "bins":
            return float(count)
        case "ages":
            return float((confusion.sum(axis=1) > 0).sum())
        case "images":
            return float(confusion.sum())
