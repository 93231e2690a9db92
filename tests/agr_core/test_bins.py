"""Age groups, checked year by year against the reports' own words and against the label ranges of real data sets."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agr_core.bins import MAX_AGE, SCHEMES, Bins, check_bins, nearest_year, schemes_for_ranges
from agr_core.errors import DataError, UnknownComponentError

# Copied from the reports' tables (S4-Z3, S4-Z5, S4-Z6), from docs/labels.md for Adience and from the FairFace paper.
PUBLISHED = {
    "utk4": "0-12 13-19 20-59 60-116",
    "utk7a": "0-2 3-9 10-16 17-25 26-45 46-60 61-116",
    "utk31": " ".join(["0-2", *(f"{low}-{low + 1}" for low in range(3, 60, 2)), "61-116"]),
    "utk7": "0-2 3-6 7-14 15-30 31-40 41-65 66-116",
    "adience8": "0-3 4-7 8-13 14-22 23-34 35-45 46-54 55-116",
    "fairface9": "0-2 3-9 10-19 20-29 30-39 40-49 50-59 60-69 70-116",
}
ADIENCE_RANGES = [(0, 2), (4, 6), (8, 12), (15, 20), (25, 32), (38, 43), (48, 53), (60, 100)]
FAIRFACE_RANGES = [(0, 2), (3, 9), (10, 19), (20, 29), (30, 39), (40, 49), (50, 59), (60, 69), (70, 116)]

edges = st.sets(st.integers(1, MAX_AGE), min_size=1).map(lambda above: (0, *sorted(above)))


@pytest.mark.parametrize("scheme", PUBLISHED)
def test_every_year_falls_into_the_published_bin(scheme: str) -> None:
    spans = [tuple(map(int, span.split("-"))) for span in PUBLISHED[scheme].split()]
    expected = [next(k for k, (low, high) in enumerate(spans) if low <= age <= high) for age in range(MAX_AGE + 1)]
    assert Bins.from_spec(scheme).index(np.arange(MAX_AGE + 1)).tolist() == expected


@given(edges=edges, age=st.floats(0, 200))
def test_the_bin_is_the_last_one_that_begins_at_or_below_the_age(edges: tuple[int, ...], age: float) -> None:
    assert Bins(edges).index([age])[0] == sum(edge <= age for edge in edges) - 1


@given(edges=edges)
def test_each_bins_centre_is_the_mean_of_its_years_and_lies_in_it(edges: tuple[int, ...]) -> None:
    bins = Bins(edges)
    in_bin = bins.index(np.arange(MAX_AGE + 1))
    means = [np.arange(MAX_AGE + 1)[in_bin == k].mean() for k in range(bins.count)]
    assert bins.centers.tolist() == pytest.approx(means)
    assert bins.index(nearest_year(bins.centers)).tolist() == list(range(bins.count))


def test_reported_means_and_modes_of_the_utk7_bins_lie_in_their_bins() -> None:
    means = [1.300312, 4.190101, 10.075194, 24.855938, 35.379668, 52.474536, 77.551501]  # S4-D12, figure 107
    modes = [1, 3, 8, 26, 35, 45, 85]
    bins = Bins.from_spec("utk7")
    assert bins.index(means).tolist() == bins.index(modes).tolist() == list(range(7))


def test_labels_name_spans_single_years_and_the_open_last_bin() -> None:
    assert Bins.from_spec("utk7").labels == ("0-2", "3-6", "7-14", "15-30", "31-40", "41-65", "66+")
    assert Bins((0, 5, 6, 10)).labels == ("0-4", "5", "6-9", "10+")
    assert Bins.from_spec("year").labels[:2] == ("0", "1")
    assert Bins.from_spec("year").labels[-1] == "116+"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_ages_beyond_the_oldest_fall_into_the_last_bin(scheme: str) -> None:
    bins = Bins.from_spec(scheme)
    assert bins.index([MAX_AGE + 1, 150.0]).tolist() == [bins.count - 1] * 2


@pytest.mark.parametrize("age", [-1, -0.001, math.nan, math.inf])
def test_an_age_that_is_no_age_is_refused(age: float) -> None:
    with pytest.raises(DataError, match=r"is in no bin \(1 such of 3\): ages are years from 0 up"):
        Bins.from_spec("utk7").index([4, age, 30])


def test_no_ages_have_no_bins() -> None:
    assert Bins.from_spec("utk4").index([]).tolist() == []


@pytest.mark.parametrize(
    "spec",
    [(0,), (), (1, 5), (0, 5, 5), (0, 9, 5), (0, MAX_AGE + 1), (-3, 0, 5)],
    ids=["one bin", "no bins", "does not start at 0", "repeat", "descends", "beyond the oldest age", "below 0"],
)
def test_edges_that_make_no_bins_are_refused(spec: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must list the lowest age of each of at least two bins, ascending from 0"):
        Bins.from_spec(spec)


def test_an_unknown_scheme_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UnknownComponentError, match=r"unknown bins 'utk8'\. Did you mean 'utk7'\? Schemes: adience8,"):
        check_bins("utk8")


@given(edges=edges, low=st.integers(0, 120), years=st.integers(0, 60))
def test_a_range_is_cut_when_its_years_lie_in_several_bins(edges: tuple[int, ...], low: int, years: int) -> None:
    bins = Bins(edges)
    several = len(set(bins.index(np.arange(low, low + years + 1)).tolist())) > 1
    assert bins.splits_range([low], [low + years]).tolist() == [several]


def test_each_real_data_set_of_ranges_has_the_scheme_made_for_it() -> None:
    assert schemes_for_ranges(ADIENCE_RANGES) == ("adience8",)
    assert schemes_for_ranges(FAIRFACE_RANGES) == ("fairface9",)
    assert schemes_for_ranges([]) == tuple(SCHEMES)


def test_bins_that_cut_a_label_range_are_refused_with_those_that_do_not() -> None:
    Bins.from_spec("adience8").check_ranges(ADIENCE_RANGES)
    with pytest.raises(DataError, match=r"the edge at 31 cuts the label range 25-32 .* cut no range here: adience8;"):
        Bins.from_spec("utk7").check_ranges(ADIENCE_RANGES)


def test_estimates_round_to_the_nearest_year_halves_up() -> None:
    assert nearest_year([0.0, 2.49, 2.5, 3.5, 115.9]).tolist() == [0, 2, 3, 4, 116]


def test_bins_import_without_torch() -> None:
    code = "import sys, agr_core.bins; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
