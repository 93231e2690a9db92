"""Means over seeds, and paired differences, with confidence intervals that hold for few seeds.

Intervals are Student's (1908): the mean of n values, plus or minus ``t(n - 1) * s / sqrt(n)``. For two seeds the factor
``t`` is 12.7. The 1.96 of the normal distribution would cover the truth in 70 % of the cases instead of 95 %.

Equal values have no such interval. Their sample deviation of 0 would give zero width, but metrics of few images are
discrete, and two or three of them coincide by chance: two equal configurations, compared by their hits among 42 images,
differ by the same number under both of two seeds in 8 of 100 cases. For many seeds the sign test applies: a difference
that is the same under n seeds has one sign n times, with probability ``2 / 2**n`` if there is no difference. So from
six seeds on it is called without an interval.

A difference over the same seeds and the same images has two sources of chance: the seeds and the images. See
``crossed_mean``.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from agr_core.objective import Direction

LEVEL = 0.95
"""How often an interval covers the truth, where the values are drawn from one normal distribution."""

Verdict = Literal["better", "worse", "tie"]

SEEDS_WITHOUT_SPREAD = 1 + math.ceil(-math.log2(1 - LEVEL))
"""So many seeds that all differ by the same are no chance: the least n with ``2 / 2**n`` not above ``1 - LEVEL``."""

_SAME = 1e-6
"""Values that differ by less, as a share of their mean, are one value: many figures are sums of 32-bit numbers."""

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True)
class Estimate:
    """A mean of ``count`` values, plus or minus ``margin``.

    ``margin`` is None for a single value, which has no error estimate, and for equal values (``unspread``).

    ``images`` is the number of images that the margin accounts for as well; None if it holds for these images only.
    """

    mean: float
    margin: float | None
    count: int
    images: int | None = None

    @property
    def low(self) -> float | None:
        """Lower end of the interval."""
        return None if self.margin is None else self.mean - self.margin

    @property
    def high(self) -> float | None:
        """Upper end of the interval."""
        return None if self.margin is None else self.mean + self.margin

    @property
    def unspread(self) -> bool:
        """Whether several values are all equal, so that there is no interval."""
        return self.margin is None and self.count > 1

    def verdict(self, direction: Direction) -> Verdict | None:
        """Return the verdict on a difference: ``tie`` if the interval contains 0; None if undecided.

        Equal values of 0 are a tie; other equal values need enough seeds to make chance unlikely (the sign test).
        """
        if self.unspread and self.mean == 0:
            return "tie"
        if self.margin is None and self.count < SEEDS_WITHOUT_SPREAD:
            return None
        if self.margin is not None and abs(self.mean) <= self.margin:
            return "tie"
        return "better" if (self.mean < 0) == (direction == "minimize") else "worse"

    def to_json(self) -> dict[str, Any]:
        """Return a plain JSON object."""
        plain = {"mean": self.mean, "low": self.low, "high": self.high, "count": self.count}
        return plain if self.images is None else {**plain, "images": self.images}


def mean_interval(values: Collection[float], *, level: float = LEVEL) -> Estimate:
    """Return the mean of independent values, with Student's t interval if they are not all equal.

    Raises:
        ValueError: If there is no value.
    """
    if not values:
        raise ValueError("0 values given; a mean needs at least one.")
    count = len(values)
    mean = statistics.fmean(values)
    spread = statistics.stdev(values) if count > 1 else 0.0
    if spread <= _SAME * abs(mean):
        return Estimate(mean, None, count)
    return Estimate(mean, _student(count - 1, level) * spread / math.sqrt(count), count)


def paired_difference(
    values: Mapping[_Key, float], base: Mapping[_Key, float], *, level: float = LEVEL
) -> Estimate | None:
    """Return the mean of ``values - base`` over the keys (seeds) that both have; None if they share none.

    A seed's common effect on both sides cancels, so the interval is narrower than that of two separate means.
    """
    shared = [key for key in values if key in base]
    return mean_interval([values[key] - base[key] for key in shared], level=level) if shared else None


def crossed_mean(values: NDArray[np.float64], *, level: float = LEVEL) -> Estimate:
    """Return the mean of N images' values under each of S seeds; the interval accounts for other seeds and images.

    The model is that of crossed random effects, ``value[s, i] = mean + seed[s] + image[i] + rest[s, i]``. From the mean
    squares of its analysis of variance the variance of the mean is estimated as ``MS_seed / (S N)``, which is that of
    Student's interval over the seeds' means and includes the residual, plus ``max(MS_image - MS_rest, 0) / (S N)``,
    the effect of other images. In radiology this model compares several readers of the same cases (Dorfman,
    Berbaum and Metz 1992).

    Each term has its own margin, ``t(S - 1)`` and ``t(N - 1)`` times its root, and the margin of the sum is the root of
    the sum of their squares (Howe 1974; Zou and Donner 2008), never below that over seeds alone. One ``t`` for both,
    with Hillis's (2007) or Satterthwaite's degrees of freedom, covers the truth in 87 to 96 % of the cases at two
    or three seeds; resampling seeds and images (the multi-bootstrap of Sellam et al. 2022) in 58 to 79 %, where seeds
    matter more than images. If all seeds have the same mean, the effect of other seeds is unknown, and there is no
    interval.

    Args:
        values: Values (S, N), of at least two seeds and two images.
        level: Coverage probability of the interval.

    Raises:
        ValueError: If there are fewer.
    """
    seeds, images = values.shape
    if seeds < 2 or images < 2:
        raise ValueError(f"{seeds} seeds and {images} images given; both take at least two.")
    of_seed, of_image = values.mean(axis=1), values.mean(axis=0)
    over_seeds = mean_interval(of_seed.tolist(), level=level)
    if over_seeds.margin is None:
        return over_seeds
    mean = over_seeds.mean
    rest = values - of_seed[:, None] - of_image[None, :] + mean
    ms_image = seeds * float(of_image.var(ddof=1))
    ms_rest = float(np.square(rest).sum()) / ((seeds - 1) * (images - 1))
    over_images = _student(images - 1, level) * math.sqrt(max(ms_image - ms_rest, 0.0) / (seeds * images))
    return Estimate(mean, math.hypot(over_seeds.margin, over_images), seeds, images)


def _student(degrees: int, level: float) -> float:
    """Return the number of standard errors from the mean to either end of a Student's t interval."""
    from scipy.special import (
        stdtrit,
    )  # imported here: it takes a third of the import time of a command that reads a sweep

    return float(stdtrit(degrees, (1 + level) / 2))
