"""Pareto fronts of several objectives: dominance, non-dominated sorting and crowding distance.

Points are vectors with one value per objective, all of one length; ``directions`` gives min or max for each. Only
``crowding`` depends on the scale of an objective.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from agr_core.objective import Direction

Point = Sequence[float]


def ordering(point: Point, directions: Sequence[Direction]) -> tuple[float, ...]:
    """Return the sort key of a point: the better first objective first, ties by the second, and so on."""
    return tuple(
        value if direction == "minimize" else -value for value, direction in zip(point, directions, strict=True)
    )


def _dominates(first: tuple[float, ...], second: tuple[float, ...]) -> bool:
    """Return whether ``first`` is nowhere worse than ``second`` and somewhere better, both as of ``ordering``."""
    return first != second and all(mine <= theirs for mine, theirs in zip(first, second, strict=True))


def fronts(points: Sequence[Point], directions: Sequence[Direction]) -> list[int]:
    """Return the front of each point, from 1: the non-dominated points, those that only the first front dominates, ...

    Efficient non-dominated sorting with binary search (Zhang et al. 2015): in the order of ``ordering`` no point is
    dominated by a later one, and a point dominated by a member of a front is dominated by one of every earlier front.
    """
    keys = [ordering(point, directions) for point in points]
    fronts_of_keys: list[list[tuple[float, ...]]] = []
    numbers = [0] * len(points)
    for index in sorted(range(len(points)), key=keys.__getitem__):
        low, high = 0, len(fronts_of_keys)
        while low < high:
            middle = (low + high) // 2
            # The last point of a front is the nearest one and dominates most often.
            if any(_dominates(other, keys[index]) for other in reversed(fronts_of_keys[middle])):
                low = middle + 1
            else:
                high = middle
        if low == len(fronts_of_keys):
            fronts_of_keys.append([])
        fronts_of_keys[low].append(keys[index])
        numbers[index] = low + 1
    return numbers


def crowding(points: Sequence[Point]) -> list[float]:
    """Return the crowding distance of each point of one front (Deb et al. 2002); it is infinite at the ends.

    Distances are summed over the objectives, each as a share of its range; an objective with equal values adds nothing.
    """
    distances = [0.0] * len(points)
    for objective in range(len(points[0]) if points else 0):
        order = sorted(range(len(points)), key=lambda index: points[index][objective])
        values = [points[index][objective] for index in order]
        width = values[-1] - values[0]
        if width == 0:
            continue
        distances[order[0]] = distances[order[-1]] = math.inf
        for position in range(1, len(order) - 1):
            distances[order[position]] += (values[position + 1] - values[position - 1]) / width
    return distances
