"""Groups of related images, contradictions of their labels, and their distribution over parts.

N: images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agr_core.data.audit.examine import NearPair
from agr_core.data.packed.table import same_side_groups

Rows = tuple[int, ...]
"""Rows of a group of two or more images, ascending."""


@dataclass(frozen=True)
class Conflict:
    """Images with contradicting labels; ``labels`` names those that differ."""

    rows: Rows
    labels: tuple[str, ...]


def identical_groups(table: pd.DataFrame) -> list[Rows]:
    """Return groups of byte-identical images."""
    return _rows_of(pd.factorize(table["sha256"])[0].astype(np.int64))


def subject_groups(table: pd.DataFrame) -> list[Rows]:
    """Return groups of images of one subject, where subjects are known."""
    known = table["subject"].notna().to_numpy()
    codes = np.arange(len(table), dtype=np.int64)  # each unknown subject is a group of its own
    names = table["source"].astype(str) + "\0" + table["subject"].astype(str)
    codes[known] = len(table) + pd.factorize(names[known])[0]
    return _rows_of(codes)


def near_groups(table: pd.DataFrame, near: Iterable[NearPair]) -> list[Rows]:
    """Return groups that show one picture and have at least two different files, with byte-identical ones."""
    codes = joined(pd.factorize(table["sha256"])[0].astype(np.int64), near)
    sha256 = table["sha256"].to_numpy()
    return [rows for rows in _rows_of(codes) if len(set(sha256[list(rows)])) > 1]


def same_side(table: pd.DataFrame, near: Iterable[NearPair]) -> NDArray[np.int64]:
    """Return the group of each image (N,) that must be in one part: one picture or subject, transitively."""
    return joined(same_side_groups(table), near)


def joined(groups: NDArray[np.int64], near: Iterable[NearPair]) -> NDArray[np.int64]:
    """Return the groups (N,) after merging those connected by a pair."""
    parent = np.arange(int(groups.max(initial=-1)) + 1)

    def root(group: int) -> int:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = int(parent[group])
        return group

    for pair in near:
        first, second = sorted((root(int(groups[pair.first])), root(int(groups[pair.second]))))
        parent[second] = first
    return np.fromiter((root(int(group)) for group in groups), dtype=np.int64, count=len(groups))


def on_several_sides(groups: Iterable[Rows], parts: NDArray[np.object_], used: NDArray[np.bool_]) -> list[Rows]:
    """Return the groups with images in several parts, each with its images that are in any part."""
    kept = (tuple(row for row in rows if used[row]) for rows in groups)
    return [rows for rows in kept if len({parts[row] for row in rows}) > 1]


def conflicts(
    table: pd.DataFrame, groups: Iterable[Rows], used: NDArray[np.bool_], labels: Sequence[str]
) -> list[Conflict]:
    """Return the groups with contradicting labels: two classes, or ages without a common year."""
    low, high = table["age_low"].to_numpy(), table["age_high"].to_numpy()
    classes = {label: table[label].to_numpy(dtype=object) for label in labels if label != "age"}
    contradictions = []
    for rows in groups:
        kept = [row for row in rows if used[row]]
        differing = []
        for label in labels:
            if label == "age":
                aged = [row for row in kept if np.isfinite(low[row])]
                differ = bool(aged) and bool(low[aged].max() > high[aged].min())
            else:
                differ = len({classes[label][row] for row in kept if pd.notna(classes[label][row])}) > 1
            if differ:
                differing.append(label)
        if differing:
            contradictions.append(Conflict(tuple(kept), tuple(differing)))
    return contradictions


def _rows_of(codes: NDArray[np.int64]) -> list[Rows]:
    """Return the rows of each code that occurs at least twice, in the order of first rows."""
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=codes[order][:1] - 1)) if len(codes) else np.empty(0, int)
    groups = (tuple(rows.tolist()) for rows in np.split(order, starts[1:]) if len(rows) > 1)
    return sorted(groups)
