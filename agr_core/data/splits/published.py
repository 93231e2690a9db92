"""Published splits: a data set's own partition, or a file that lists the part of each image.

N: images.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from agr_core.config import PartitionsConfig
from agr_core.data.splits.split_file import LEFT_OUT, read_split
from agr_core.errors import DataError

_PART_WORDS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
    LEFT_OUT: LEFT_OUT,
}  # fmt: skip
_FILE_COLUMNS = ("file", "data_file")
_EVALUATED_FIRST = ("test", "val", "train")


@dataclass(frozen=True)
class Assignment:
    """Part of each image (N,): ``train``, ``val``, ``test`` or ``LEFT_OUT``.

    ``left_out`` counts images without a part by reason; ``unmatched`` counts entries of the published file whose image
    is not in the data set.
    """

    parts: NDArray[np.object_]
    left_out: Mapping[str, int] = field(default_factory=dict)
    unmatched: int = 0


def official_parts(table: pd.DataFrame, partitions: PartitionsConfig | None) -> Assignment:
    """Return the parts given by the ``partition`` column of the sample table.

    Raises:
        DataError: If no image has a partition, or ``partitions`` does not match the values in the table.
    """
    column = table["partition"] if "partition" in table.columns else pd.Series(None, index=table.index, dtype="str")
    counts = {str(name): int(count) for name, count in column.value_counts().sort_index().items()}
    shown = ", ".join(f"{name!r} ({count:,} images)" for name, count in counts.items())
    if not counts:
        raise DataError(
            "data.split.strategy official: this data set has no official partition; use stratified, kfold or file."
        )
    chosen = PartitionsConfig(train=("train",), val=("val",), test=("test",)) if partitions is None else partitions
    part_of = {str(value): part for part in ("train", "val", "test") for value in getattr(chosen, part)}
    if partitions is None and (strange := [name for name in counts if name not in part_of]):
        raise DataError(
            f"data.split.strategy official: the partitions of this data set are {shown}; {strange[0]!r} is none of "
            "train, val, test. Assign them, as data.split.partitions: {train: [...], val: [...], test: [...]}."
        )
    if partitions is not None and (absent := [name for name in part_of if name not in counts]):
        raise DataError(
            f"data.split.partitions names {absent[0]!r}, which no image has; the partitions of this data set are "
            f"{shown}."
        )
    parts = column.map(part_of).fillna(LEFT_OUT).to_numpy(dtype=object)
    left_out = {f"partition {name!r} is not used": count for name, count in counts.items() if name not in part_of}
    if without := int(column.isna().sum()):
        left_out["no partition"] = without
    return Assignment(parts, left_out)


def listed_parts(table: pd.DataFrame, path: Path) -> Assignment:
    """Return the parts listed in a CSV file, or in a folder of one CSV file per part.

    A file has a column ``file`` or ``data_file`` and a column ``split`` with the part (or ``left_out``); in a folder,
    the name of each file gives the part. Images are matched by path in the data set, else by file name.

    Raises:
        DataError: If a file cannot be read or parsed, lists an image in two parts, or no image of the data set.
    """
    return match(table, _read_listing(path), column="path", source=path)


def assigned_parts(table: pd.DataFrame, path: Path) -> Assignment:
    """Return the parts in a published file or folder (``listed_parts``) or a ``.parquet`` of ``agr data split``.

    Raises:
        DataError: If it cannot be read or parsed, lists an image in two parts, or no image of the data set.
        IntegrityError: If a ``.parquet`` does not have its digest.
    """
    if path.suffix != ".parquet":
        return listed_parts(table, path)
    split = read_split(path)
    listing = dict(zip(split.sample_ids.tolist(), split.parts.tolist(), strict=True))
    return match(table, listing, column="sample_id", source=path)


def match(table: pd.DataFrame, part_of: Mapping[str, str], *, column: str, source: Path) -> Assignment:
    """Return the part of each image, looked up by a column of the sample table.

    Raises:
        DataError: If no image is found, or a file name matches several images.
    """
    keys = table[column].astype(str).tolist()
    part_of_image = [part_of.get(key) for key in keys]
    if not any(part_of_image) and column == "path":
        keys, part_of = _by_file_name(keys, part_of, source)
        part_of_image = [part_of.get(key) for key in keys]
    if not any(part_of_image):
        raise DataError(
            f"{source} names none of the {len(table):,} images (it says {next(iter(part_of), 'nothing')!r}, the data "
            f"set has {keys[0]!r}); give the split of this data set."
        )
    left_out: dict[str, int] = {}
    if unnamed := sum(part is None for part in part_of_image):
        left_out[f"not named by {source.name}"] = unnamed
    if left := sum(part == LEFT_OUT for part in part_of_image):
        left_out[f"left out by {source.name}"] = left
    parts = np.array([part or LEFT_OUT for part in part_of_image], dtype=object)
    return Assignment(parts, left_out, unmatched=len(part_of.keys() - set(keys)))


def bring_together(
    parts: NDArray[np.object_], groups: NDArray[np.int64], *, keep: bool
) -> tuple[NDArray[np.object_], int, int]:
    """Move each group that lies in several parts into one part, moving the fewest images; unless ``keep``.

    On ties, an evaluated part is preferred: test, then val.

    Args:
        parts: Part of each image (N,).
        groups: Group of each image (N,).
        keep: Only count, move nothing.

    Returns:
        The parts (N,), the number of groups in several parts, and the number of images moved.
    """
    codes = pd.Index(_EVALUATED_FIRST).get_indexer(pd.Index(parts))
    counts = np.zeros((int(groups.max()) + 1, len(_EVALUATED_FIRST)), dtype=np.int64)
    assigned = codes >= 0
    np.add.at(counts, (groups[assigned], codes[assigned]), 1)
    straddles = (counts > 0).sum(axis=1) > 1
    if keep:
        return parts, int(straddles.sum()), 0
    home = np.array(_EVALUATED_FIRST, dtype=object)[counts.argmax(axis=1)]  # ties: the first
    together = np.where(assigned & straddles[groups], home[groups], parts)
    return together, int(straddles.sum()), int((together != parts).sum())


def _read_listing(path: Path) -> dict[str, str]:
    """Return the listed part of each image in the file or folder."""
    if path.is_dir():
        files = sorted(path.glob("*.csv"))
        listing: dict[str, str] = {}
        for file in files:
            for name in _names(_read_csv(file), file):
                _enter(listing, name, _part_in_name(file), file)
    elif path.is_file():
        frame = _read_csv(path)
        if "split" not in frame.columns:
            raise DataError(
                f"{path} has no column `split` (its columns: {', '.join(frame.columns)}); add one with train, val or "
                "test, or give the folder that holds one CSV file for each part."
            )
        listing = {}
        for name, word in zip(_names(frame, path), frame["split"], strict=True):
            if word.strip().lower() not in _PART_WORDS:
                raise DataError(f"{path} has split {word!r} for {name!r}; it must be one of {', '.join(_PART_WORDS)}.")
            _enter(listing, name, _PART_WORDS[word.strip().lower()], path)
    else:
        raise DataError(
            f"data.split.path {str(path)!r} does not exist; give a CSV file, a folder of them, or .parquet."
        )
    if not listing:
        raise DataError(f"{path} names no image; a split needs a CSV file with a column file or data_file.")
    return listing


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)
    except ValueError as error:
        raise DataError(
            f"{path} cannot be read as CSV ({error}); give a comma-separated file with a header."
        ) from error


def _names(frame: pd.DataFrame, path: Path) -> list[str]:
    column = next((column for column in _FILE_COLUMNS if column in frame.columns), None)
    if column is None:
        raise DataError(
            f"{path} has no column {' or '.join(_FILE_COLUMNS)} (its columns: {', '.join(frame.columns)}), so it does "
            "not identify its images."
        )
    return [name.replace("\\", "/") for name in frame[column]]


def _part_in_name(path: Path) -> str:
    parts = {_PART_WORDS[word] for word in re.split(r"[^a-z]+", path.stem.lower()) if word in _PART_WORDS}
    if len(parts) != 1:
        raise DataError(
            f"{path}: a folder that is a split holds one CSV file for each part, with train, val (valid) or test in "
            f"its name; {path.name!r} has {'none' if not parts else 'several'} of them."
        )
    return parts.pop()


def _enter(listing: dict[str, str], name: str, part: str, path: Path) -> None:
    if listing.get(name, part) != part:
        raise DataError(f"{path}: {name!r} is in {listing[name]} and in {part}; an image is in one part.")
    listing[name] = part


def _by_file_name(paths: Sequence[str], part_of: Mapping[str, str], source: Path) -> tuple[list[str], dict[str, str]]:
    """Return paths and listing by file name alone, if file names are unique."""
    names = [PurePosixPath(path).name for path in paths]
    listing: dict[str, str] = {}
    for path, part in part_of.items():
        _enter(listing, PurePosixPath(path).name, part, source)
    seen: set[str] = set()
    for name in names:
        if name in seen and name in listing:
            raise DataError(f"{source} names {name!r}, the file name of several images of the data set; give paths.")
        seen.add(name)
    return names, listing
