"""Published splits, folds, and ages left out: which image is where, and what is said of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from agr_core.config import DataConfig, SplitConfig
from agr_core.data.packed.label_table import read_labels
from agr_core.data.splits.splits import PARTS, Split, make_split, read_split, write_split
from agr_core.errors import DataError
from tests.parts.real_data import real_data

from ..conftest import sample_table


def config(strategy: str, **changes: object) -> SplitConfig:
    return SplitConfig.model_validate({"strategy": strategy, **changes})


def counts(split: Split) -> dict[str, int]:
    return dict(Counter(split.parts.tolist()))


def partitioned(values: list[str | None]) -> pd.DataFrame:
    table = sample_table([20 + number % 40 for number in range(len(values))])
    table["partition"] = pd.Series(values, dtype="str")
    return table


# ---- ages


def test_images_outside_the_ages_are_in_no_part_and_counted_by_reason() -> None:
    ages = [5.0] * 7 + [10.0, 65.0] * 20 + [66.0] * 4 + [float("nan")] * 3
    split = make_split(sample_table(ages), config("random"), ages=(10, 65))
    assert np.flatnonzero(split.parts == "left_out").tolist() == [*range(7), *range(47, 54)]
    assert split.left_out == {"age not within 10 to 65 years": 11, "age not known": 3}
    assert sum(len(split.rows(part)) for part in PARTS) == 40
    assert "14 of 54 images are in no part: age not within 10 to 65 years (11), age not known (3)." in split.notes


def test_an_age_range_must_lie_within_the_ages_as_a_whole() -> None:
    table = sample_table([12.0] * 30)
    table["age_low"], table["age_high"] = 8.0, 16.0
    table.loc[:19, "age_low"] = 10.0
    assert len(make_split(table, config("random"), ages=(10, 16)).used) == 20


def test_ages_that_leave_nothing_are_refused() -> None:
    with pytest.raises(DataError, match=r"data.ages \[10, 65\] leaves none of the 30 images"):
        make_split(sample_table([80.0] * 30), config("random"), ages=(10, 65))


def test_upside_down_ages_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"write \[10, 65\]"):
        DataConfig(ages=(65, 10))


def test_left_out_images_and_their_counts_survive_the_file(tmp_path: Path) -> None:
    split = make_split(sample_table([5.0] * 5 + [30.0] * 40), config("random"), ages=(10, 65))
    write_split(split, tmp_path / "s.parquet")
    back = read_split(tmp_path / "s.parquet")
    assert (back.digest, back.left_out, back.notes) == (split.digest, split.left_out, split.notes)


# ---- folds


def test_over_all_folds_each_image_is_tested_once_and_validates_once_whole_subjects_at_a_time() -> None:
    people = np.random.default_rng(4).integers(0, 120, 500)
    table = sample_table(people // 2, subjects=[f"person {number}" for number in people])
    tested, validated = Counter[int](), Counter[int]()
    for fold in range(5):
        split = make_split(table, config("kfold", fold=fold))
        tested.update(split.rows("test").tolist())
        validated.update(split.rows("val").tolist())
        assert pd.Series(split.parts).groupby(table["subject"].to_numpy()).nunique().max() == 1
        assert [len(split.rows(part)) for part in PARTS] == pytest.approx([300, 100, 100], abs=10)
    assert set(tested.values()) == set(validated.values()) == {1}
    assert len(tested) == len(validated) == 500


def test_the_fold_before_the_tested_one_validates() -> None:
    table = sample_table(range(90))
    tested = [make_split(table, config("kfold", folds=3, fold=fold)).rows("test").tolist() for fold in range(3)]
    validated = [make_split(table, config("kfold", folds=3, fold=fold)).rows("val").tolist() for fold in range(3)]
    assert validated == [tested[2], tested[0], tested[1]]


def test_folds_are_stratified() -> None:
    table = sample_table([30] * 100, races=["White"] * 50 + ["Asian"] * 30 + ["Indian"] * 20)
    split = make_split(table, config("kfold", by=("race",), fold=2))
    in_test = Counter(table["race"].iloc[split.rows("test")])
    assert in_test == {"White": 10, "Asian": 6, "Indian": 4}


# ---- official


def test_the_official_partition_is_taken_as_it_is() -> None:
    split = make_split(partitioned(["train"] * 30 + ["test"] * 10 + ["val"] * 5), config("official"))
    assert [len(split.rows(part)) for part in PARTS] == [30, 5, 10]
    assert split.rows("test").tolist() == list(range(30, 40))
    assert split.notes == ()


def test_fold_numbers_become_parts_and_unused_ones_are_counted() -> None:
    table = partitioned([str(number % 5) for number in range(100)] + [None] * 2)
    split = make_split(table, config("official", partitions={"train": (0, 1), "val": (3,), "test": ("4",)}))
    assert counts(split) == {"train": 40, "val": 20, "test": 20, "left_out": 22}
    assert split.left_out == {"partition '2' is not used": 20, "no partition": 2}


def test_a_missing_val_part_is_cut_from_train_at_the_ratio_of_the_fractions() -> None:
    table = partitioned(["train"] * 80 + ["val"] * 20)
    wanted = config("official", partitions={"train": ("train",), "test": ("val",)}, fractions=(0.9, 0.1, 0.0))
    split = make_split(table, wanted)
    assert counts(split) == {"train": 72, "val": 8, "test": 20}
    assert split.rows("test").tolist() == list(range(80, 100))
    assert split.digest != make_split(table, wanted.model_copy(update={"seed": 1})).digest


@pytest.mark.parametrize(
    ("values", "partitions", "message"),
    [
        ([None] * 9, None, "has no official partition"),
        (["0", "1", "1"], None, r"'0' \(1 images\), '1' \(2 images\); '0' is none of train, val, test"),
        (["train", "test"], {"train": ("train",), "test": ("tset",)}, "names 'tset', which no image has"),
        (["test", "test"], None, "leaves train empty"),
    ],
)
def test_a_partition_that_does_not_fit_is_refused(values: list[str | None], partitions: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_split(partitioned(values), config("official", partitions=partitions))


def test_a_table_from_before_there_were_partitions_has_none() -> None:
    with pytest.raises(DataError, match="has no official partition"):
        make_split(sample_table(range(9)), config("official"))


# ---- what a published split leaks


def leaking() -> pd.DataFrame:
    """A copy in train and test, a person with 3 images in train and 1 in test, and one with 1 in train and 2 in val."""
    table = partitioned(["train"] * 20 + ["val"] * 10 + ["test"] * 10)
    table.loc[30, "sha256"] = table.loc[0, "sha256"]
    table["subject"] = pd.Series([None] * 40, dtype="str")
    table.loc[[1, 2, 3, 31], "subject"] = "one"
    table.loc[[4, 20, 21], "subject"] = "two"
    return table


def test_groups_on_several_sides_are_brought_to_where_most_are_and_in_a_tie_to_the_test_part() -> None:
    split = make_split(leaking(), config("official"))
    assert split.parts[[0, 30]].tolist() == ["test", "test"]
    assert split.parts[[1, 2, 3, 31]].tolist() == ["train"] * 4
    assert split.parts[[4, 20, 21]].tolist() == ["val"] * 3
    assert (split.groups.straddling, split.groups.moved) == (3, 3)
    assert (split.groups.groups, split.groups.identical) == (3, 1)
    assert "3 groups of identical images or of one subject lie in several parts" in split.notes[0]
    assert "3 images were moved" in split.notes[0]


def test_a_published_split_can_be_kept_with_its_leaks_which_are_reported() -> None:
    table = leaking()
    split = make_split(table, config("official", leaks="keep"))
    assert split.parts.tolist() == table["partition"].tolist()
    assert (split.groups.straddling, split.groups.moved) == (3, 0)
    assert "they stay there (data.split.leaks: keep)" in split.notes[0]


# ---- files


FILES = [f"{number}.jpg" for number in range(40)]  # the names of sample_table


def write_csv(path: Path, text: str) -> Path:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)
    return path


def one_file(tmp_path: Path) -> Path:
    words = ["train"] * 30 + ["valid"] * 10
    lines = [f"UTKFace\\{name},{word}" for name, word in zip(FILES, words, strict=True)]
    return write_csv(tmp_path / "split.csv", "\n".join(["file,split", *lines, "gone.jpg,test"]))


def test_a_csv_file_names_the_part_of_each_image(tmp_path: Path) -> None:
    table = sample_table([30] * 42)
    split = make_split(table, config("file", path=str(one_file(tmp_path))))
    assert counts(split) == {"train": 30, "val": 10, "left_out": 2}
    assert split.left_out == {"not named by split.csv": 2}
    assert split.unmatched == 1
    assert any("1 entries of" in note for note in split.notes)


def test_three_files_with_the_published_columns_are_one_split(tmp_path: Path) -> None:
    columns = "img_idx,age_label,age_cat,gender_label,ethnicity_label,gender,ethnicity,age,data_file"
    for name, numbers in {"train": range(24), "valid": range(24, 32), "test": range(32, 40)}.items():
        rows = [f"{number},3,15-30,0,0,male,White,30,{FILES[number]}" for number in numbers]
        write_csv(tmp_path / "published" / f"utkface_{name}_dataset.csv", "\n".join([columns, *rows]))
    split = make_split(sample_table([30] * 40), config("file", path=str(tmp_path / "published")))
    assert [len(split.rows(part)) for part in PARTS] == [24, 8, 8]
    assert split.rows("val").tolist() == list(range(24, 32))
    assert split.notes == ()


def test_a_split_that_was_written_is_a_split_to_take(tmp_path: Path) -> None:
    table = sample_table(range(60))
    first = make_split(table, config("stratified", fractions=(0.6, 0.2, 0.2)), ages=(5, 80))
    write_split(first, tmp_path / "s.parquet")
    again = make_split(table, config("file", path=str(tmp_path / "s.parquet")))
    assert again.digest == first.digest
    assert again.left_out == {"left out by s.parquet": 5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,split\n0.jpg,trian\n", "has split 'trian' for '0.jpg'"),
        ("image,split\n0.jpg,train\n", "has no column file or data_file"),
        ("file,age\n0.jpg,3\n", "has no column `split`"),
        ("file,split\n0.jpg,train\n0.jpg,test\n", "'0.jpg' is in train and in test"),
        ("file,split\nnobody.jpg,train\n", "names none of the 40 images"),
        ("file,split\n", "names no image"),
        ("", "cannot be read as CSV"),
        ("file,split\n0.jpg,test\n", "leaves train empty"),
    ],
)
def test_a_file_that_is_no_split_of_this_data_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "split.csv", text)
    with pytest.raises(DataError, match=message):
        make_split(sample_table([30] * 40), config("file", path=str(path)))


def test_a_folder_whose_files_do_not_say_their_part_is_refused(tmp_path: Path) -> None:
    write_csv(tmp_path / "faces.csv", "file\n0.jpg\n")
    with pytest.raises(DataError, match=r"'faces\.csv' has none of them"):
        make_split(sample_table([30] * 40), config("file", path=str(tmp_path)))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        make_split(sample_table([30] * 40), config("file", path=str(tmp_path / "no.csv")))


def test_a_file_name_that_stands_for_two_images_is_refused(tmp_path: Path) -> None:
    table = sample_table([30] * 2)
    table["path"] = ["a/0.jpg", "b/0.jpg"]
    path = write_csv(tmp_path / "split.csv", "file,split\n0.jpg,train\n")
    with pytest.raises(DataError, match="the file name of several images of the data set"):
        make_split(table, config("file", path=str(path)))


# ---- the configuration


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"strategy": "file"}, "strategy=file needs path"),
        ({"fold": 2}, "fold with strategy=stratified has no effect: it belongs to kfold"),
        ({"strategy": "kfold", "leaks": "keep"}, "leaks with strategy=kfold has no effect"),
        ({"strategy": "kfold", "fold": 5}, "fold=5 must be below folds=5"),
        ({"strategy": "official", "partitions": {"train": (0,), "test": ("0",)}}, "partition '0' is named twice"),
    ],
)
def test_fields_that_do_not_fit_the_strategy_are_refused(document: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SplitConfig.model_validate(document)


def test_the_folds_of_the_real_adience_are_report_one_s_split_and_share_nobody() -> None:
    source = real_data("adience")
    table = read_labels(source, None, require=("age", "gender")).table
    table = table.assign(sample_id=table["image"], path=table["image"], sha256=table["image"], source="adience")
    split = make_split(table, config("official", partitions={"train": (0, 1, 2), "val": (3,), "test": (4,)}))
    assert [len(split.rows(part)) for part in PARTS] == [10_716, 3_291, 3_445]
    assert split.groups.subjects > 1_000
    assert (split.groups.straddling, split.groups.moved) == (0, 0)
