"""What a data set holds, in numbers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd

from agr_core.data.pack import Packed
from agr_core.data.splits import PARTS, Split
from agr_core.labels.attributes import Vocabulary
from agr_core.labels.bins import Bins, BinsSpec


def statistics(
    table: pd.DataFrame, scheme: BinsSpec = "utk7", *, vocabulary: Vocabulary | None = None
) -> dict[str, Any]:
    """Counts of each gender, race, age bin and partition, the ages in years, and how many images lack which label.

    ``bin_ages`` has the mean and the mode of the ages in each bin, years.

    With a vocabulary the classes come in its order, also those without an image; else by name, those present.
    ``age`` is None where no age is known. ``attributes``, the images that have each, comes with a vocabulary only.

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
    """What ``agr data pack --json`` and ``agr data stats --json`` print.

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
    """What ``agr data split --json`` prints: each part's images and classes, and what was tied and left out.

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
    """``images``, ``mean`` and ``mode`` of the ages in each bin, years; None in a bin without images.

    A range counts as its middle; of several most frequent ages the mode is the youngest.

    Raises:
        ValueError: If the scheme is not known.
    """
    bins = Bins.from_spec(scheme)
    ages = table["age"].dropna()
    places = bins.index(ages)
    rows: dict[str, dict[str, Any]] = {}
    for place, label in enumerate(bins.labels):
        inside = ages[places == place]
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
