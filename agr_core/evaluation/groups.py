"""Metrics of groups of people in a part: by race, gender or age. N: images of the part, G: groups.

If groups cover all images, a metric that is a mean over images equals the groups' mean weighted by their number of
images. It therefore lies between the worst and the best group. Report S0's tables violate this (S0-R3, S0-R6): every
group is above the whole. ``impossible_groups`` finds such metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from agr_core.evaluation.scores import FloatArray, IntArray, confusion_counts, macro_scores
from agr_core.reporting import Metrics

OWN_F1 = "age_f1"
"""Macro-F1 in the trial's own age bins, which is not a mean over images."""

_ROUNDING = 1e-9


def group_figures(
    values: Mapping[str, FloatArray], by: str, index: IntArray, groups: Sequence[str]
) -> dict[str, float]:
    """Return the mean of each metric per group, the gap between groups, and the number of images per group.

    Args:
        values: By metric, its value for each image (N,), NaN where the image lacks the label.
        by: Name of the grouping, used in the metric names.
        index: Group of each image (N,), -1 where it is unknown.
        groups: Names of the groups (G,).

    Returns:
        ``<figure>.by_<by>.<group>`` of each group with a value; ``<figure>.gap_by_<by>``, the largest minus the
        smallest of them, if there are at least two; and ``images.by_<by>.<group>`` of each group with an image.
    """
    sizes = _sums(np.ones(len(index)), index, len(groups))
    figures = {f"images.by_{by}.{name}": float(size) for name, size in zip(groups, sizes, strict=True) if size}
    for figure, of_image in values.items():
        known = ~np.isnan(of_image)
        counts = _sums(known, index, len(groups))
        sums = _sums(np.where(known, of_image, 0.0), index, len(groups))
        means = {name: float(s / n) for name, s, n in zip(groups, sums, counts, strict=True) if n}
        figures |= {f"{figure}.by_{by}.{name}": mean for name, mean in means.items()}
        if len(means) > 1:
            figures[f"{figure}.gap_by_{by}"] = max(means.values()) - min(means.values())
    return figures


def group_f1(
    true: IntArray, predicted: IntArray, bins: int, *, by: str, index: IntArray, groups: Sequence[str]
) -> dict[str, float]:
    """Return macro-F1 in the trial's own age bins within each group, and its mean over groups (S4-V15, S4-V16).

    Macro-F1 is not a mean over images, so the score of all images may lie outside the range of the groups' scores.

    Args:
        true: True bin of each image (N,), -1 where the age is unknown.
        predicted: Predicted bin (N,).
        bins: Number of bins.
        by: Name of the grouping, used in the metric names.
        index: Group of each image (N,), -1 where it is unknown.
        groups: Names of the groups.

    Returns:
        ``age_f1.by_<by>.<group>`` of each group with an image of known age, and ``age_f1.mean_by_<by>``.
    """
    scores = {}
    for number, name in enumerate(groups):
        of_group = (index == number) & (true >= 0)
        if of_group.any():
            scores[name] = macro_scores(confusion_counts(true[of_group], predicted[of_group], bins))["f1"]
    if not scores:
        return {}
    named = {f"{OWN_F1}.by_{by}.{name}": score for name, score in scores.items()}
    return {**named, f"{OWN_F1}.mean_by_{by}": float(np.mean(list(scores.values())))}


def impossible_groups(metrics: Metrics) -> list[str]:
    """Return messages about metrics outside the range of their own groups although these cover all images.

    Args:
        metrics: Metrics of one part, without its prefix.
    """
    by_grouping: dict[tuple[str, str], dict[str, float]] = {}
    for name, value in metrics.items():
        figure, _, grouping = name.partition(".by_")
        by, _, group = grouping.partition(".")
        if group:
            by_grouping.setdefault((figure, by), {})[group] = value
    wrong = []
    for (figure, by), groups in by_grouping.items():
        images = by_grouping.get(("images", by), {})
        covered = sum(images.values()) == metrics.get("images")
        if figure in ("images", OWN_F1) or figure not in metrics or not covered:
            continue
        low, high = min(groups.values()), max(groups.values())
        if not low - _ROUNDING <= metrics[figure] <= high + _ROUNDING:
            wrong.append(
                f"{figure} is {metrics[figure]:.4g}, but its groups by {by} run from {low:.4g} to {high:.4g}: these "
                "are not figures of the same predictions."
            )
    return wrong


def _sums(values: FloatArray, index: IntArray, count: int) -> FloatArray:
    """Return the sum of the values of each group (G,)."""
    known = index >= 0
    return np.bincount(index[known], weights=values[known], minlength=count).astype(np.float64)
