from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agr_core.data.packed.table import RowsDigest, SampleIds, age_ranges, same_side_groups


def table_of(contents: list[int], subjects: list[int | None], sources: list[int]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "sha256": [str(content) for content in contents],
            "subject": pd.Series([None if subject is None else f"s{subject}" for subject in subjects], dtype="str"),
            "source": [f"set{source}" for source in sources],
        }
    )


rows = st.lists(
    st.tuples(st.integers(0, 12), st.none() | st.integers(0, 6), st.integers(0, 1)), min_size=1, max_size=30
)


@given(rows)
def test_groups_are_what_is_connected_by_bytes_or_subject(samples: list[tuple[int, int | None, int]]) -> None:
    contents, subjects, sources = (list(column) for column in zip(*samples, strict=True))
    groups = same_side_groups(table_of(contents, subjects, sources))

    def tied(a: int, b: int) -> bool:
        same_subject = subjects[a] is not None and (subjects[a], sources[a]) == (subjects[b], sources[b])
        return contents[a] == contents[b] or same_subject

    count = len(samples)
    reach = np.array([[tied(a, b) for b in range(count)] for a in range(count)])
    for _ in range(count):  # transitive closure by brute force
        reach = reach | (reach.astype(int) @ reach.astype(int) > 0)
    np.testing.assert_array_equal(groups[:, None] == groups[None, :], reach)


def test_a_subject_s_name_counts_only_within_its_source() -> None:
    assert same_side_groups(table_of([1, 2, 3], [7, 7, 7], [0, 1, 0])).tolist() == [0, 1, 0]


def test_sample_ids_come_from_the_image_and_stay_unique_for_repeated_bytes() -> None:
    ids = SampleIds()
    one, two = "0123456789abcdef" + "0" * 48, "f" * 64
    assert [ids.next(sha) for sha in (one, two, one, one)] == [
        "0123456789abcdef",
        "ffffffffffffffff",
        "0123456789abcdef-1",
        "0123456789abcdef-2",
    ]


ROW: dict[str, Any] = {
    "sample_id": "a", "path": "a.jpg", "age": 30.0, "age_low": 30.0, "age_high": 30.0, "gender": "male", "race": None,
    "subject": None, "partition": None, "attributes": None, "source": "utkface", "sha256": "ab",
}  # fmt: skip


def digest_of(*changes: dict[str, Any]) -> str:
    rows = RowsDigest()
    for change in changes:
        rows.add(ROW | change)
    return rows.hexdigest()


@pytest.mark.parametrize(
    "change",
    [{"age": 31.0}, {"age_low": 29.0}, {"age_high": 31.0}, {"gender": "female"}, {"race": "White"}, {"subject": "x"},
     {"sha256": "cd"}, {"sample_id": "b"}, {"age": None}, {"partition": "0"}, {"attributes": (True, None)}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_the_digest_covers_every_label_and_the_image(change: dict[str, Any]) -> None:
    assert digest_of(change) != digest_of({})


@pytest.mark.parametrize(
    "change",
    [
        {"path": "elsewhere/a.jpg"},
        {"source": "other"},
        {"race": float("nan")},
        {"age": np.float64(30)},
        {"age": 30},
        {"partition": float("nan"), "attributes": float("nan")},
    ],
    ids=["path", "reader", "NaN for missing", "numpy number", "whole number", "NaN for missing later columns"],
)
def test_the_digest_covers_neither_where_a_file_lay_nor_how_a_value_is_held(change: dict[str, Any]) -> None:
    assert digest_of(change) == digest_of({})


def test_the_digest_covers_the_order_of_the_rows() -> None:
    first, second = {"sha256": "1"}, {"sha256": "2"}
    assert digest_of(first, second) != digest_of(second, first)


def test_age_ranges_are_the_distinct_ones_that_are_known() -> None:
    nan = float("nan")
    table = pd.DataFrame({"age": [1, 1, nan, 30], "age_low": [0, 0, nan, 30], "age_high": [2, 2, nan, 30]})
    assert age_ranges(table) == {(0.0, 2.0), (30.0, 30.0)}
