"""Statistics of a data set as numbers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd

from agr_core.bins import Bins, BinsSpec
from agr_core.data.packed.pack import Packed
from agr_core.data.splits.splits import PARTS, Split
from agr_core.labels.attributes import Vocabulary


def statistics(
    table: pd.DataFrame, scheme: BinsSpec = "utk7", *, vocabulary: Vocabulary | None = None
) -> dict[str, Any]:
    """Return counts of genders, races, age bins and partitions, age statistics, and counts of missing labels.

    ``bin_ages`` has the mean and the mode of the ages in each bin, in years.

    With a vocabulary, classes are in its order, including those without an image; otherwise, present classes are sorted
    by name. ``age`` is None if no age is known. ``attributes``, the number of images with each attribute, requires a
    vocabulary.

    Raises:
        ValueError: If the scheme is not known.
    """
    bins = Bins.from_spec(scheme)
    ages = table["age"].dropna()
    counts = pd.Series(bins.index(ages)).value_counts()
    return {
        "gender": _counts(table["gender"], vocabulary.genders if vocabulary else None),
        "race": _counts(table["race"], vocabulary.races if vocabulary else None),
        "age": {"min": float(ages.min()), "max": float(ages.max()), "mean": float(ages.mean())} if len(ages) else None,
        "bins": {label: int(counts.get(number, 0)) for number, label in enumerate(bins.labels)},
        "bin_ages": {
            label: {"mean": row["mean"], "mode": row["mode"]} for label, row in bin_ages(table, scheme).items()
        },
        "partition": _counts(table["partition"], None),
        "unknown": {label: int(table[label].isna().sum()) for label in ("age", "gender", "race")},
        "attributes": _attributes(table["attributes"], vocabulary.attributes if vocabulary else ()),
    }


def describe(packed: Packed, scheme: BinsSpec = "utk7") -> dict[str, Any]:
    """Return the output of ``agr data pack --json`` and ``agr data stats --json``.

    Raises:
        ValueError: If the scheme is not known.
    """
    return {
        "images": len(packed),
        "digest": packed.digest,
        "skipped": packed.manifest["skipped"],
        **({"crop": crop} if (crop := packed.manifest.get("crop")) is not None else {}),
        **statistics(packed.table, scheme, vocabulary=packed.vocabulary),
    }


def describe_split(packed: Packed, split: Split, scheme: BinsSpec = "utk7") -> dict[str, Any]:
    """Return the output of ``agr data split --json``: images and classes of each part, same-side and left-out counts.

    Raises:
        ValueError: If the scheme is not known.
    """
    tables = {part: packed.table.iloc[split.rows(part)] for part in PARTS}
    return {
        "images": len(packed),
        "digest": split.digest,
        "data_digest": packed.digest,
        "parts": {
            part: {"images": len(table), **statistics(table, scheme, vocabulary=packed.vocabulary)}
            for part, table in tables.items()
        },
        "groups": asdict(split.groups),
        "left_out": dict(split.left_out),
        "unmatched": split.unmatched,
        "notes": list(split.notes),
    }


def bin_ages(table: pd.DataFrame, scheme: BinsSpec = "utk7") -> dict[str, dict[str, Any]]:
    """Return ``images``, ``mean`` and ``mode`` of the ages in each bin, in years; None for empty bins.

    A range counts as its middle; the mode is the lowest of equally frequent ages.

    Raises:
        ValueError: If the scheme is not known.
    """
    bins = Bins.from_spec(scheme)
    ages = table["age"].dropna()
    bin_indices = bins.index(ages)
    rows: dict[str, dict[str, Any]] = {}
    for index, label in enumerate(bins.labels):
        inside = ages[bin_indices == index]
        mean, mode = (float(inside.mean()), float(inside.mode().iloc[0])) if len(inside) else (None, None)
        rows[label] = {"images": len(inside), "mean": mean, "mode": mode}
    return rows


def _attributes(values: pd.Series, names: tuple[str, ...]) -> dict[str, int]:
    counts = dict.fromkeys(names, 0)
    for known in values.dropna():
        for name, has in zip(names, known, strict=True):
            counts[name] += has is not None and bool(has)
    return counts


def _counts(values: pd.Series, names: tuple[str, ...] | None) -> dict[str, int]:
    counts = values.value_counts()
    return {str(name): int(counts.get(name, 0)) for name in names or sorted(counts.index)}
