"""Scores from arrays, against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as reference

from agr_core.evaluation.scores import (
    accuracy,
    class_report,
    confusion_counts,
    macro_scores,
    range_distance,
)

classes = st.integers(2, 9).flatmap(
    lambda count: st.tuples(
        st.just(count),
        st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), min_size=1, max_size=40),
    )
)


@given(case=classes)
def test_scores_equal_scikit_learns_also_where_classes_are_missing(case: tuple[int, list[tuple[int, int]]]) -> None:
    count, pairs = case
    true, predicted = np.array(pairs).T
    confusion = confusion_counts(true, predicted, count)
    assert confusion.tolist() == reference.confusion_matrix(true, predicted, labels=range(count)).tolist()
    assert accuracy(confusion) == pytest.approx(reference.accuracy_score(true, predicted))
    precision, recall, f1, _ = reference.precision_recall_fscore_support(
        true, predicted, average="macro", zero_division=0
    )
    assert macro_scores(confusion) == pytest.approx({"precision": precision, "recall": recall, "f1": f1})


@given(case=classes)
def test_the_report_of_classes_equals_scikit_learns(case: tuple[int, list[tuple[int, int]]]) -> None:
    count, pairs = case
    true, predicted = np.array(pairs).T
    labels = [f"class {place}" for place in range(count)]
    counts = confusion_counts(true, predicted, count).tolist()
    found = class_report({"labels": labels, "counts": counts})
    expected = reference.classification_report(
        true, predicted, labels=range(count), target_names=labels, output_dict=True, zero_division=0
    )
    for label in labels:
        scores = {"images": expected[label]["support"], "f1": expected[label]["f1-score"]}
        scores |= {name: expected[label][name] for name in ("precision", "recall")}
        assert found[label] == pytest.approx(scores)


@given(case=classes, off_by=st.integers(0, 10))
def test_off_by_counts_neighbouring_classes_as_right(case: tuple[int, list[tuple[int, int]]], off_by: int) -> None:
    count, pairs = case
    true, predicted = np.array(pairs).T
    expected = np.mean(np.abs(true - predicted) <= off_by)
    assert accuracy(confusion_counts(true, predicted, count), off_by=off_by) == pytest.approx(expected)


def test_the_distance_to_a_range_is_zero_inside_and_at_both_ends() -> None:
    years = np.array([24.0, 25.0, 28.3, 32.0, 35.5])
    low, high = np.full(5, 25.0), np.full(5, 32.0)
    assert range_distance(years, low, high).tolist() == [1.0, 0.0, 0.0, 0.0, 3.5]


def test_the_distance_to_an_exact_age_is_the_absolute_error() -> None:
    ages = np.array([0.0, 30.0, 70.0])
    assert range_distance(np.array([2.5, 30.0, 61.0]), ages, ages).tolist() == [2.5, 0.0, 9.0]
