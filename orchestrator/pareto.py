"""Several objectives at once: who dominates whom, in which front a point lies, and how alone it is there.

Points are vectors of values, one for each objective, all of one length; ``directions`` says of each whether less or
more is better. Nothing here depends on the scale of an objective, but for ``crowding``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from agr_core.objective import Direction

Point = Sequence[float]


def plain(point: Point) -> float | list[float]:
    """A point as our JSON documents have it: the figure of one objective, or a list of several."""
    return point[0] if len(point) == 1 else list(point)


def point_of(document: float | Sequence[float]) -> tuple[float, ...]:
    """The point that ``plain`` wrote."""
    return tuple(document) if isinstance(document, Sequence) else (document,)


def ordering(point: Point, directions: Sequence[Direction]) -> tuple[float, ...]:
    """A key by which points sort: the better first objective first, equal ones by the second, and so on."""
    return tuple(
        value if direction == "minimize" else -value for value, direction in zip(point, directions, strict=True)
    )


def dominates(one: Point, other: Point, directions: Sequence[Direction]) -> bool:
    """Whether ``one`` is nowhere worse than ``other`` and somewhere better."""
    return _dominates(ordering(one, directions), ordering(other, directions))


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))


def fronts(points: Sequence[Point], directions: Sequence[Direction]) -> list[int]:
    """The front of each point, from 1: those that nobody dominates, those that only the first front dominates, ...

    Efficient non-dominated sorting with binary search (Zhang et al. 2015): in the order of ``ordering`` nobody is
    dominated by a later one, and who is dominated by somebody in a front is so by somebody in every front before it.
    """
    keys = [ordering(point, directions) for point in points]
    found: list[list[tuple[float, ...]]] = []
    places = [0] * len(points)
    for index in sorted(range(len(points)), key=keys.__getitem__):
        low, high = 0, len(found)
        while low < high:
            middle = (low + high) // 2
            # The last one of a front is the nearest, and dominates the most often.
            if any(_dominates(other, keys[index]) for other in reversed(found[middle])):
                low = middle + 1
            else:
                high = middle
        if low == len(found):
            found.append([])
        found[low].append(keys[index])
        places[index] = low + 1
    return places


def crowding(points: Sequence[Point]) -> list[float]:
    """How far apart the neighbours of each point of one front are (Deb et al. 2002); the ends are infinitely alone.

    Summed over the objectives, each as a share of its whole range; an objective in which all are equal says nothing.
    """
    distances = [0.0] * len(points)
    for objective in range(len(points[0]) if points else 0):
        order = sorted(range(len(points)), key=lambda index: points[index][objective])
        values = [points[index][objective] for index in order]
        width = values[-1] - values[0]
        if width == 0:
            continue
        distances[order[0]] = distances[order[-1]] = math.inf
        for place in range(1, len(order) - 1):
            distances[order[place]] += (values[place + 1] - values[place - 1]) / width
    return distances
