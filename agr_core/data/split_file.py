"""A split on disk: which image is in which part, with what was asked for and what is to be said of it.

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
from agr_core.data.parquet import read_parquet
from agr_core.errors import DataError, IntegrityError

Part = Literal["train", "val", "test"]
PARTS: tuple[Part, ...] = get_args(Part)

LEFT_OUT = "left_out"
"""Stands in a split for an image that is in no part."""

FOREIGN = "test."
"""Begins the name of a part that is a whole data set of its own, which only tests: ``test.<name>``."""

_METADATA_KEY = b"agr.split"
_SCHEMA_VERSION = 1


@dataclass(frozen=True)
class SameSide:
    """How many images the same-side rule tied together.

    ``groups`` groups of two or more images, ``images`` in them; ``identical`` of the groups hold byte-identical images,
    ``subjects`` hold several different images of one subject. Of a published split, ``straddling`` of the groups lay in
    several parts, and ``moved`` images were moved to end that (0 where ``leaks: keep`` leaves them).
    """

    groups: int
    images: int
    identical: int
    subjects: int
    straddling: int = 0
    moved: int = 0


@dataclass(frozen=True)
class Split:
    """A cut of a data set.

    ``sample_ids`` (N,) in the order of the sample table; ``parts`` (N,) of ``train``, ``val``, ``test``,
    ``test.<name>`` or ``left_out``; ``config``: what was asked for; ``groups``: what the same-side rule did;
    ``left_out``: images in no part, by reason; ``unmatched``: entries of a published split without an image.
    """

    sample_ids: NDArray[np.object_]
    parts: NDArray[np.object_]
    config: SplitConfig
    groups: SameSide
    left_out: Mapping[str, int] = field(default_factory=dict)
    unmatched: int = 0

    def rows(self, part: str) -> NDArray[np.int64]:
        """Row numbers of a part, ascending; of ``test`` none if its share is 0."""
        if part not in (*PARTS, *self.foreign):
            raise ValueError(f"part {part!r} is none of {', '.join((*PARTS, *self.foreign))}.")
        return np.flatnonzero(self.parts == part).astype(np.int64)

    @property
    def used(self) -> NDArray[np.int64]:
        """Row numbers of the images in ``train``, ``val`` or ``test``, ascending."""
        return np.flatnonzero(np.isin(self.parts, PARTS)).astype(np.int64)

    @property
    def foreign(self) -> tuple[str, ...]:
        """The parts ``test.<name>``: data sets that only test."""
        return tuple(sorted({part for part in self.parts.tolist() if part.startswith(FOREIGN)}))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know before trusting figures on this split, a sentence each."""
        said = []
        if out := int((self.parts == LEFT_OUT).sum()):
            reasons = ", ".join(f"{reason} ({count:,})" for reason, count in self.left_out.items())
            said.append(f"{out:,} of {len(self.parts):,} images are in no part: {reasons}.")
        if self.unmatched:
            said.append(f"{self.unmatched:,} entries of {self.config.path} are images that the data set does not have.")
        if self.groups.straddling:
            done = (
                f"{self.groups.moved:,} images were moved to end that (data.split.leaks: move)"
                if self.config.leaks == "move"
                else "they stay there (data.split.leaks: keep), so figures on val and test flatter"
            )
            said.append(
                f"{self.groups.straddling:,} groups of identical images or of one subject lie in several parts of the "
                f"published split; {done}."
            )
        return tuple(said)

    @property
    def digest(self) -> str:
        """SHA-256 of who is where, whatever the order of the rows and whatever was asked for."""
        hasher = hashlib.sha256()
        for sample_id, part in sorted(zip(self.sample_ids, self.parts, strict=True)):
            hasher.update(f"{sample_id} {part}\n".encode())
        return hasher.hexdigest()


def write_split(split: Split, path: Path) -> None:
    """Write a split as Parquet (sample_id, part), complete or not at all."""
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
    """The split that ``write_split`` wrote.

    Raises:
        DataError: If the file is missing or no split.
        IntegrityError: If its rows do not have its digest.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist; a split is written by agr_core.data.splits.write_split.")
    try:
        table = read_parquet(path)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path} is not a split: {error}") from error
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
    if split.digest != metadata["digest"]:
        raise IntegrityError(f"{path} has split digest {split.digest}, not {metadata['digest']}; fetch it again.")
    return split
