"""Predictions for each image of a part, with the true labels; small enough to keep for every trial.

They allow paired comparison of two models, recomputation of a part's metrics, ensembles, calibration curves and other
decision thresholds. The Parquet form has a row per image and a column per field below, with class names as strings and
a column per class for probabilities (``gender_probability.female``, ``age_probability.3-6``); an absent task has no
columns. Files of earlier versions have no probabilities.

N: images; K: classes or bins.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from agr_core.bins import Bins
from agr_core.data.packed.parquet import UNREADABLE, read_parquet, reason
from agr_core.errors import IntegrityError

_SCHEMA_VERSION = 1
_METADATA_KEY = b"agr_predictions"
_YEARS = ("age_low", "age_high", "age_predicted", "age_std")
_PROBABILITY = "_probability."

MOST_BINS = 20
"""Maximum number of age bins whose probabilities are stored. Every trial keeps its predictions, and 101 bins of a year
would take 230 bytes per image; ``age_std`` describes such a distribution in 4."""


@dataclass(frozen=True)
class Classified:
    """True and predicted classes of one task (N,) int64, indices into ``classes``; -1: unknown.

    ``probabilities`` (N, K) float32 is the model's probability of each class; None in files of earlier versions.
    """

    classes: tuple[str, ...]
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class AgeShares:
    """Probability of each age bin (N, K) float32; ``edges`` is the lowest age of each bin."""

    edges: tuple[int, ...]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class Predictions:
    """Predictions of one part, N images in the part's order.

    Attributes:
        sample_ids: ID of each image (N,).
        years: ``age_low``, ``age_high`` and ``age_predicted`` (N,) float32 years, NaN where the age is unknown; empty
            if ages are not predicted. ``age_std`` is the standard deviation of the predicted distribution, for
            encodings with a probability per bin.
        classes: ``gender`` and ``race``, if predicted.
        age_shares: Distribution of the ages, for encodings with a probability per bin and at most ``MOST_BINS`` bins.
    """

    sample_ids: tuple[str, ...]
    years: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    classes: Mapping[str, Classified] = field(default_factory=dict)
    age_shares: AgeShares | None = None

    def to_parquet(self) -> bytes:
        """Return the content of a Parquet file; equal predictions give equal bytes.

        Probabilities are rounded to the 11 significant bits of half precision and stored as float32, whose last bytes
        are then zeros and compress away: about 2.3 bytes per probability.
        """
        columns: dict[str, pa.Array] = {"sample_id": pa.array(self.sample_ids, pa.string())}
        for name in (name for name in _YEARS if name in self.years):
            columns[name] = pa.array(self.years[name], pa.float32(), from_pandas=True)
        for task, each in self.classes.items():
            columns[task] = _named(each.true, each.classes)
            columns[f"{task}_predicted"] = _named(each.predicted, each.classes)
        document: dict[str, Any] = {
            "schema_version": _SCHEMA_VERSION,
            "classes": {task: each.classes for task, each in self.classes.items()},
        }
        plain = list(columns)
        for task, each in self.classes.items():
            if each.probabilities is not None:
                columns |= _probability_columns(task, each.classes, each.probabilities)
        if self.age_shares is not None:
            edges = self.age_shares.edges
            columns |= _probability_columns("age", Bins(edges).labels, self.age_shares.probabilities)
            document["age_edges"] = edges
        table = pa.table(columns).replace_schema_metadata({_METADATA_KEY: json.dumps(document, sort_keys=True)})
        sink = io.BytesIO()
        of_probabilities = [name for name in columns if name not in plain]
        pq.write_table(
            table, sink, compression="zstd", use_dictionary=plain, use_byte_stream_split=of_probabilities or False
        )
        return sink.getvalue()

    @classmethod
    def from_parquet(cls, content: bytes, *, source: str) -> Predictions:
        """Return the predictions written by ``to_parquet``; ``source`` names the file in messages.

        Raises:
            IntegrityError: If ``content`` is not such a file.
        """
        try:
            table = read_parquet(io.BytesIO(content))
            metadata: dict[str, Any] = json.loads((table.schema.metadata or {})[_METADATA_KEY])
            if metadata["schema_version"] != _SCHEMA_VERSION:
                raise ValueError(f"schema version {metadata['schema_version']}, this version reads {_SCHEMA_VERSION}")
            return cls(
                sample_ids=tuple(table["sample_id"].to_pylist()),
                years={
                    name: table[name].to_numpy().astype(np.float32) for name in _YEARS if name in table.column_names
                },
                classes={
                    task: Classified(
                        tuple(classes),
                        _indices(table[task], classes),
                        _indices(table[f"{task}_predicted"], classes),
                        _probabilities(table, task, classes),
                    )
                    for task, classes in metadata["classes"].items()
                },
                age_shares=_age_shares(table, metadata.get("age_edges")),
            )
        except UNREADABLE as error:
            raise IntegrityError(f"{source} does not hold the predictions of a trial: {reason(error)}") from error


def _named(index: NDArray[np.int64], classes: tuple[str, ...]) -> pa.Array:
    """Return names of classes (N,), missing where the index is -1."""
    return pa.DictionaryArray.from_arrays(pa.array(index, pa.int32(), mask=index < 0), pa.array(classes, pa.string()))


def _probability_columns(task: str, names: Sequence[str], values: NDArray[np.float32]) -> dict[str, pa.Array]:
    rounded = values.astype(np.float16).astype(np.float32)
    return {f"{task}{_PROBABILITY}{name}": pa.array(rounded[:, number]) for number, name in enumerate(names)}


def _probabilities(table: pa.Table, task: str, names: Sequence[str]) -> NDArray[np.float32] | None:
    """Return the probabilities of a task (N, K) in the order of ``names``; None if the file has none."""
    columns = [f"{task}{_PROBABILITY}{name}" for name in names]
    if not columns or columns[0] not in table.column_names:
        return None
    return np.stack([table[name].to_numpy().astype(np.float32) for name in columns], axis=1)


def _age_shares(table: pa.Table, edges: Sequence[int] | None) -> AgeShares | None:
    if edges is None:
        return None
    probabilities = _probabilities(table, "age", Bins(tuple(edges)).labels)
    if probabilities is None:
        raise ValueError("age_edges without probabilities of the bins")
    return AgeShares(tuple(edges), probabilities)


def _indices(column: pa.ChunkedArray, classes: list[str]) -> NDArray[np.int64]:
    place = {name: index for index, name in enumerate(classes)} | {None: -1}
    return np.array([place[name] for name in column.to_pylist()], dtype=np.int64)
