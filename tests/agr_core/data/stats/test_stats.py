from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path

import pandas as pd
import pytest

from agr_core.data.packed.pack import Packed
from agr_core.data.stats.stats import bin_ages, describe, statistics
from agr_core.errors import UnknownComponentError
from agr_core.labels.attributes import Vocabulary

from ..conftest import sample_table


def test_counts_follow_the_vocabulary_and_the_bins_and_add_up(faces: Packed) -> None:
    said = describe(faces, "utk4")
    assert list(said) == [
        "images", "digest", "skipped", "gender", "race", "age", "bins", "bin_ages", "partition", "unknown", "attributes"
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


def test_each_bin_has_the_mean_and_the_mode_of_its_ages(faces: Packed) -> None:
    rows = bin_ages(faces.table, (0, 20, 115))
    for label, low, high in (("0-19", 0, 20), ("20-114", 20, 115)):
        ages = [age for age in faces.table["age"] if low <= age < high]
        most = max(ages.count(age) for age in ages)
        assert rows[label]["images"] == len(ages)
        assert rows[label]["mean"] == pytest.approx(sum(ages) / len(ages))
        assert rows[label]["mode"] == min(age for age in ages if ages.count(age) == most)
    assert rows["115+"] == {"images": 0, "mean": None, "mode": None}
    assert describe(faces)["bin_ages"]["0-2"] == {name: bin_ages(faces.table)["0-2"][name] for name in ("mean", "mode")}


def test_a_third_of_utkface_has_about_the_published_means_and_modes_of_the_whole(utkface_tar: Path) -> None:
    with tarfile.open(utkface_tar) as tar:
        ages = [int(found[1]) for name in tar.getnames() if (found := re.search(r"/(\d+)_[01]_[0-4]_", name))]
    assert len(ages) == 8000
    rows = bin_ages(sample_table(ages))
    # Report 004, figure 107, over all 23,705 images; standard errors of the means here are below 0.3 years.
    means = (1.300312, 4.190101, 10.075194, 24.855938, 35.379668, 52.474536, 77.551501)
    assert [row["mean"] for row in rows.values()] == pytest.approx(means, abs=0.3)
    modes = [row["mode"] for row in rows.values()]
    assert [modes[place] for place in (0, 2, 3, 4, 5, 6)] == [1, 8, 26, 35, 45, 85]  # of 3 and 4 there are as many
