"""Packed data sets: Parquet shards with labels and image bytes, and a manifest.

A packed data set is a folder with ``manifest.json`` and ``shard-00000.parquet`` ...: each shard holds rows of the
sample table (``agr_core.data.packed.table``) and a column ``image`` with the file's bytes. All other modules read this
form only.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from agr_core.bins import LabelKind
from agr_core.config import SyntheticConfig
from agr_core.data.face_crop import CroppedImages, FaceCropper
from agr_core.data.packed.manifest import manifest_problem
from agr_core.data.packed.parquet import UNREADABLE, reason
from agr_core.data.packed.raw_source import open_raw, with_labels, without_listed
from agr_core.data.packed.shards import MANIFEST, SCHEMA_VERSION, SHARD_BYTES, TABLE_SCHEMA, ShardWriter, data_digest
from agr_core.data.packed.table import COLUMNS, RowsDigest
from agr_core.data.readers import RawImage, Reader, Skipped
from agr_core.data.readers.base import check_lost
from agr_core.data.readers.tabular import LabelOptions, Plan
from agr_core.errors import DataError, IntegrityError
from agr_core.identity import file_digest
from agr_core.labels.attributes import Vocabulary

_ROWS_AT_ONCE = 256
"""Number of images in memory at once while hashing."""


@dataclass(frozen=True)
class PackReport:
    """Result of packing: number of images, data digest, skipped files, and the manifest as written."""

    images: int
    digest: str
    skipped: tuple[Skipped, ...]
    manifest: dict[str, Any]


def pack(
    source: str,
    output: Path,
    *,
    synthetic: SyntheticConfig | None = None,
    reader: str | Reader | None = None,
    labels: LabelOptions | None = None,
    keep_copies: bool = False,
    on_plan: Callable[[Plan], None] | None = None,
    cropper: FaceCropper | None = None,
    crop_workers: int = 0,
    require: Sequence[str] = (),
    leave_out: Mapping[str, str] | None = None,
    max_lost: float | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> PackReport:
    """Pack a raw data set into the folder ``output``, which appears only when it is complete.

    Only a few images are in memory at a time, so memory does not grow with the source. If ``output`` already holds the
    same data set, it is left unchanged.

    Args:
        source: A folder, ``.tar``, ``.tar.gz``, ``.tgz``, ``.tar.xz`` or ``.zip``; a table of labels; or ``synthetic``
            for generated faces.
        output: Folder to create.
        synthetic: Settings of generated faces; default: ``SyntheticConfig()``.
        reader: The reader or its name; default: the reader that recognises the files.
        labels: Options for reading a table of labels; default: a table is read if no reader recognises the files.
        keep_copies: Keep the duplicates in Kaggle's version of UTKFace.
        on_plan: Called with the plan for reading a table of labels, before any image is read.
        cropper: Replaces each image by the crop of its largest face; an image without a face is skipped.
        crop_workers: Number of worker processes for detection; 0: this process. The crops do not depend on it.
        require: Required labels (``age``, ``gender``, ``race`` ...); images without them are skipped.
        leave_out: Images to skip, with the reason, by path or file name (``without_listed``).
        max_lost: Maximum share, 0 to 1, of lost images and labels (``Skipped.lost``); None: no limit.
        shard_bytes: Image bytes after which a new shard begins.

    Raises:
        ConfigError: If the cropper's detector is not installed.
        DataError: If the source cannot be read or has no usable image, more than ``max_lost`` of it is lost, an
            image of ``leave_out`` is not in it, or ``output`` exists with other content.
    """
    if is_packed(Path(source).expanduser()):
        raise DataError(f"{source} is already packed; use it as it is.")
    with open_raw(source, synthetic=synthetic, reader=reader, labels=labels, keep_copies=keep_copies) as raw:
        if raw.plan is not None and on_plan is not None:
            on_plan(raw.plan)
        return pack_images(
            with_labels(without_listed(raw.images, leave_out) if leave_out else raw.images, require),
            output,
            source=source,
            kind=raw.kind,
            vocabulary=raw.vocabulary,
            cropper=cropper,
            crop_workers=crop_workers,
            max_lost=max_lost,
            labels=None if raw.plan is None else raw.plan.to_manifest(),
            shard_bytes=shard_bytes,
        )


def pack_images(
    images: Iterable[RawImage | Skipped],
    output: Path,
    *,
    source: str,
    kind: str,
    vocabulary: Vocabulary,
    cropper: FaceCropper | None = None,
    crop_workers: int = 0,
    max_lost: float | None = None,
    labels: dict[str, Any] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> PackReport:
    """Pack images already read, in their order; otherwise as ``pack``.

    Args:
        images: Images and skipped files.
        output: Folder to create.
        source: Origin of the images, for messages.
        kind: Value of the column ``source``: the reader's name.
        vocabulary: Their gender and race classes, and their attributes.
        cropper: As in ``pack``.
        crop_workers: As in ``pack``.
        max_lost: As in ``pack``.
        labels: Plan by which a table of labels was read, for the manifest.
        shard_bytes: Image bytes after which a new shard begins.

    Raises:
        DataError: If there is no image, more than ``max_lost`` of them is lost, or ``output`` exists with other
            content.
    """
    _check_output(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    # Built next to the output, so that the rename is within one disk and atomic.
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as workshop:
        built = Path(workshop) / "packed"
        built.mkdir()
        writer = ShardWriter(built, kind, shard_bytes)
        cropped = None if cropper is None else CroppedImages(images, cropper, workers=crop_workers)
        for image in images if cropped is None else cropped:
            writer.add(image)
        check_lost(writer.skipped, writer.rows, source, max_lost)
        crop = None if cropped is None else cropped.manifest()
        manifest = writer.finish(source, vocabulary, crop=crop, labels=labels)
        if is_packed(output):
            _check_same(output, manifest["digest"])
        else:
            built.rename(output)
    skipped = tuple(Skipped(entry["file"], entry["reason"]) for entry in manifest["skipped"])
    return PackReport(images=manifest["rows"], digest=manifest["digest"], skipped=skipped, manifest=manifest)


def is_packed(folder: Path) -> bool:
    """Return whether the folder is a packed data set."""
    return (folder / MANIFEST).is_file()


class Packed:
    """A packed data set on disk.

    Attributes:
        folder: Its folder.
        manifest: Its manifest.
        digest: Data digest. It covers labels, vocabularies and image contents in row order, but not names of source and
            folder or the distribution of rows over shards.
        vocabulary: Its gender and race classes, and its attributes.
        label_kind: ``exact`` or ``range`` ages.
        table: The sample table (N rows), without the image bytes.
    """

    def __init__(self, folder: Path, manifest: dict[str, Any]) -> None:
        self.folder = folder
        self.manifest = manifest
        self.digest: str = manifest["digest"]
        self.vocabulary = Vocabulary(
            genders=tuple(manifest["genders"]),
            races=tuple(manifest["races"]),
            attributes=tuple(manifest.get("attributes", ())),  # older manifests have none
        )
        self.label_kind: LabelKind = manifest["label_kind"]
        self._reading = threading.Lock()  # a Parquet reader is not thread-safe
        self._shards = [pq.ParquetFile(folder / shard["file"], memory_map=True) for shard in manifest["shards"]]
        # First row of every row group, over all shards, followed by the number of rows.
        groups = [
            (shard, group, file.metadata.row_group(group).num_rows)
            for shard, file in enumerate(self._shards)
            for group in range(file.metadata.num_row_groups)
        ]
        self._groups = [(shard, group) for shard, group, _ in groups]
        self._starts = np.concatenate([[0], np.cumsum([rows for _, _, rows in groups], dtype=np.int64)])
        self.table: pd.DataFrame = pa.concat_tables(_labels(file) for file in self._shards).to_pandas()

    @classmethod
    def open(cls, folder: Path) -> Packed:
        """Open a packed data set; shards are checked for presence and size (``verify`` reads them completely).

        Raises:
            DataError: If the folder is not a packed data set, or one of another schema version.
            IntegrityError: If a shard is missing, has another size or cannot be read.
        """
        manifest = read_manifest(folder)
        for shard in manifest["shards"]:
            _check_size(folder, shard)
        try:
            return cls(folder, manifest)
        except UNREADABLE as error:
            raise IntegrityError(f"{folder} has a damaged shard: {reason(error)}") from error

    def __len__(self) -> int:
        return len(self.table)

    @property
    def crop(self) -> dict[str, Any] | None:
        """Crop settings of its images, for ``FaceCropper.from_manifest``; None if they were not cropped."""
        entry = self.manifest.get("crop")
        names = ("detector", "version", "margin", "size", "align")
        return None if entry is None else {name: entry[name] for name in names if name in entry}

    def image_bytes(self, rows: Sequence[int] | NDArray[np.int64]) -> list[bytes]:
        """Return the file bytes of the images in these rows, in the given order.

        Raises:
            IndexError: If a row is not in the table.
            IntegrityError: If a shard cannot be read.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"row {wanted.min()} or {wanted.max()} is outside 0 to {len(self) - 1}")
        row_groups = np.searchsorted(self._starts, wanted, side="right") - 1
        images: list[bytes] = [b""] * len(wanted)
        for row_group in np.unique(row_groups):
            shard, group = self._groups[row_group]
            with self._reading:
                column = self._images(shard, group)
            for position in np.flatnonzero(row_groups == row_group):
                images[position] = column[int(wanted[position] - self._starts[row_group])].as_py()
        return images

    def _images(self, shard: int, group: int) -> pa.ChunkedArray:
        try:
            return self._shards[shard].read_row_group(group, columns=["image"]).column(0)
        except UNREADABLE as error:
            name = self.manifest["shards"][shard]["file"]
            raise IntegrityError(f"{self.folder / name} is damaged: {reason(error)}") from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a packed data set.

    Raises:
        DataError: If there is none, or this version cannot read it.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise DataError(f"{folder} is not a packed data set: it has no {MANIFEST}. Make one with `agr data pack`.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); pack or fetch the data set again.") from error
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if version != SCHEMA_VERSION:
        raise DataError(f"{path} has schema_version {version!r}; this version reads {SCHEMA_VERSION}. Pack it again.")
    problem = manifest_problem(manifest)
    if problem is not None:
        raise DataError(f"{path} is not a manifest of `agr data pack` ({problem}); do not trust this data set.")
    return dict(manifest)


def verify(folder: Path) -> None:
    """Check the SHA-256 of every shard and image, and that rows match the manifest's digest and figures.

    The digest of a data set covers its rows, and each row holds the SHA-256 of its image. A verified data set therefore
    has exactly the images and labels identified by its digest, regardless of the rest of the manifest.

    Raises:
        DataError: If the folder is not a packed data set. IntegrityError: If a shard, an image, the digest or a figure
            differs.
    """
    for shard in read_manifest(folder)["shards"]:  # before they are parsed as Parquet
        _check_size(folder, shard)
        path = folder / shard["file"]
        actual = file_digest(path)
        if actual != shard["sha256"]:
            raise IntegrityError(f"{path} has SHA-256 {actual}; the manifest says {shard['sha256']}. Fetch it again.")
    packed = Packed.open(folder)
    rows = RowsDigest()
    for row in packed.table.to_dict("records"):
        rows.add({str(column): value for column, value in row.items()})
    actual = data_digest(packed.vocabulary, len(packed), rows)
    if actual != packed.digest:
        raise IntegrityError(f"the rows of {folder} have data digest {actual}; its manifest says {packed.digest}.")
    _check_figures(packed)
    for start in range(0, len(packed), _ROWS_AT_ONCE):
        rows_now = range(start, min(start + _ROWS_AT_ONCE, len(packed)))
        recorded = packed.table["sha256"].iloc[start : rows_now.stop]
        for number, image, sha256 in zip(rows_now, packed.image_bytes(rows_now), recorded, strict=True):
            if hashlib.sha256(image).hexdigest() != sha256:
                raise IntegrityError(
                    f"image {packed.table['sample_id'].iloc[number]} of {folder} does not have the SHA-256 of its "
                    "row. Do not trust this data set."
                )


def _check_figures(packed: Packed) -> None:
    """Compare the figures of the manifest with the rows."""
    low, high = packed.table["age_low"], packed.table["age_high"]
    ranged = bool((low.notna() & (low != high)).any())
    for name, recorded, actual in (
        ("rows", packed.manifest["rows"], len(packed)),
        ("label_kind", packed.manifest["label_kind"], "range" if ranged else "exact"),
    ):
        if recorded != actual:
            raise IntegrityError(f"the manifest of {packed.folder} says {name} {recorded!r}; its rows say {actual!r}.")


def _labels(shard: pq.ParquetFile) -> pa.Table:
    """Return the sample table of a shard; columns added after it was written are null."""
    table = shard.read(columns=list(COLUMNS))
    for field in TABLE_SCHEMA:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(list(COLUMNS))


def _check_size(folder: Path, shard: dict[str, Any]) -> None:
    path = folder / shard["file"]
    size = path.stat().st_size if path.is_file() else None
    if size != shard["bytes"]:
        state = "is missing" if size is None else f"has {size:,} bytes"
        raise IntegrityError(f"{path} {state}; the manifest says {shard['bytes']:,} bytes. Fetch it again.")


def _check_output(output: Path) -> None:
    if is_packed(output) or not output.exists():
        return
    if output.is_dir() and not any(output.iterdir()):
        return
    raise DataError(f"{output} exists and is not a packed data set; choose another output, or remove it.")


def _check_same(output: Path, data_digest: str) -> None:
    present = read_manifest(output)["digest"]
    if present != data_digest:
        raise DataError(
            f"{output} holds another data set (digest {present[:12]}, not {data_digest[:12]}); "
            "choose another output, or remove it."
        )
