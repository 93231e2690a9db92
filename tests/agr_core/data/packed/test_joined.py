"""Several data sets as one: rows, races in one vocabulary, pixels, and the parts of foreign ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from agr_core.config import DataConfig, SplitConfig, SyntheticConfig, TrialConfig
from agr_core.data.decode import decode, square
from agr_core.data.loading.cache import open_pixels
from agr_core.data.loading.trial_data import TrialData
from agr_core.data.packed.joined import Join, Joined, Member, open_data
from agr_core.data.packed.pack import Packed, pack, pack_images
from agr_core.data.splits.splits import make_split, read_split, write_split
from agr_core.errors import DataError
from agr_core.labels.attributes import GENDERS, UTKFACE_RACES, Vocabulary

from ..conftest import range_images, sample_table


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Packed data sets: ``utk`` and ``more`` of five races, ``fair`` of seven, with age ranges, ``plain`` of none."""
    folder = tmp_path_factory.mktemp("sets")
    drawn = {
        "utk": SyntheticConfig(images=120, size=32, seed=1),
        "more": SyntheticConfig(images=80, size=48, seed=2),
        "fair": SyntheticConfig(images=60, size=32, seed=3, like="fairface"),
    }
    for name, config in drawn.items():
        pack("synthetic", folder / name, synthetic=config)
    vocabulary = Vocabulary(genders=GENDERS, races=())
    images = range_images(30, [(0, 2), (4, 6), (25, 32)])
    pack_images(images, folder / "plain", source="s", kind="plain", vocabulary=vocabulary)
    return {name: folder / name for name in (*drawn, "plain")}


def join(folders: dict[str, Path], *names: str, races: tuple[str, ...] | None = None) -> Join:
    members = (Member(name, str(folders[name]), Packed.open(folders[name]).digest) for name in names)
    return Join(tuple(members), races)


def opened(what: Join, folder: Path) -> Joined:
    (folder / "join.json").write_bytes(what.to_bytes())
    joined = open_data(folder / "join.json")
    assert isinstance(joined, Joined)
    return joined


def test_the_rows_of_the_members_lie_below_each_other(folders: dict[str, Path], tmp_path: Path) -> None:
    joined = opened(join(folders, "utk", "more"), tmp_path)
    utk, more = (Packed.open(folders[name]).table for name in ("utk", "more"))
    assert len(joined) == 200
    assert joined.table["data_set"].tolist() == ["utk"] * 120 + ["more"] * 80
    assert joined.table["sample_id"].tolist() == [f"utk/{i}" for i in utk["sample_id"]] + [
        f"more/{i}" for i in more["sample_id"]
    ]
    for column in ("age", "gender", "race", "sha256"):
        assert joined.table[column].tolist() == [*utk[column], *more[column]]
    assert (joined.vocabulary.races, joined.label_kind) == (UTKFACE_RACES, "exact")


def test_races_are_mapped_into_the_vocabulary_that_is_named(folders: dict[str, Path], tmp_path: Path) -> None:
    joined = opened(join(folders, "utk", "fair", races=UTKFACE_RACES), tmp_path)
    before = Packed.open(folders["fair"]).table["race"]
    after = joined.table["race"][joined.table["data_set"] == "fair"].reset_index(drop=True)
    meant = {
        "White": "White", "Black": "Black", "Indian": "Indian", "East Asian": "Asian", "Southeast Asian": "Asian",
        "Latino_Hispanic": "Others", "Middle Eastern": "Others",
    }  # fmt: skip
    assert after.tolist() == before.map(meant).tolist()
    assert set(before.dropna()) == set(meant)
    assert joined.label_kind == "range"
    assert "East Asian and Southeast Asian are both Asian" in joined.notes[0]


def test_what_fits_no_class_of_the_other_vocabulary_loses_its_label_and_is_counted(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    fairface = Packed.open(folders["fair"]).vocabulary.races
    joined = opened(join(folders, "utk", "fair", races=fairface), tmp_path)
    races = Packed.open(folders["utk"]).table["race"]
    lost = races.isin(["Asian", "Others"])
    assert joined.table["race"][:120].isna().tolist() == lost.tolist()
    assert f"{lost.sum()} of 120 images lose their race label" in joined.notes[0]


def test_different_races_without_a_word_on_them_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data sets utk and fair have different race classes .* data\.races: utkface"):
        opened(join(folders, "utk", "fair"), tmp_path)


def test_a_data_set_without_races_joins_any(folders: dict[str, Path], tmp_path: Path) -> None:
    joined = opened(join(folders, "plain", "utk"), tmp_path)
    assert joined.vocabulary.races == UTKFACE_RACES
    assert joined.table["race"][:30].isna().all()


def test_the_digest_is_of_names_contents_and_races_not_of_places(folders: dict[str, Path]) -> None:
    first = join(folders, "utk", "more")
    moved = Join(tuple(replace(member, uri="s3://elsewhere") for member in first.members), None)
    assert moved.digest == first.digest
    others = [
        join(folders, "more", "utk"),
        join(folders, "utk"),
        join(folders, "utk", "more", races=UTKFACE_RACES),
        Join((replace(first.members[0], name="other"), first.members[1]), None),
    ]
    assert len({first.digest, *(other.digest for other in others)}) == 5
    assert Join.from_bytes(first.to_bytes(), "here") == first


def test_pixels_come_from_the_member_of_each_row(folders: dict[str, Path], tmp_path: Path) -> None:
    joined = opened(join(folders, "utk", "more"), tmp_path)
    rows = np.array([150, 3, 199, 120, 119, 3], dtype=np.int64)
    images = joined.members[0].image_bytes([3, 119]) + joined.members[1].image_bytes([30, 79, 0])
    expected = [square(decode(images[place]), 24) for place in (2, 0, 3, 4, 1, 0)]
    for mode in ("decoded", "jpeg"):
        pixels = open_pixels(joined, size=24, mode=mode, folder=tmp_path / "cache")
        assert np.array_equal(pixels.gather(rows), np.stack(expected))


# ---- splits


def two_sets() -> pd.DataFrame:
    table = sample_table([20 + number % 40 for number in range(60)])
    table["data_set"] = ["own"] * 40 + ["far"] * 20
    return table


def test_a_foreign_data_set_is_a_part_of_its_own() -> None:
    split = make_split(two_sets(), SplitConfig(strategy="random"), foreign=("far",))
    assert Counter(split.parts) == {"train": 32, "val": 4, "test": 4, "test.far": 20}
    assert split.foreign == ("test.far",)
    assert split.rows("test.far").tolist() == list(range(40, 60))
    assert split.used.tolist() == list(range(40))
    alone = make_split(two_sets()[:40], SplitConfig(strategy="random"))
    assert split.parts[:40].tolist() == alone.parts.tolist()


def test_foreign_images_that_are_among_the_others_are_not_tested_on() -> None:
    table = two_sets()
    table.loc[45, "sha256"] = table.loc[7, "sha256"]
    table["subject"] = pd.Series([None] * 60, dtype="str")
    table.loc[[3, 50], "subject"] = "one"
    split = make_split(table, SplitConfig(strategy="random"), foreign=("far",))
    assert split.parts[[45, 50]].tolist() == ["left_out", "left_out"]
    assert split.left_out == {"of far, identical to images of data.train or of their subjects": 2}


def test_a_foreign_data_set_of_which_nothing_is_left_is_refused() -> None:
    table = two_sets()
    table.loc[40:, "age_high"] = 90.0
    with pytest.raises(DataError, match=r"data.test 'far' has no image left \(of 0\)"):
        make_split(table, SplitConfig(strategy="random"), ages=(10, 65), foreign=("far",))


# ---- a trial


def test_a_trial_trains_on_joined_sets_and_knows_the_foreign_ones_kind_of_ages(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    what = join(folders, "utk", "more", "fair", races=UTKFACE_RACES)
    joined = opened(what, tmp_path)
    data = {"sources": {name: name for name in ("utk", "more", "fair")}, "train": ["utk", "more"], "test": ["fair"]}
    config = TrialConfig.from_document(
        {"data": {**data, "races": "utkface"}, "image": {"size": 24}, "age": {"encoding": "onehot", "bins": "utk7"}}
    )
    split = make_split(joined.table, config.data.split, foreign=config.data.test)
    write_split(split, tmp_path / "split.parquet")
    assert read_split(tmp_path / "split.parquet").digest == split.digest

    trial = TrialData.open(
        config, packed=tmp_path / "join.json", split=tmp_path / "split.parquet", cache=tmp_path / "cache"
    )
    assert (trial.label_kind, trial.data_digest) == ("exact", what.digest)
    assert list(trial.foreign) == ["test.fair"]
    assert trial.foreign["test.fair"].kind == "range"
    assert (3.0, 9.0) in trial.foreign["test.fair"].ranges
    assert trial.num_rows("test.fair") == 60
    foreign = list(trial.batches("test.fair"))
    assert np.concatenate([batch.rows for batch in foreign]).tolist() == list(range(200, 260))
    members = Counter("utk" if row < 120 else "more" for batch in trial.train_batches(0) for row in batch.rows.tolist())
    assert members == Counter(joined.table["data_set"].iloc[split.rows("train")])
    trial.close()


# ---- the configuration


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"train": ("a",)}, "train belongs to sources"),
        ({"races": "utkface"}, "races belongs to sources"),
        ({"sources": {"a": "x"}}, "sources need train"),
        ({"sources": {"a": "x"}, "train": ("a",), "source": "y"}, "give one or the other"),
        ({"sources": {"utkface": "x"}, "train": ("utkfaces",)}, "Did you mean 'utkface'"),
        ({"sources": {"a": "x"}, "train": ("a",), "test": ("a",)}, "'a' is named twice"),
        ({"sources": {"A b": "x"}, "train": ("A b",)}, "'A b' is not a valid name"),
    ],
)
def test_sources_that_do_not_go_together_are_refused(document: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataConfig.model_validate(document)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"{}", b'{"schema_version": 1, "races": null, "members": [{}]}', b"\xff"], ids=repr
)
def test_what_is_no_join_is_refused_with_its_place(data: bytes) -> None:
    with pytest.raises(DataError, match=r"^s3://bucket/joins/x is not a join of data sets"):
        Join.from_bytes(data, "s3://bucket/joins/x")
