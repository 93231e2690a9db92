"""Balance checks: labels that occur once, classes missing from a part, distribution shift between parts.

N: images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import chdtrc

from agr_core.data.splits.sharing import class_names

LABELS = ("age", "gender", "race")

MIN_SHIFT = 0.1
"""Total variation distance from the training part above which a part counts as shifted."""

MAX_P_VALUE = 0.001
"""Significance level of the chi-squared test for a shift."""


@dataclass(frozen=True)
class SingleLabel:
    """A label value of only one image: an age (or range) in years, a gender or a race."""

    label: str
    value: str
    row: int


@dataclass(frozen=True)
class MissingClass:
    """A class of the data set (``images`` images in all parts) that a part lacks."""

    part: str
    label: str
    value: str
    images: int


@dataclass(frozen=True)
class Shift:
    """Difference of a label's class distribution between a part and the training part.

    ``distance`` is the total variation distance, 0 (equal shares) to 1 (no common class). ``p_value`` is that of the
    chi-squared test of equal distributions.
    """

    part: str
    label: str
    distance: float
    p_value: float

    @property
    def shifted(self) -> bool:
        """Whether the shift is both large and significant."""
        return self.distance > MIN_SHIFT and self.p_value < MAX_P_VALUE


def single_labels(table: pd.DataFrame) -> list[SingleLabel]:
    """Return label values that occur once; for age ranges, the range."""
    singles = []
    for label in LABELS:
        values = _values(table, label)
        counts = values.value_counts()
        for value in sorted(counts.index[counts == 1]):
            singles.append(SingleLabel(label, str(value), int(np.flatnonzero((values == value).to_numpy())[0])))
    return singles


def missing_classes(table: pd.DataFrame, parts: NDArray[np.object_], used: NDArray[np.bool_]) -> list[MissingClass]:
    """Return genders, races and age bins that a part lacks; test data sets with their own classes are exempt."""
    missing = []
    for label in LABELS:
        names = class_names(table, label)
        counts = names[used].value_counts()
        for part in _own_parts(parts, used):
            there = set(names[used & (parts == part)].dropna())
            missing += [
                MissingClass(part, label, str(value), int(count))
                for value, count in sorted(counts.items(), key=lambda item: str(item[0]))
                if value not in there
            ]
    return missing


def shifts(table: pd.DataFrame, parts: NDArray[np.object_], used: NDArray[np.bool_]) -> list[Shift]:
    """Return the shift of each other part from ``train``; none without a training part."""
    measured = []
    for label in LABELS:
        names = class_names(table, label)
        known = used & names.notna().to_numpy()
        counts = pd.crosstab(names[known], pd.Series(parts[known], index=names[known].index))
        if "train" not in counts.columns:
            continue
        for part in counts.columns.drop("train"):
            both = counts[["train", part]].to_numpy(dtype=np.float64)
            both = both[both.sum(axis=1) > 0]
            shares = both / both.sum(axis=0)
            distance = float(np.abs(shares[:, 0] - shares[:, 1]).sum() / 2)
            measured.append(Shift(str(part), label, round(distance, 6), _p_value(both)))
    return measured


def _p_value(counts: NDArray[np.float64]) -> float:
    """Return the p-value of Pearson's chi-squared test of equal distributions of two columns of counts (classes, 2)."""
    if len(counts) < 2:
        return 1.0
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / counts.sum()
    return float(chdtrc(len(counts) - 1, ((counts - expected) ** 2 / expected).sum()))


def _values(table: pd.DataFrame, label: str) -> pd.Series:
    if label != "age":
        return table[label].dropna().reindex(table.index)
    ends = zip(table["age_low"], table["age_high"], strict=True)
    words = [None if pd.isna(low) else f"{low:g}" if low == high else f"{low:g}-{high:g}" for low, high in ends]
    return pd.Series(words, index=table.index, dtype=object)


def _own_parts(parts: NDArray[np.object_], used: NDArray[np.bool_]) -> list[str]:
    return sorted({str(part) for part in parts[used] if not str(part).startswith("test.")})
