"""Figures of each group of people in a part: by race, by gender, by age. N: images of the part, G: groups.

A figure that is a mean over images is, over groups that cover all images, their mean weighted by the number of images;
so it lies between the worst and the best group. Report S0's tables do not (S0-R3, S0-R6): every group is above the
whole. ``impossible_groups`` finds such figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from agr_core.evaluation.scores import FloatArray, IntArray
from agr_core.reporting import Metrics

_ROUNDING = 1e-9


def group_figures(
    values: Mapping[str, FloatArray], by: str, index: IntArray, groups: Sequence[str]
) -> dict[str, float]:
    """The mean of each figure in each group, the gap between the groups, and the images of each group.

    Args:
        values: By figure, its value for each image (N,), NaN where the image has no label of it.
        by: What the images are grouped by, for the names.
        index: Group of each image (N,), -1 where it is not known.
        groups: Names of the groups (G,).

    Returns:
        ``<figure>.by_<by>.<group>`` of each group with an image that counts, ``<figure>.gap_by_<by>``, the largest
        minus the smallest of them, where there are two, and ``images.by_<by>.<group>`` of each group with an image.
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


def impossible_groups(metrics: Metrics) -> list[str]:
    """Figures that do not lie between their own groups although these cover all images, each in words; without any, [].

    Args:
        metrics: The figures of one part, without its prefix.
    """
    found: dict[tuple[str, str], dict[str, float]] = {}
    for name, value in metrics.items():
        figure, _, grouping = name.partition(".by_")
        by, _, group = grouping.partition(".")
        if group:
            found.setdefault((figure, by), {})[group] = value
    wrong = []
    for (figure, by), groups in found.items():
        images = found.get(("images", by), {})
        covered = sum(images.values()) == metrics.get("images")
        if figure == "images" or figure not in metrics or not covered:
            continue
        low, high = min(groups.values()), max(groups.values())
        if not low - _ROUNDING <= metrics[figure] <= high + _ROUNDING:
            wrong.append(
                f"{figure} is {metrics[figure]:.4g}, but its groups by {by} run from {low:.4g} to {high:.4g}: these "
                "are not figures of the same predictions."
            )
    return wrong


def _sums(values: FloatArray, index: IntArray, count: int) -> FloatArray:
    """Sum of the values of each group (G,)."""
    known = index >= 0
    return np.bincount(index[known], weights=values[known], minlength=count).astype(np.float64)
