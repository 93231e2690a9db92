from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.catalog.ids import match_prefix, new_sweep_id, trial_id
from orchestrator.errors import AmbiguousIdError, NotFoundError


def test_sweep_id_is_name_utc_time_and_four_hex_digits() -> None:
    moment = datetime(2026, 11, 21, 22, 34, 5, tzinfo=UTC)
    assert re.fullmatch(r"quick-20261121-223405-[0-9a-f]{4}", new_sweep_id("quick", now=moment))


@given(st.text(max_size=20), st.sets(st.integers(0, 2**32 - 1), max_size=50))
def test_trial_ids_of_a_sweep_differ(sweep: str, numbers: set[int]) -> None:
    ids = {trial_id(sweep, number) for number in numbers}
    assert len(ids) == len(numbers)
    assert all(re.fullmatch(r"[0-9a-f]{8}", one) for one in ids)


def test_the_first_hundred_thousand_trial_ids_differ() -> None:
    assert len({trial_id("s", number) for number in range(100_000)}) == 100_000


@pytest.mark.parametrize("number", [-1, 2**32])
def test_numbers_outside_32_bits_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match=str(number)):
        trial_id("s", number)


def test_a_unique_prefix_is_completed() -> None:
    assert match_prefix("ab", ["abc1", "b2"], kind="trial", where="here") == "abc1"


def test_an_exact_id_wins_over_longer_ones() -> None:
    assert match_prefix("ab", ["ab", "abc"], kind="trial", where="here") == "ab"


def test_an_ambiguous_prefix_lists_the_candidates() -> None:
    with pytest.raises(AmbiguousIdError, match="abc1, abd2"):
        match_prefix("ab", ["abd2", "abc1", "x"], kind="trial", where="here")


def test_an_unknown_prefix_says_where_it_looked() -> None:
    with pytest.raises(NotFoundError, match=r"no trial starts with 'zz' in here"):
        match_prefix("zz", ["abd2"], kind="trial", where="here")
