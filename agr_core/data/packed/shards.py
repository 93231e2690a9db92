"""Writer of a packed data set's shards and manifest."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from agr_core.data.packed.table import COLUMNS, RowsDigest, SampleIds
from agr_core.data.readers import RawImage, Skipped
from agr_core.errors import DataError
from agr_core.identity import digest, file_digest
from agr_core.labels.attributes import Vocabulary

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"

SHARD_BYTES = 64 * 2**20
"""Number of image bytes after which a new shard begins."""

# Few rows per group: a group is the smallest unit of reading, and images are read individually.
_GROUP_ROWS = 32
_TYPES = dict.fromkeys(("age", "age_low", "age_high"), pa.float64()) | {"attributes": pa.list_(pa.bool_())}

TABLE_SCHEMA = pa.schema([pa.field(name, _TYPES.get(name, pa.string())) for name in COLUMNS])
"""Arrow schema of the sample table."""

_SCHEMA = TABLE_SCHEMA.append(pa.field("image", pa.binary()))


class ShardWriter:
    """Writes rows into shards, one row group at a time, and accumulates the figures of the manifest.

    Attributes:
        skipped: Files skipped so far.
    """

    def __init__(self, folder: Path, kind: str, shard_bytes: int) -> None:
        self._folder = folder
        self._kind = kind
        self._shard_bytes = shard_bytes
        self._ids = SampleIds()
        self._digest = RowsDigest()
        self._ranged = False
        self.skipped: list[Skipped] = []
        self._group: list[dict[str, Any]] = []
        self._shard: pq.ParquetWriter | None = None
        self._filled = 0
        self._shard_rows: list[int] = []

    def add(self, item: RawImage | Skipped) -> None:
        """Add the next image or skipped file."""
        if isinstance(item, Skipped):
            self.skipped.append(item)
            return
        sha256 = hashlib.sha256(item.data).hexdigest()
        row: dict[str, Any] = {
            "sample_id": self._ids.next(sha256),
            "path": item.path,
            "age": item.age,
            "age_low": item.age_low,
            "age_high": item.age_high,
            "gender": item.gender,
            "race": item.race,
            "subject": item.subject,
            "partition": item.partition,
            "attributes": item.attributes,
            "source": self._kind,
            "sha256": sha256,
        }
        self._digest.add(row)
        self._ranged |= item.age_low != item.age_high
        self._group.append(row | {"image": item.data})
        self._filled += len(item.data)
        if len(self._group) == _GROUP_ROWS:
            self._flush()
        if self._filled >= self._shard_bytes:
            self._close_shard()

    @property
    def rows(self) -> int:
        """Number of images so far."""
        return sum(self._shard_rows) + len(self._group)

    def finish(
        self,
        source: str,
        vocabulary: Vocabulary,
        *,
        crop: dict[str, Any] | None = None,
        labels: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Write the remaining rows and the manifest; return the manifest.

        Args:
            source: Origin of the images, for messages.
            vocabulary: Their classes.
            crop: Crop settings, if images were cropped.
            labels: Plan by which a table of labels was read, if any.

        Raises:
            DataError: If there is no image.
        """
        self._close_shard()
        skipped = sorted(self.skipped, key=lambda entry: (entry.file, entry.reason))
        rows = sum(self._shard_rows)
        if rows == 0:
            first = f"; the first is {skipped[0].file!r}: {skipped[0].reason}" if skipped else ""
            raise DataError(
                f"{source} holds no image that can be used ({len(skipped)} files skipped{first}). "
                "A data set needs at least one."
            )
        shards = [self._shard_name(number) for number in range(len(self._shard_rows))]
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "kind": self._kind,
            "digest": data_digest(vocabulary, rows, self._digest),
            "rows": rows,
            "label_kind": "range" if self._ranged else "exact",
            "genders": list(vocabulary.genders),
            "races": list(vocabulary.races),
            "attributes": list(vocabulary.attributes),
            "shards": [
                {
                    "file": name,
                    "rows": count,
                    "bytes": (self._folder / name).stat().st_size,
                    "sha256": file_digest(self._folder / name),
                }
                for name, count in zip(shards, self._shard_rows, strict=True)
            ],
            "skipped": [{"file": entry.file, "reason": entry.reason} for entry in skipped],
            "lost": sum(entry.lost for entry in skipped),
            **({} if crop is None else {"crop": crop}),
            **({} if labels is None else {"labels": labels}),
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False, allow_nan=False)
        (self._folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
        return manifest

    @staticmethod
    def _shard_name(number: int) -> str:
        return f"shard-{number:05d}.parquet"

    def _flush(self) -> None:
        if not self._group:
            return
        if self._shard is None:
            self._shard_rows.append(0)
            self._shard = pq.ParquetWriter(
                self._folder / self._shard_name(len(self._shard_rows) - 1),
                _SCHEMA,
                # JPEG cannot be compressed further, and uncompressed bytes are read without a copy by zstd.
                compression={name: "none" if name == "image" else "zstd" for name in _SCHEMA.names},
                use_dictionary=["gender", "race", "partition", "source"],
                write_statistics=False,
            )
        self._shard.write_table(pa.Table.from_pylist(self._group, schema=_SCHEMA))
        self._shard_rows[-1] += len(self._group)
        self._group = []

    def _close_shard(self) -> None:
        self._flush()
        if self._shard is not None:
            self._shard.close()
        self._shard = None
        self._filled = 0


def data_digest(vocabulary: Vocabulary, count: int, rows: RowsDigest) -> str:
    """Return the data digest of classes, number of rows, and rows in order."""
    content: dict[str, Any] = {
        "genders": list(vocabulary.genders),
        "races": list(vocabulary.races),
        "rows": count,
        "rows_digest": rows.hexdigest(),
    }
    if vocabulary.attributes:  # omitted if empty, so that existing data sets keep their digest
        content["attributes"] = list(vocabulary.attributes)
    return digest(content)
