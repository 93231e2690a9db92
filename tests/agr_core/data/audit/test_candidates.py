from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agr_core.data.audit import candidates
from agr_core.data.audit.candidates import similar_pairs
from agr_core.data.audit.fingerprint import MIRROR_SIGNS, fingerprint

from .conftest import jpeg, pixels_of


def _coefficients(images: list[bytes]) -> NDArray[np.float32]:
    found = [fingerprint(data).coefficients for data in images]
    return np.stack([one for one in found if one is not None])


def test_mirroring_an_image_changes_the_signs_of_its_odd_frequencies(drawn: list[bytes]) -> None:
    mirrored = [jpeg(np.ascontiguousarray(pixels_of(data)[:, ::-1]), 95) for data in drawn]
    agreement = np.einsum("nk,nk->n", _coefficients(drawn) * MIRROR_SIGNS, _coefficients(mirrored))
    assert agreement.min() > 0.99


def test_every_recompressed_and_every_mirrored_copy_is_a_candidate(drawn: list[bytes]) -> None:
    copies = [jpeg(pixels_of(data), 30) for data in drawn]
    mirrored = [jpeg(np.ascontiguousarray(pixels_of(data)[:, ::-1]), 40) for data in drawn]
    pairs, flags = similar_pairs(_coefficients([*drawn, *copies, *mirrored]))
    found = {(first, second, flag) for (first, second), flag in zip(pairs.tolist(), flags.tolist(), strict=True)}
    count = len(drawn)
    assert {(row, row + count, False) for row in range(count)} <= found
    assert {(row, row + 2 * count, True) for row in range(count)} <= found


def test_pairs_are_those_of_comparing_all_where_a_band_agrees() -> None:
    rng = np.random.default_rng(5)
    base = rng.normal(size=(300, 48))
    vectors = np.concatenate([base, base + rng.normal(scale=0.02, size=base.shape)])
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    pairs, flags = similar_pairs(vectors)
    cosine = vectors @ vectors.T
    wanted = [(i, j) for i, j in np.argwhere(cosine >= 0.93).tolist() if i < j]
    assert sorted(map(tuple, pairs[~flags].tolist())) == sorted(wanted)
    assert len(wanted) == 300


def test_far_fewer_pairs_are_compared_than_there_are() -> None:
    rng = np.random.default_rng(6)
    vectors = rng.normal(size=(4000, 48)).astype(np.float32)
    compared = sum(len(pairs) for pairs in candidates._band_matches(vectors, vectors))
    assert compared < 4000 * 4000 / 50


def test_no_image_and_one_image_have_no_pair() -> None:
    for count in (0, 1):
        pairs, flags = similar_pairs(np.ones((count, 48), dtype=np.float32))
        assert (len(pairs), len(flags)) == (0, 0)
