"""Examination of every image: undecodable files, unusual sizes, copies of one picture.

N: images that decode.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.cluster.hierarchy import DisjointSet

from agr_core.data.audit.candidates import similar_pairs
from agr_core.data.audit.fingerprint import MIN_CONTRAST, Fingerprint, fingerprint, thumbnail
from agr_core.data.audit.images import Images
from agr_core.data.audit.same_picture import compare
from agr_core.data.packed.table import SampleIds
from agr_core.data.readers import Skipped

MIN_SIDE = 16
"""Images with a side shorter than this, in pixels, count as tiny."""

MAX_RATIO = 4.0
"""Images with a side ratio above this count as thin."""

WORKERS = 2
"""Default number of decoding processes."""

_IN_PROCESS = 1_500  # number of images below which starting processes does not pay
_ALL_PAIRS = 10
_CHUNK = 64
_CHUNKS_AHEAD = 4  # per worker


@dataclass(frozen=True)
class NearPair:
    """Two rows with different files that show one picture; ``difference`` as in ``same_picture.Comparison``."""

    first: int
    second: int
    mirrored: bool
    difference: float


@dataclass(frozen=True)
class Examined:
    """Findings from the images alone, before any split.

    ``table`` is the sample table of the N images that decode, with ``sample_id`` and ``sha256``; ``rows`` (N,) are
    their indices in ``Images``; ``unreadable`` and ``bad_names`` are the files not in it; ``sizes`` (N, 2) are widths
    and heights in pixels; ``near`` are pairs of different files that show one picture, with only the first of
    byte-identical files.
    """

    table: pd.DataFrame
    rows: NDArray[np.int64]
    unreadable: tuple[Skipped, ...]
    bad_names: tuple[Skipped, ...]
    sizes: NDArray[np.int64]
    near: tuple[NearPair, ...]

    @property
    def tiny(self) -> NDArray[np.int64]:
        """Rows of images with a side below ``MIN_SIDE``."""
        return np.flatnonzero(self.sizes.min(axis=1) < MIN_SIDE).astype(np.int64)

    @property
    def thin(self) -> NDArray[np.int64]:
        """Rows of images with a side ratio above ``MAX_RATIO``."""
        return np.flatnonzero(self.sizes.max(axis=1) > MAX_RATIO * self.sizes.min(axis=1)).astype(np.int64)


def examine(images: Images, *, workers: int = WORKERS) -> Examined:
    """Decode every image, at reduced size if its format supports that, and find copies.

    Args:
        images: The labelled images.
        workers: Number of decoding processes; 0, and small data sets: decode in this process. The result does not
            depend on it.
    """
    rows: list[int] = []
    prints: list[Fingerprint] = []
    unreadable = list(images.unreadable)
    for row, seen in enumerate(_fingerprints(images, workers)):
        problem = seen.reason if isinstance(seen, Skipped) else seen.problem
        if isinstance(seen, Skipped) or problem is not None:
            unreadable.append(Skipped(str(images.table["path"].iloc[row]), str(problem)))
        else:
            rows.append(row)
            prints.append(seen)
    return Examined(
        table=_table(images.table.iloc[rows].reset_index(drop=True), prints),
        rows=np.array(rows, dtype=np.int64),
        unreadable=tuple(sorted(unreadable, key=lambda entry: entry.file)),
        bad_names=images.bad_names,
        sizes=np.array([(image_print.width, image_print.height) for image_print in prints], dtype=np.int64).reshape(
            -1, 2
        ),
        near=tuple(_near(images, rows, prints)),
    )


def _table(table: pd.DataFrame, prints: Sequence[Fingerprint]) -> pd.DataFrame:
    if "sha256" in table.columns:
        return table
    ids = SampleIds()
    return table.assign(
        sample_id=[ids.next(image_print.sha256) for image_print in prints],
        sha256=[image_print.sha256 for image_print in prints],
    )


def _fingerprints(images: Images, workers: int) -> Iterator[Fingerprint | Skipped]:
    """Yield the fingerprint of each row, in order; only a few images are in memory at a time."""
    total = len(images.table)
    chunks = (images.read(range(start, min(start + _CHUNK, total))) for start in range(0, total, _CHUNK))
    if workers == 0 or total < _IN_PROCESS:
        for chunk in chunks:
            yield from _fingerprint_all(chunk)
        return
    waiting: deque[Future[list[Fingerprint | Skipped]]] = deque()
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin_worker) as pool:
        for chunk in chunks:
            waiting.append(pool.submit(_fingerprint_all, chunk))
            if len(waiting) > _CHUNKS_AHEAD * workers:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _begin_worker() -> None:
    cv2.setNumThreads(1)


def _fingerprint_all(files: Sequence[bytes | Skipped]) -> list[Fingerprint | Skipped]:
    return [file if isinstance(file, Skipped) else fingerprint(file) for file in files]


def _near(images: Images, rows: Sequence[int], prints: Sequence[Fingerprint]) -> Iterator[NearPair]:
    """Yield pairs of different files that show one picture; the first of byte-identical files represents all.

    In a group of more than ``_ALL_PAIRS`` images, pairs that others connect already are not compared: frames of one
    video would otherwise cost the square of their number.
    """
    first_of: dict[str, int] = {}
    for index, image_print in enumerate(prints):
        if image_print.contrast >= MIN_CONTRAST:
            first_of.setdefault(image_print.sha256, index)
    indices = np.fromiter(first_of.values(), dtype=np.int64, count=len(first_of))
    if len(indices) < 2:
        return
    pairs, mirrored = similar_pairs(np.stack([_coefficients(prints[index]) for index in indices]))
    pairs = indices[pairs]
    thumbnails = _thumbnails(images, rows, np.unique(pairs).tolist())
    reported: set[tuple[int, int]] = set()
    groups = DisjointSet(indices.tolist())
    for (first, second), flip in zip(pairs.tolist(), mirrored.tolist(), strict=True):
        if groups.subset_size(first) > _ALL_PAIRS and groups.connected(first, second):
            continue
        other = np.ascontiguousarray(thumbnails[second][:, ::-1]) if flip else thumbnails[second]
        comparison = None if (first, second) in reported else compare(thumbnails[first], other)
        if comparison is not None and comparison.same:
            groups.merge(first, second)
            reported.add((first, second))  # a symmetric picture is not also reported as mirrored
            yield NearPair(first, second, flip, round(comparison.difference, 4))


def _coefficients(image_print: Fingerprint) -> NDArray[np.float32]:
    assert image_print.coefficients is not None, "an image that decodes has them"
    return image_print.coefficients


def _thumbnails(images: Images, rows: Sequence[int], indices: Sequence[int]) -> dict[int, NDArray[np.uint8]]:
    """Return thumbnails of some images; they are read again, because few images have candidates."""
    thumbnails: dict[int, NDArray[np.uint8]] = {}
    for start in range(0, len(indices), _CHUNK):
        chunk = indices[start : start + _CHUNK]
        for index, data in zip(chunk, images.read([rows[index] for index in chunk]), strict=True):
            assert isinstance(data, bytes), "it was read a moment ago"
            thumbnails[index] = thumbnail(data)
    return thumbnails
