"""Candidate pairs of similar perceptual hashes, found without comparing all pairs.

As in locality-sensitive hashing, the signs of the coefficients are divided into bands, and images are compared if one
band of 16 signs is equal. Each image is also looked up with all combinations of the three least certain signs of a band
flipped, so that a copy is found even if re-compression moved a coefficient across zero.

N: images; K: coefficients; P: pairs.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from agr_core.data.audit.fingerprint import COEFFICIENTS, MIRROR_SIGNS

_BANDS = 3
_BITS = COEFFICIENTS // _BANDS
_FLIPPED = 3
# Every band has low and high frequencies, so that a change of light does not affect all signs of a band.
_BAND_COLUMNS = np.arange(COEFFICIENTS).reshape(_BITS, _BANDS).T

_MIN_COSINE = 0.93
_PAIRS_AT_ONCE = 2_000_000


def similar_pairs(coefficients: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return pairs that may show the same picture.

    Args:
        coefficients: (N, K), each row of unit length.

    Returns:
        The rows of each pair (P, 2), the smaller first, ordered; and whether the second is mirrored (P,).
    """
    rows: list[NDArray[np.int64]] = []
    flags: list[NDArray[np.bool_]] = []
    for mirrored in (False, True):
        probes = coefficients * MIRROR_SIGNS if mirrored else coefficients
        candidates = [_alike(pairs, probes, coefficients) for pairs in _band_matches(probes, coefficients)]
        pairs = np.unique(np.concatenate([np.empty((0, 2), dtype=np.int64), *candidates]), axis=0)
        rows.append(pairs)
        flags.append(np.full(len(pairs), mirrored))
    return np.concatenate(rows), np.concatenate(flags)


def _alike(
    pairs: NDArray[np.int64], probes: NDArray[np.float32], coefficients: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Return the pairs of different images with highly correlated coefficients, the smaller row first."""
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    cosine = np.einsum("pk,pk->p", probes[pairs[:, 0]], coefficients[pairs[:, 1]])
    return np.sort(pairs[cosine >= _MIN_COSINE], axis=1)


def _band_matches(probes: NDArray[np.float32], coefficients: NDArray[np.float32]) -> Iterator[NDArray[np.int64]]:
    """Yield pairs (p, 2) of a probe and an image that agree in a band, a bounded number at a time."""
    for columns in _BAND_COLUMNS:
        stored = _keys(coefficients[:, columns])
        order = np.argsort(stored, kind="stable")
        stored = stored[order]
        for keys in _probed_keys(probes[:, columns]):
            first = np.searchsorted(stored, keys, side="left")
            counts = np.searchsorted(stored, keys, side="right") - first
            for part in _parts(counts):
                repeats = counts[part]
                probe = np.repeat(np.arange(part.start, part.stop), repeats)
                offset = np.arange(len(probe)) - np.repeat(np.cumsum(repeats) - repeats, repeats)
                yield np.stack([probe, order[np.repeat(first[part], repeats) + offset]], axis=1)


def _parts(counts: NDArray[np.int64]) -> Iterator[slice]:
    """Yield slices of the probes with about ``_PAIRS_AT_ONCE`` matches each."""
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = int(ends[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _PAIRS_AT_ONCE, side="right")))
        yield slice(start, stop)
        start = stop


def _keys(band: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the signs of a band as a number (N,)."""
    return np.asarray((band > 0) @ (1 << np.arange(_BITS)), dtype=np.int64)


def _probed_keys(band: NDArray[np.float32]) -> Iterator[NDArray[np.int64]]:
    """Yield the signs of a band, and those with its least certain signs flipped."""
    keys = _keys(band)
    uncertain = np.left_shift(1, np.argsort(np.abs(band), axis=1)[:, :_FLIPPED].astype(np.int64))
    for count in range(_FLIPPED + 1):
        for chosen in combinations(range(_FLIPPED), count):
            yield keys ^ uncertain[:, list(chosen)].sum(axis=1)
