from __future__ import annotations

import json

import pandas as pd
import pytest

from agr_core.data.pack import Packed
from agr_core.data.stats import describe, statistics
from agr_core.errors import UnknownComponentError
from agr_core.labels.attributes import Vocabulary

from .conftest import sample_table


def test_counts_follow_the_vocabulary_and_the_bins_and_add_up(faces: Packed) -> None:
    said = describe(faces, "utk4")
    assert list(said) == [
        "images", "digest", "skipped", "gender", "race", "age", "bins", "partition", "unknown", "attributes"
    ]  # fmt: skip
    assert list(said["gender"]) == ["male", "female"]
    assert list(said["race"]) == ["White", "Black", "Asian", "Indian", "Others"]
    ages = faces.table["age"].tolist()
    assert said["bins"] == {
        "0-12": sum(age < 13 for age in ages),
        "13-19": sum(13 <= age < 20 for age in ages),
        "20-59": sum(20 <= age < 60 for age in ages),
        "60+": sum(age >= 60 for age in ages),
    }
    assert said["age"] == {"min": min(ages), "max": max(ages), "mean": pytest.approx(sum(ages) / len(ages))}
    assert sum(said["race"].values()) == sum(said["gender"].values()) == said["images"] == 203
    assert json.loads(json.dumps(said)) == said


def test_labels_that_are_not_known_are_not_counted() -> None:
    said = statistics(sample_table([5, float("nan")], genders=["male", None], races=[None, None]))
    assert said["gender"] == {"male": 1}
    assert said["race"] == {}
    assert said["age"] == {"min": 5.0, "max": 5.0, "mean": 5.0}
    assert sum(said["bins"].values()) == 1


def test_partitions_are_counted_by_name_and_labels_that_are_not_known_by_label() -> None:
    table = sample_table(
        [5, float("nan"), float("nan")], genders=["male", None, "female"], partitions=["train", "val", "train"]
    )
    said = statistics(table)
    assert said["partition"] == {"train": 2, "val": 1}
    assert said["unknown"] == {"age": 2, "gender": 1, "race": 0}


def test_attributes_are_counted_where_they_are_known() -> None:
    table = sample_table([1, 2, 3])
    table["attributes"] = pd.Series([[True, None], None, [True, False]], dtype=object)
    assert statistics(table, vocabulary=Vocabulary((), (), ("Bald", "Young")))["attributes"] == {"Bald": 2, "Young": 0}


def test_without_any_age_there_is_no_age_figure() -> None:
    said = statistics(sample_table([float("nan")]))
    assert said["age"] is None
    assert set(said["bins"].values()) == {0}


def test_an_unknown_scheme_is_refused(faces: Packed) -> None:
    with pytest.raises(UnknownComponentError, match="Did you mean 'utk7'"):
        describe(faces, "utk77")
