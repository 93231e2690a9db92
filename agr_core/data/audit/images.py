"""Labelled images to audit, from a raw or a packed data set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agr_core.data.packed.joined import Joined
from agr_core.data.packed.pack import Packed
from agr_core.data.readers import Reader, Skipped, find_reader
from agr_core.data.readers.base import ImageLabels
from agr_core.data.readers.files import Files, UnreadableFileError, is_image_name, open_files

_LABELS = ("age", "age_low", "age_high", "gender", "race", "subject", "partition", "attributes")

# Reasons of the manifest's skipped files that concern the file, not its labels.
_FILE_REASONS = (
    "the file is empty",
    "not an image of a known format",
    "damaged",
    "an image of more than",
    "OpenCV cannot decode",
    "larger than",
    "cannot be read",
    "not a regular file",
    "packed in a way",
    "encrypted",
    "a link",
    "an absolute path",
    "a path out of the archive",
    "the name is not UTF-8",
)
_NO_IMAGE = ("not an image file by its name", "an archive beside", "an archive of a kind")


class Images(Protocol):
    """Interface of labelled images, read by row."""

    @property
    def table(self) -> pd.DataFrame:
        """One row per image with the columns of the sample table; ``sample_id`` and ``sha256`` only if packed."""
        ...

    @property
    def unreadable(self) -> tuple[Skipped, ...]:
        """Files without a row because they cannot be read."""
        ...

    @property
    def bad_names(self) -> tuple[Skipped, ...]:
        """Images without a row because their name or labels cannot be parsed."""
        ...

    def read(self, rows: Sequence[int]) -> list[bytes | Skipped]:
        """Return the file content of each row, or the reason why it cannot be read."""
        ...


class RawImages:
    """Images of a folder or archive with the labels of a reader; opened by ``open_raw``."""

    def __init__(self, files: Files, reader: Reader) -> None:
        self._files = files
        labelling = reader.labelling(files)
        rows, bad = [], list(labelling.skipped)
        for path in files.paths:
            if path in labelling.files or not is_image_name(path):
                continue
            labels_or_reason = labelling.labels.get(reader.key(path), "no label names it")
            if isinstance(labels_or_reason, ImageLabels):
                labels = {label: getattr(labels_or_reason, label) for label in _LABELS}
                rows.append({"path": path, "source": reader.name, **labels})
            else:
                bad.append(Skipped(path, labels_or_reason))
        self.table = pd.DataFrame(rows, columns=["path", "source", *_LABELS])
        for label in ("age", "age_low", "age_high"):
            self.table[label] = self.table[label].astype(np.float64)
        self.unreadable = tuple(Skipped(path, reason) for path, reason in files.refused)
        self.bad_names = tuple(bad)

    def read(self, rows: Sequence[int]) -> list[bytes | Skipped]:
        """Return the file content of each row, or the reason why it cannot be read."""
        return [self._read(str(path)) for path in self.table["path"].iloc[list(rows)]]

    def _read(self, path: str) -> bytes | Skipped:
        try:
            return self._files.read(path)
        except UnreadableFileError as error:
            return Skipped(path, str(error))


class PackedImages:
    """Images of one or several joined packed data sets; their manifests list the files skipped by packing."""

    def __init__(self, data: Packed | Joined) -> None:
        self._members, self._starts = (
            (data.members, data.starts) if isinstance(data, Joined) else ((data,), np.array([0, len(data)]))
        )
        self.table: pd.DataFrame = data.table
        skipped = [
            Skipped(entry["file"], entry["reason"])
            for member in self._members
            for entry in member.manifest["skipped"]
            if not entry["reason"].startswith(_NO_IMAGE)
        ]
        self.unreadable = tuple(entry for entry in skipped if entry.reason.startswith(_FILE_REASONS))
        self.bad_names = tuple(entry for entry in skipped if not entry.reason.startswith(_FILE_REASONS))

    def read(self, rows: Sequence[int]) -> list[bytes | Skipped]:
        """Return the file content of each row."""
        wanted: NDArray[np.int64] = np.asarray(rows, dtype=np.int64)
        member_of = np.searchsorted(self._starts, wanted, side="right") - 1
        images: list[bytes | Skipped] = [b""] * len(wanted)
        for member in np.unique(member_of):
            positions = np.flatnonzero(member_of == member)
            files = self._members[member].image_bytes(wanted[positions] - self._starts[member])
            for position, data in zip(positions, files, strict=True):
                images[position] = data
        return images


@contextmanager
def open_raw(source: Path, reader: str | None = None) -> Iterator[RawImages]:
    """Open the images of a folder or archive for the block.

    Raises:
        DataError: If the source or a label file cannot be read, or no reader recognises the files.
    """
    with open_files(source) as files:
        yield RawImages(files, find_reader(files, reader))
