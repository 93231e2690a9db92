"""Sample table: one row per image with its labels, in the order of packing.

==========  =======  ===================================================================================================
column      type     meaning
==========  =======  ===================================================================================================
sample_id   str      16 hex digits of the image's SHA-256, with ``-1``, ``-2`` ... for repeats of the same bytes; it
                     depends on the image alone, so a data set has the same IDs as a folder and as an archive
path        str      file name inside the source, ``/`` between folders; informative, not covered by digests
age         float64  years, the exact age or the middle of its range; NaN where unknown
age_low     float64  lowest age of the label's range, years; equal to ``age`` for exact ages
age_high    float64  highest age of the label's range, years, included
gender      str      class name, missing where unknown
race        str      class name, missing where unknown
subject     str      ID of the person, missing where unknown; unique within ``source``
partition   str      the image's part in the published partition: ``train``, ``val``, ``test``, or the number of its
                     fold, from ``0``; missing where there is none
attributes  list     for each attribute of the vocabulary whether the image has it: True, False, None where unknown;
                     missing as a whole where none is known
source      str      name of the reader the row came from
sha256      str      SHA-256 of the image file's bytes, hex
==========  =======  ===================================================================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agr_core.identity import canonical_json

COLUMNS: tuple[str, ...] = (
    "sample_id",
    "path",
    "age",
    "age_low",
    "age_high",
    "gender",
    "race",
    "subject",
    "partition",
    "attributes",
    "source",
    "sha256",
)

_ID_DIGITS = 16
# Columns that a trial can depend on; path and reader are not among them.
_DIGESTED_YEARS = ("age", "age_low", "age_high")
_DIGESTED_TEXT = ("sample_id", "gender", "race", "subject", "sha256")


class SampleIds:
    """Assigns sample IDs to images in row order."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def next(self, sha256: str) -> str:
        """Return the ID of the next image, given the SHA-256 of its bytes."""
        stem = sha256[:_ID_DIGITS]
        repeats = self._seen.get(stem, 0)
        self._seen[stem] = repeats + 1
        return f"{stem}-{repeats}" if repeats else stem


class RowsDigest:
    """Incremental digest of the rows of a sample table, in order."""

    def __init__(self) -> None:
        self._hasher = hashlib.sha256()

    def add(self, row: dict[str, Any]) -> None:
        """Add a row; missing values may be None or NaN."""
        years = [None if pd.isna(row[column]) else float(row[column]) for column in _DIGESTED_YEARS]
        words = [None if pd.isna(row[column]) else str(row[column]) for column in _DIGESTED_TEXT]
        # Columns added later are included only if known, so that older data sets keep their digest.
        later: dict[str, Any] = {}
        if isinstance(row["partition"], str):
            later["partition"] = row["partition"]
        if is_known(row["attributes"]):
            later["attributes"] = [None if value is None else bool(value) for value in row["attributes"]]
        self._hasher.update(canonical_json([*years, *words, *([later] if later else [])]).encode("utf-8") + b"\n")

    def hexdigest(self) -> str:
        """Return 64 lower-case hex digits."""
        return self._hasher.hexdigest()


def is_known(attributes: object) -> bool:
    """Return whether a value of the column ``attributes`` is present; missing values are None or NaN."""
    return isinstance(attributes, Sequence | np.ndarray)


def age_ranges(table: pd.DataFrame) -> set[tuple[float, float]]:
    """Return the distinct (low, high) of the known ages, in years, both ends included."""
    known = table.loc[table["age"].notna(), ["age_low", "age_high"]].drop_duplicates()
    return {(float(low), float(high)) for low, high in known.itertuples(index=False)}


def same_side_groups(table: pd.DataFrame) -> NDArray[np.int64]:
    """Return a group number for each row (N,): rows with equal bytes or subject share one, transitively.

    Groups are numbered by their first row.
    """
    parent = np.arange(len(table))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def join(keys: pd.Series) -> None:
        for rows in keys.groupby(keys, sort=False).indices.values():
            for row in rows[1:]:
                first, second = sorted((root(int(rows[0])), root(int(row))))
                parent[second] = first

    join(table["sha256"].reset_index(drop=True))
    subjects = table[["source", "subject"]].reset_index(drop=True)
    known = subjects["subject"].notna()
    if known.any():
        join_known = (subjects["source"] + "\0" + subjects["subject"]).where(known)
        join(join_known)
    roots = np.fromiter((root(row) for row in range(len(table))), dtype=np.int64, count=len(table))
    return np.unique(roots, return_inverse=True)[1].astype(np.int64)
