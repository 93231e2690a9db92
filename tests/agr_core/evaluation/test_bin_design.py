"""Suggested bins: the best of all there are, found by trying them all."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agr_core.bins import MAX_AGE, Bins, check_bins
from agr_core.errors import InputError
from agr_core.evaluation.bin_design import even_bins, narrow_confusion, score_bins, suggest_bins

WEIGHS: Any = ("bins", "ages", "images")


def by_hand(confusion: np.ndarray, starts: tuple[int, ...], weigh: str) -> float:
    """The score of blocks beginning at ``starts``, in plain loops."""
    size = len(confusion)
    scores = []
    for start, stop in zip(starts, (*starts[1:], size), strict=True):
        block = range(start, stop)
        inside = {i: sum(confusion[i, j] for j in block) for i in block}
        if weigh == "bins":
            images = sum(confusion[i].sum() for i in block)
            scores.append(sum(inside.values()) / images if images else 0.0)
        elif weigh == "ages":
            scores += [inside[i] / confusion[i].sum() for i in block if confusion[i].sum()]
        else:
            scores += [sum(inside.values())]
    return sum(scores) / (confusion.sum() if weigh == "images" else len(scores))


confusions = st.integers(3, 8).flatmap(
    lambda size: st.lists(st.lists(st.integers(0, 9), min_size=size, max_size=size), min_size=size, max_size=size)
)


@pytest.mark.parametrize("weigh", WEIGHS)
@settings(max_examples=60, deadline=None)
@given(counts=confusions, data=st.data())
def test_no_other_bins_score_higher(weigh: Any, counts: list[list[int]], data: st.DataObject) -> None:
    confusion = np.array(counts)
    size = len(confusion)
    count = data.draw(st.integers(2, size))
    min_share = data.draw(st.sampled_from([0.0, 0.1, 0.3]))
    least = max(1.0, min_share * confusion.sum())
    everything = [
        starts
        for starts in ((0, *inner) for inner in combinations(range(1, size), count - 1))
        if all(confusion[i:j].sum() >= least for i, j in zip(starts, (*starts[1:], size), strict=True))
    ]
    narrow = Bins(tuple(range(size)))
    if not everything:
        with pytest.raises(InputError, match="cannot be made of these ages"):
            suggest_bins(narrow, confusion, count, weigh=weigh, min_share=min_share)
        return

    found = suggest_bins(narrow, confusion, count, weigh=weigh, min_share=min_share)

    assert found.bins.edges in everything
    assert found.score == pytest.approx(by_hand(confusion, found.bins.edges, weigh))
    assert found.score == pytest.approx(max(by_hand(confusion, starts, weigh) for starts in everything))


@pytest.mark.parametrize("weigh", WEIGHS)
def test_blocks_that_are_there_are_found(weigh: Any) -> None:
    rng = np.random.default_rng(0)
    edges = (0, 4, 12, 30, 60)
    true = rng.integers(0, MAX_AGE + 1, 6000)
    bins = Bins(edges)
    lows = np.array([*edges, MAX_AGE + 1])
    group = bins.index(true)
    predicted = rng.integers(lows[group], lows[group + 1])  # any age of the true group, none of another
    narrow, confusion = narrow_confusion(true.astype(float), predicted.astype(float), bins=even_bins(2))

    found = suggest_bins(narrow, confusion, 5, weigh=weigh)

    assert found.bins.edges == edges
    assert found.score == pytest.approx(1.0)
    assert found.shares == (1.0,) * 5
    assert sum(found.images) == 6000
    assert check_bins(found.bins.edges) == edges


def test_known_bins_are_scored_on_the_same_scale() -> None:
    rng = np.random.default_rng(1)
    true = rng.integers(0, 100, 3000).astype(float)
    narrow, confusion = narrow_confusion(true, np.abs(true + rng.normal(0, 8, 3000)), bins=even_bins(1))
    for weigh in WEIGHS:
        best = suggest_bins(narrow, confusion, 7, weigh=weigh)
        assert 0 < score_bins(Bins.from_spec("utk7"), narrow, confusion, weigh=weigh).score <= best.score
    narrow, confusion = narrow_confusion(true, true, bins=even_bins(2))
    with pytest.raises(InputError, match="the edge at 3"):
        score_bins(Bins.from_spec("utk7"), narrow, confusion, weigh="bins")


def test_predictions_count_as_the_nearest_whole_year() -> None:
    narrow, confusion = narrow_confusion(np.array([3.0, 3.0]), np.array([2.6, 2.4]), bins=even_bins(1))
    assert confusion[3, 3] == 1
    assert confusion[3, 2] == 1
    assert narrow.count == MAX_AGE + 1


def test_the_reports_edges_can_be_found_in_its_31_groups_and_not_in_pairs_of_years() -> None:
    """S4-Z7: report S4 drew the confusion of 1-2, 3-4, ... 61-116, and its seven begin at 3, 7, 15, 31 and 41."""
    rng = np.random.default_rng(2)
    edges = (0, 3, 7, 15, 31, 41)
    true = rng.integers(0, MAX_AGE + 1, 8000)
    lows = np.array([*edges, MAX_AGE + 1])
    group = Bins(edges).index(true)
    predicted = rng.integers(lows[group], lows[group + 1]).astype(float)
    for bins, found in ((Bins.from_spec("utk31"), True), (even_bins(2), False)):
        narrow, confusion = narrow_confusion(true.astype(float), predicted, bins=bins)
        suggestion = suggest_bins(narrow, confusion, 6, weigh="bins")
        assert (suggestion.bins.edges == edges) == found
