"""Split file: the part of each image, with the configuration and notes of the split.

N: images.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from agr_core.config import SplitConfig
from agr_core.data.packed.parquet import UNREADABLE, read_parquet, reason
from agr_core.errors import DataError, IntegrityError

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = get_args(Part)

LEFT_OUT = "left_out"
"""Value for an image without a part."""

FOREIGN = "test."
"""Name prefix of parts that are whole test-only data sets: ``test.<name>``."""

_METADATA_KEY = b"agr.split"
_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class SameSide:
    """Effects of the same-side rule, which keeps identical images and subjects in one part.

    There are ``groups`` groups of two or more images with ``images`` images in total; ``identical`` groups hold
    byte-identical images, ``subjects`` groups hold several different images of one subject. In a published split,
    ``straddling`` groups were in several parts, and ``moved`` images were moved to fix that (0 with ``leaks: keep``).
    """

    groups: int
    images: int
    identical: int
    subjects: int
    straddling: int = 0
    moved: int = 0


@dataclass(frozen=True)
class Split:
    """A split of a data set.

    ``sample_ids`` (N,) are in the order of the sample table; ``parts`` (N,) are ``train``, ``val``, ``test``,
    ``test.<name>`` or ``left_out``; ``config`` is the configuration; ``groups`` the effect of the same-side rule;
    ``left_out`` counts images without a part by reason; ``unmatched`` counts entries of a published split without an
    image.
    """

    sample_ids: NDArray[np.object_]
    parts: NDArray[np.object_]
    config: SplitConfig
    groups: SameSide
    left_out: Mapping[str, int] = field(default_factory=dict)
    unmatched: int = 0

    def rows(self, part: str) -> NDArray[np.int64]:
        """Return the row numbers of a part, ascending; none for ``test`` if its share is 0."""
        if part not in (*PARTS, *self.foreign):
            raise ValueError(f"part {part!r} is none of {', '.join((*PARTS, *self.foreign))}.")
        return np.flatnonzero(self.parts == part).astype(np.int64)

    @property
    def used(self) -> NDArray[np.int64]:
        """Row numbers of the images in ``train``, ``val`` or ``test``, ascending."""
        return np.flatnonzero(np.isin(self.parts, PARTS)).astype(np.int64)

    @property
    def foreign(self) -> tuple[str, ...]:
        """Parts ``test.<name>``, which are test-only data sets."""
        return tuple(sorted({part for part in self.parts.tolist() if part.startswith(FOREIGN)}))

    @property
    def notes(self) -> tuple[str, ...]:
        """Caveats for metrics on this split, one sentence each."""
        lines = []
        if out := int((self.parts == LEFT_OUT).sum()):
            reasons = ", ".join(f"{reason} ({count:,})" for reason, count in self.left_out.items())
            lines.append(f"{out:,} of {len(self.parts):,} images are in no part: {reasons}.")
        if self.unmatched:
            lines.append(
                f"{self.unmatched:,} entries of {self.config.path} are images that the data set does not have."
            )
        if self.groups.straddling:
            done = (
                f"{self.groups.moved:,} images were moved to end that (data.split.leaks: move)"
                if self.config.leaks == "move"
                else "they stay there (data.split.leaks: keep), so figures on val and test flatter"
            )
            lines.append(
                f"{self.groups.straddling:,} groups of identical images or of one subject lie in several parts of the "
                f"published split; {done}."
            )
        return tuple(lines)

    @property
    def digest(self) -> str:
        """SHA-256 of the part of each sample, independent of row order and configuration."""
        hasher = hashlib.sha256()
        for sample_id, part in sorted(zip(self.sample_ids, self.parts, strict=True)):
            hasher.update(f"{sample_id} {part}\n".encode())
        return hasher.hexdigest()


def write_split(split: Split, path: Path) -> None:
    """Write a split as Parquet (sample_id, part), atomically."""
    metadata = {
        "schema_version": _SCHEMA_VERSION,
        "digest": split.digest,
        "config": split.config.model_dump(mode="json"),
        "groups": asdict(split.groups),
        "left_out": dict(split.left_out),
        "unmatched": split.unmatched,
    }
    columns = {"sample_id": pa.array(split.sample_ids, pa.string()), "part": pa.array(split.parts, pa.string())}
    table = pa.table(columns).replace_schema_metadata({_METADATA_KEY: json.dumps(metadata, sort_keys=True)})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(table, partial, compression="zstd")
    partial.replace(path)


def read_split(path: Path) -> Split:
    """Return the split written by ``write_split``.

    Raises:
        DataError: If the file is missing or not a split.
        IntegrityError: If its rows do not match its digest.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist; a split is written by agr_core.data.splits.splits.write_split.")
    try:
        split, digest = _parsed(read_parquet(path), path)
    except DataError:
        raise
    except UNREADABLE as error:
        raise DataError(f"{path} is not a split: {reason(error)}") from error
    if split.digest != digest:
        raise IntegrityError(f"{path} has split digest {split.digest}, not {digest}; fetch it again.")
    return split


def _parsed(table: pa.Table, path: Path) -> tuple[Split, str]:
    """Return a split, and the digest recorded in its file."""
    metadata: dict[str, Any] = json.loads((table.schema.metadata or {}).get(_METADATA_KEY, b"{}"))
    if metadata.get("schema_version") != _SCHEMA_VERSION:
        raise DataError(
            f"{path} is not a split of schema version {_SCHEMA_VERSION} (found {metadata.get('schema_version')!r}); "
            "make the split again."
        )
    split = Split(
        sample_ids=np.array(table["sample_id"].to_pylist(), dtype=object),
        parts=np.array(table["part"].to_pylist(), dtype=object),
        config=SplitConfig.model_validate_json(json.dumps(metadata["config"])),
        groups=SameSide(**metadata["groups"]),
        left_out=metadata.get("left_out", {}),
        unmatched=metadata.get("unmatched", 0),
    )
    return split, str(metadata["digest"])
