"""Packed data sets: Parquet shards with the image bytes beside the labels, and a manifest.

A packed data set is a folder with ``manifest.json`` and ``shard-00000.parquet`` ...: each shard holds rows of the
sample table (``agr_core.data.table``) and one more column, ``image``, the file's bytes. All else reads this form.
"""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from agr_core.config import SYNTHETIC, SyntheticConfig, drawn_by
from agr_core.data.face_crop import CroppedImages, FaceCropper
from agr_core.data.manifest import manifest_problem
from agr_core.data.readers import RawImage, Reader, Skipped, find_reader, read_images
from agr_core.data.readers.base import lacking
from agr_core.data.readers.files import open_files
from agr_core.data.shards import MANIFEST, SCHEMA_VERSION, SHARD_BYTES, TABLE_SCHEMA, ShardWriter, data_digest
from agr_core.data.synthetic import draw_faces, vocabulary_of
from agr_core.data.table import COLUMNS, LabelKind, RowsDigest
from agr_core.errors import DataError, IntegrityError
from agr_core.identity import file_digest
from agr_core.labels.attributes import Vocabulary


@dataclass(frozen=True)
class PackReport:
    """What packing made: number of images, data digest, files left out, and the manifest as written."""

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
    cropper: FaceCropper | None = None,
    crop_workers: int = 0,
    require: Sequence[str] = (),
    shard_bytes: int = SHARD_BYTES,
) -> PackReport:
    """Pack a raw data set into the folder ``output``, which appears only once it is complete.

    Images pass through a few at a time, so memory does not grow with the source. Packing again what ``output`` holds
    already leaves it as it is.

    Args:
        source: A folder, ``.tar``, ``.tar.gz``, ``.tgz``, ``.tar.xz`` or ``.zip``; or ``synthetic`` for drawn faces.
        output: Folder to make.
        synthetic: What to draw; default: ``SyntheticConfig()``.
        reader: The reader or its name; default: the one that recognises the files.
        cropper: Packs the largest face of each image instead of the image; an image without a face is skipped.
        crop_workers: Processes that look for faces; 0 looks here. The crops are the same either way.
        require: Labels (``age``, ``gender``, ``race`` ...) without which an image is skipped.
        shard_bytes: Image bytes after which a new shard begins.

    Raises:
        ConfigError: If the cropper's detector is not installed.
        DataError: If the source cannot be read or holds no usable image, or ``output`` exists and is something else.
    """
    with _open_source(source, synthetic, reader) as (kind, vocabulary, images):
        return pack_images(
            _with_labels(images, require),
            output,
            source=source,
            kind=kind,
            vocabulary=vocabulary,
            cropper=cropper,
            crop_workers=crop_workers,
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
    shard_bytes: int = SHARD_BYTES,
) -> PackReport:
    """Pack images that are read already, in their order; as ``pack`` else.

    Args:
        images: The images, and the files left out.
        output: Folder to make.
        source: Where they come from, for messages.
        kind: The ``source`` of their rows, the reader's name.
        vocabulary: Their gender and race classes, and their attributes.
        cropper: As in ``pack``.
        crop_workers: As in ``pack``.
        shard_bytes: Image bytes after which a new shard begins.

    Raises:
        DataError: If there is no image, or ``output`` exists and is something else.
    """
    _check_output(output)
    output.parent.mkdir(parents=True, exist_ok=True)
    # Built beside the output, so that the rename stays on one disk and is atomic.
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as workshop:
        built = Path(workshop) / "packed"
        built.mkdir()
        writer = ShardWriter(built, kind, shard_bytes)
        cropped = None if cropper is None else CroppedImages(images, cropper, workers=crop_workers)
        for image in images if cropped is None else cropped:
            writer.add(image)
        manifest = writer.finish(source, vocabulary, crop=None if cropped is None else cropped.manifest())
        if is_packed(output):
            _check_same(output, manifest["digest"])
        else:
            built.rename(output)
    skipped = tuple(Skipped(entry["file"], entry["reason"]) for entry in manifest["skipped"])
    return PackReport(images=manifest["rows"], digest=manifest["digest"], skipped=skipped, manifest=manifest)


def is_packed(folder: Path) -> bool:
    """Whether the folder is a packed data set."""
    return (folder / MANIFEST).is_file()


class Packed:
    """A packed data set on disk.

    Attributes:
        folder: Where it is.
        manifest: Its manifest.
        digest: Data digest: labels, vocabularies and image contents in row order, not the source's or folder's name,
            nor how rows are spread over shards.
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
        self._reading = threading.Lock()  # a Parquet reader serves one thread at a time
        self._shards = [pq.ParquetFile(folder / shard["file"], memory_map=True) for shard in manifest["shards"]]
        # First row of every row group, over all shards, and one past the last row.
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
        """The packed data set of a folder; shards are checked for presence and size (``verify`` reads them whole).

        Raises:
            DataError: If the folder is no packed data set, or one of another schema version.
            IntegrityError: If a shard is missing or has another size.
        """
        manifest = read_manifest(folder)
        for shard in manifest["shards"]:
            _check_size(folder, shard)
        return cls(folder, manifest)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def crop(self) -> dict[str, Any] | None:
        """How faces were cut out of its images, as ``FaceCropper.from_manifest`` takes it; None if they were not."""
        entry = self.manifest.get("crop")
        return None if entry is None else {name: entry[name] for name in ("detector", "version", "margin", "size")}

    def image_bytes(self, rows: Sequence[int] | NDArray[np.int64]) -> list[bytes]:
        """The file bytes of the images in these rows, in the order asked for.

        Raises:
            IndexError: If a row is not in the table.
        """
        wanted = np.asarray(rows, dtype=np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"row {wanted.min()} or {wanted.max()} is outside 0 to {len(self) - 1}")
        places = np.searchsorted(self._starts, wanted, side="right") - 1
        images: list[bytes] = [b""] * len(wanted)
        for place in np.unique(places):
            shard, group = self._groups[place]
            with self._reading:
                column = self._shards[shard].read_row_group(group, columns=["image"]).column(0)
            for position in np.flatnonzero(places == place):
                images[position] = column[int(wanted[position] - self._starts[place])].as_py()
        return images


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a packed data set.

    Raises:
        DataError: If there is none, or it is not one this version reads.
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
        raise DataError(f"{path} is no manifest that `agr data pack` writes ({problem}); do not trust this data set.")
    return dict(manifest)


def verify(folder: Path) -> None:
    """Check the SHA-256 of every shard, and that its rows have the data digest of the manifest.

    Raises:
        DataError: If the folder is no packed data set.
        IntegrityError: If a shard or the digest differs.
    """
    for shard in read_manifest(folder)["shards"]:  # before anything reads them as Parquet
        _check_size(folder, shard)
        path = folder / shard["file"]
        found = file_digest(path)
        if found != shard["sha256"]:
            raise IntegrityError(f"{path} has SHA-256 {found}; the manifest says {shard['sha256']}. Fetch it again.")
    packed = Packed.open(folder)
    rows = RowsDigest()
    for row in packed.table.to_dict("records"):
        rows.add({str(column): value for column, value in row.items()})
    found = data_digest(packed.vocabulary, len(packed), rows)
    if found != packed.digest:
        raise IntegrityError(f"the rows of {folder} have data digest {found}; its manifest says {packed.digest}.")


def _labels(shard: pq.ParquetFile) -> pa.Table:
    """The sample table of a shard; columns that came after it was written are null."""
    table = shard.read(columns=list(COLUMNS))
    for field in TABLE_SCHEMA:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(len(table), field.type))
    return table.select(list(COLUMNS))


def _check_size(folder: Path, shard: dict[str, Any]) -> None:
    path = folder / shard["file"]
    size = path.stat().st_size if path.is_file() else None
    if size != shard["bytes"]:
        found = "is missing" if size is None else f"has {size:,} bytes"
        raise IntegrityError(f"{path} {found}; the manifest says {shard['bytes']:,} bytes. Fetch it again.")


@contextmanager
def _open_source(
    source: str, synthetic: SyntheticConfig | None, reader: str | Reader | None
) -> Iterator[tuple[str, Vocabulary, Iterable[RawImage | Skipped]]]:
    """The kind of the source, its vocabulary and its images."""
    drawn = drawn_by(source, synthetic or SyntheticConfig())
    if drawn is not None:
        yield SYNTHETIC, vocabulary_of(drawn.like), draw_faces(drawn)
        return
    folder = Path(source).expanduser()
    if is_packed(folder):
        raise DataError(f"{source} is packed already; use it as it is.")
    with open_files(folder) as files:
        chosen = find_reader(files, reader) if reader is None or isinstance(reader, str) else reader
        yield chosen.name, chosen.vocabulary, read_images(chosen, files)


def _with_labels(images: Iterable[RawImage | Skipped], required: Sequence[str]) -> Iterator[RawImage | Skipped]:
    """The images; those that lack a required label are skipped."""
    for image in images:
        if isinstance(image, RawImage) and (problem := lacking(image, required)) is not None:
            yield Skipped(image.path, problem)
        else:
            yield image


def _check_output(output: Path) -> None:
    if is_packed(output) or not output.exists():
        return
    if output.is_dir() and not any(output.iterdir()):
        return
    raise DataError(f"{output} exists and is not a packed data set; choose another output or remove it yourself.")


def _check_same(output: Path, data_digest: str) -> None:
    present = read_manifest(output)["digest"]
    if present != data_digest:
        raise DataError(
            f"{output} holds another data set (digest {present[:12]}, not {data_digest[:12]}); "
            "choose another output or remove it yourself."
        )
