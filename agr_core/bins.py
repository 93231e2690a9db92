"""Age bins: named schemes and custom edges.

A scheme lists the lowest age of each bin, ascending from 0. A bin ends the year before the next one; the last bin
includes ``MAX_AGE`` and all higher ages. N: any number of ages, K: number of bins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agr_core.errors import DataError, UnknownComponentError
from agr_core.registry import did_you_mean

LabelKind = Literal["exact", "range"]
"""Whether a data set's age labels are years, or ranges such as 25-32."""

MAX_AGE = 116
"""Highest age in the data sets of the reports (UTKFace)."""

BinsSpec = str | tuple[int, ...]
"""A scheme's name, or the lowest age of each bin."""

SCHEMES: dict[str, tuple[int, ...]] = {
    "utk7": (0, 3, 7, 15, 31, 41, 66),  # S4-Z6, the final seven
    "utk7a": (0, 3, 10, 17, 26, 46, 61),  # S4-Z5
    "utk4": (0, 13, 20, 60),  # S4-Z3
    "utk31": (0, *range(3, 62, 2)),  # S4-Z7: 1-2, 3-4, ..., 61-116; the first includes age 0
    "adience8": (0, 4, 8, 14, 23, 35, 46, 55),  # lowest exact age of each group; Adience has gaps between them
    "fairface9": (0, 3, 10, 20, 30, 40, 50, 60, 70),  # Karkkainen and Joo 2021
    "every2": tuple(range(0, MAX_AGE + 1, 2)),
    "year": tuple(range(MAX_AGE + 1)),
}


def check_bins(spec: BinsSpec) -> BinsSpec:
    """Return ``spec`` if it is a known scheme or a list of ascending edges from 0.

    Raises:
        ValueError: If not; the message states the rule and the nearest scheme.
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
    """Age bins given by ``edges``, the lowest age of each bin, ascending from 0.

    Raises:
        ValueError: If there are fewer than two edges, or they do not ascend from 0.
    """

    edges: tuple[int, ...]

    def __post_init__(self) -> None:
        check_bins(self.edges)

    @classmethod
    def from_spec(cls, spec: BinsSpec) -> Self:
        """Return the bins of a scheme's name or of a list of edges.

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
        """Names of the bins: ``"0-2"``, ``"5"`` for a single year, ``"66+"`` for the last."""
        inner = zip(self.edges[:-1], self.edges[1:], strict=True)
        spans = (str(low) if low == after - 1 else f"{low}-{after - 1}" for low, after in inner)
        return (*spans, f"{self.edges[-1]}+")

    @property
    def centers(self) -> NDArray[np.float64]:
        """Middle year of each bin (K,), 1.0 for 0-2; the last bin ends at ``MAX_AGE``."""
        highs = np.array([*(after - 1 for after in self.edges[1:]), MAX_AGE], dtype=np.float64)
        return (np.array(self.edges, dtype=np.float64) + highs) / 2

    def index(self, ages: ArrayLike) -> NDArray[np.int64]:
        """Return the bin of each age in completed years (N,); an age beyond ``MAX_AGE`` is in the last bin.

        Raises:
            DataError: If an age is negative, NaN or infinite; exclude unknown ages first.
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
        """Return whether an edge cuts the age range ``low``..``high``, both ends included (N,).

        Raises:
            DataError: As ``index``.
        """
        cut: NDArray[np.bool_] = self.index(low) != self.index(high)
        return cut

    def check_ranges(self, ranges: Collection[tuple[float, float]], *, setting: str = "age.bins") -> None:
        """Check that no edge cuts a label range, which would leave the true bin unknown.

        Args:
            ranges: Distinct (low, high) of the data set's labels, both ends included.
            setting: Setting that gives the bins, for the message.

        Raises:
            DataError: If one does; the message names the first such range, the edge, and the schemes that cut no range.
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
    """Return those of ``schemes`` whose edges cut no label range (low, high), both ends included."""
    candidates = ((scheme, Bins.from_spec(scheme)) for scheme in schemes)
    return tuple(name for name, bins in candidates if not any(bins.splits_range(low, high) for low, high in ranges))


def nearest_year(years: ArrayLike) -> NDArray[np.float64]:
    """Return estimated ages rounded to the nearest whole year, halves up (N,).

    Labels are whole years, so an estimate of 2.9 means 3. Rounding down would put the smallest error of a regressor at
    an edge into the wrong bin.
    """
    return np.floor(np.asarray(years, dtype=np.float64) + 0.5)
