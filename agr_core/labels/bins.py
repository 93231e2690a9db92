"""Age groups: named schemes and custom edges.

A scheme is the lowest age of each bin, ascending from 0; a bin reaches to the year before the next one, the last bin to
``MAX_AGE`` and beyond. N: any number of ages, K: number of bins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agr_core.errors import DataError, UnknownComponentError
from agr_core.registry import did_you_mean

MAX_AGE = 116
"""The oldest age in the data sets of the reports (UTKFace)."""

BinsSpec = str | tuple[int, ...]
"""A scheme's name, or the lowest age of each bin."""

SCHEMES: dict[str, tuple[int, ...]] = {
    "utk7": (0, 3, 7, 15, 31, 41, 66),  # S4-Z6, the final seven
    "utk7a": (0, 3, 10, 17, 26, 46, 61),  # S4-Z5
    "utk4": (0, 13, 20, 60),  # S4-Z3
    "utk31": (0, *range(3, 62, 2)),  # S4-Z7: 1-2, 3-4, ..., 61-116, the first with those of age 0
    "adience8": (0, 4, 8, 14, 23, 35, 46, 55),  # on exact ages; see DESIGN, "Comparable age figures"
    "fairface9": (0, 3, 10, 20, 30, 40, 50, 60, 70),  # Karkkainen and Joo 2021
    "every2": tuple(range(0, MAX_AGE + 1, 2)),
    "year": tuple(range(MAX_AGE + 1)),
}


def check_bins(spec: BinsSpec) -> BinsSpec:
    """``spec`` itself, if it is a known scheme or a list of ascending edges from 0.

    Raises:
        ValueError: Otherwise, with the rule and the nearest scheme.
    """
    if isinstance(spec, str):
        if spec not in SCHEMES:
            raise UnknownComponentError(
                f"unknown bins {spec!r}.{did_you_mean(spec, SCHEMES)} Schemes: {', '.join(sorted(SCHEMES))}; "
                "or a list with the lowest age of each bin."
            )
        return spec
    if len(spec) < 2 or spec[0] != 0 or list(spec) != sorted(set(spec)) or spec[-1] > MAX_AGE:
        raise ValueError(
            f"bins {list(spec)} must list the lowest age of each of at least two bins, ascending from 0 "
            f"to at most {MAX_AGE}."
        )
    return spec


@dataclass(frozen=True)
class Bins:
    """Age groups by their ``edges``: the lowest age of each bin, ascending from 0.

    Raises:
        ValueError: If the edges are not those of at least two bins, ascending from 0.
    """

    edges: tuple[int, ...]

    def __post_init__(self) -> None:
        check_bins(self.edges)

    @classmethod
    def from_spec(cls, spec: BinsSpec) -> Self:
        """The bins of a scheme's name or of a list of edges.

        Raises:
            ValueError: As ``check_bins``.
        """
        checked = check_bins(spec)
        return cls(SCHEMES[checked] if isinstance(checked, str) else checked)

    @property
    def count(self) -> int:
        """Number of bins, K."""
        return len(self.edges)

    @property
    def labels(self) -> tuple[str, ...]:
        """What people call the bins: ``"0-2"``, ``"5"`` for a single year, ``"66+"`` for the last."""
        inner = zip(self.edges[:-1], self.edges[1:], strict=True)
        spans = (str(low) if low == after - 1 else f"{low}-{after - 1}" for low, after in inner)
        return (*spans, f"{self.edges[-1]}+")

    @property
    def centers(self) -> NDArray[np.float64]:
        """The middle year of each bin (K,), 1.0 for 0-2; the last bin counts up to ``MAX_AGE``."""
        highs = np.array([*(after - 1 for after in self.edges[1:]), MAX_AGE], dtype=np.float64)
        return (np.array(self.edges, dtype=np.float64) + highs) / 2

    def index(self, ages: ArrayLike) -> NDArray[np.int64]:
        """The bin of each age in completed years (N,); an age beyond ``MAX_AGE`` falls into the last bin.

        Raises:
            DataError: If an age is negative, NaN or infinite; leave unknown ages out before.
        """
        years = np.asarray(ages, dtype=np.float64)
        bad = ~np.isfinite(years) | (years < 0)
        if bad.any():
            raise DataError(
                f"age {years[bad].flat[0]:g} is in no bin ({int(bad.sum())} such of {years.size}): "
                "ages are years from 0 up; leave unknown ages out."
            )
        return np.searchsorted(np.array(self.edges, dtype=np.float64), years, side="right").astype(np.int64) - 1

    def splits_range(self, low: ArrayLike, high: ArrayLike) -> NDArray[np.bool_]:
        """Whether an edge cuts the age range ``low``..``high``, both ends included (N,).

        Raises:
            DataError: As ``index``.
        """
        cut: NDArray[np.bool_] = self.index(low) != self.index(high)
        return cut

    def check_ranges(self, ranges: Collection[tuple[float, float]], *, setting: str = "age.bins") -> None:
        """Refuse bins that cut a label range: nobody knows on which side of an edge at 30 someone of 25-32 is.

        Args:
            ranges: Distinct (low, high) of the data set's labels, both ends included.
            setting: The setting the bins come from, for the message.

        Raises:
            DataError: With the first range that is cut, the edge, and the schemes that cut none.
        """
        for low, high in ranges:
            if self.splits_range(low, high):
                edge = self.edges[int(self.index(high))]
                whole = ", ".join(schemes_for_ranges(ranges)) or "none"
                raise DataError(
                    f"{setting}: the edge at {edge} cuts the label range {low:g}-{high:g} of this data set, so its bin "
                    f"is not known. Schemes that cut no range here: {whole}; or list edges between the ranges."
                )


def schemes_for_ranges(ranges: Collection[tuple[float, float]], schemes: Iterable[str] = SCHEMES) -> tuple[str, ...]:
    """Those of ``schemes`` whose edges cut none of the label ranges (low, high), both ends included."""
    candidates = ((scheme, Bins.from_spec(scheme)) for scheme in schemes)
    return tuple(name for name, bins in candidates if not any(bins.splits_range(low, high) for low, high in ranges))


def nearest_year(years: ArrayLike) -> NDArray[np.float64]:
    """Estimated ages rounded to the nearest whole year, halves up (N,).

    Labels are whole years, so an estimate of 2.9 stands for 3: rounding down would put a perfect regressor's
    slightest error at an edge into the wrong bin.
    """
    return np.floor(np.asarray(years, dtype=np.float64) + 0.5)
