"""What a model said of each image of a part, beside what is true: small enough to keep for every trial.

Two models are compared image by image with these; the figures of a part can be made from them again. As Parquet there
is a row for each image and a column for each field below, names of classes in words; an absent task has no columns.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from agr_core.data.parquet import read_parquet
from agr_core.errors import IntegrityError

_SCHEMA_VERSION = 1
_METADATA_KEY = b"agr_predictions"
_YEARS = ("age_low", "age_high", "age_predicted")


@dataclass(frozen=True)
class Classified:
    """A task of classes: what each image is and was taken for (N,) int64, indices into ``classes``, -1 not known."""

    classes: tuple[str, ...]
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]


@dataclass(frozen=True)
class Predictions:
    """The predictions of one part, N images in its order.

    Attributes:
        sample_ids: Which image it is (N,).
        years: ``age_low``, ``age_high`` and ``age_predicted`` (N,) float32 years, NaN where the age is not known; empty
            if ages are not predicted.
        classes: ``gender`` and ``race``, as far as they are predicted.
    """

    sample_ids: tuple[str, ...]
    years: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    classes: Mapping[str, Classified] = field(default_factory=dict)

    def to_parquet(self) -> bytes:
        """The content of a Parquet file; the same for the same predictions."""
        columns: dict[str, pa.Array] = {"sample_id": pa.array(self.sample_ids, pa.string())}
        for name in _YEARS if self.years else ():
            columns[name] = pa.array(self.years[name], pa.float32(), from_pandas=True)
        for task, each in self.classes.items():
            columns[task] = _named(each.true, each.classes)
            columns[f"{task}_predicted"] = _named(each.predicted, each.classes)
        document = {
            "schema_version": _SCHEMA_VERSION,
            "classes": {task: each.classes for task, each in self.classes.items()},
        }
        table = pa.table(columns).replace_schema_metadata({_METADATA_KEY: json.dumps(document, sort_keys=True)})
        sink = io.BytesIO()
        pq.write_table(table, sink, compression="zstd")
        return sink.getvalue()

    @classmethod
    def from_parquet(cls, content: bytes, *, source: str) -> Predictions:
        """The predictions that ``to_parquet`` wrote; ``source`` names the file in messages.

        Raises:
            IntegrityError: If it is no such file.
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
                        tuple(classes), _indices(table[task], classes), _indices(table[f"{task}_predicted"], classes)
                    )
                    for task, classes in metadata["classes"].items()
                },
            )
        except (pa.ArrowInvalid, KeyError, ValueError) as error:
            raise IntegrityError(f"{source} does not hold the predictions of a trial: {error}") from error


def _named(index: NDArray[np.int64], classes: tuple[str, ...]) -> pa.Array:
    """Names of classes (N,), missing where the index is -1."""
    return pa.DictionaryArray.from_arrays(pa.array(index, pa.int32(), mask=index < 0), pa.array(classes, pa.string()))


def _indices(column: pa.ChunkedArray, classes: list[str]) -> NDArray[np.int64]:
    place = {name: index for index, name in enumerate(classes)} | {None: -1}
    return np.array([place[name] for name in column.to_pylist()], dtype=np.int64)
