from __future__ import annotations

import hashlib
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agr_core.config import SplitConfig
from agr_core.data.packed.pack import Packed, pack
from agr_core.data.splits.splits import PARTS, SameSide, draw_share, make_split, read_split, write_split
from agr_core.errors import DataError, IntegrityError

from ..conftest import sample_table

FACES = 4000


@pytest.fixture(scope="module")
def people() -> pd.DataFrame:
    """4,000 samples with skewed labels, some of them twice."""
    rng = np.random.default_rng(0)
    contents = [f"{number:064x}" for number in range(FACES)]
    for copy, original in zip(rng.choice(FACES, 60, replace=False), rng.choice(FACES, 60), strict=True):
        contents[copy] = contents[original]
    return sample_table(
        np.minimum(rng.gamma(2.2, 15, FACES), 110).astype(int),
        genders=rng.choice(["male", "female"], FACES).tolist(),
        races=rng.choice(
            ["White", "Black", "Asian", "Indian", "Others"], FACES, p=[0.5, 0.25, 0.15, 0.09, 0.01]
        ).tolist(),
        contents=contents,
    )


def config(**changes: object) -> SplitConfig:
    return SplitConfig.model_validate({"by": ("age",), **changes})


def test_every_sample_is_in_exactly_one_part_and_the_fractions_are_kept(people: pd.DataFrame) -> None:
    for strategy in ("random", "stratified"):
        split = make_split(people, config(strategy=strategy, fractions=(0.7, 0.2, 0.1)))
        rows = np.concatenate([split.rows(part) for part in PARTS])
        assert sorted(rows) == list(range(FACES))
        assert [len(split.rows(part)) for part in PARTS] == pytest.approx([2800, 800, 400], abs=3)
        assert all((np.diff(split.rows(part)) > 0).all() for part in PARTS)


def test_the_rarest_joint_classes_are_shared_out_by_the_fractions_too(people: pd.DataFrame) -> None:
    split = make_split(people, config(by=("age", "gender", "race")))
    edges = [0, 3, 7, 15, 31, 41, 66, 200]
    classes = pd.cut(people["age"], edges, right=False).astype(str) + people["gender"] + people["race"]
    counts = pd.crosstab(classes, split.parts)
    assert counts.to_numpy().sum(axis=1).min() < 5  # there are rare ones
    expected = counts.to_numpy().sum(axis=1)[:, None] * np.array([0.8, 0.1, 0.1])
    assert np.abs(counts[list(PARTS)].to_numpy() - expected).max() < 2.5
    assert (counts["train"] > 0).all()


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    shares=st.tuples(st.integers(1, 8), st.integers(1, 4), st.integers(0, 4)),
    seed=st.integers(0, 5),
)
def test_each_class_is_within_one_image_of_its_share_and_the_whole_is_close(
    sizes: list[int], shares: tuple[int, int, int], seed: int
) -> None:
    races = [f"race {number}" for number, size in enumerate(sizes) for _ in range(size)]
    fractions = tuple(share / sum(shares) for share in shares)
    races += ["plenty"] * 200  # so that no part stays empty
    table = sample_table([30] * len(races), races=races)
    split = make_split(table, config(by=("race",), fractions=fractions, seed=seed))
    for race, size in Counter(races).items():
        in_class = Counter(part for part, of in zip(split.parts, races, strict=True) if of == race)
        assert in_class["train"] >= 1
        for part, fraction in zip(PARTS, fractions, strict=True):
            # A class of which training would get nothing gives it one image more than its share, at most.
            assert abs(in_class[part] - fraction * size) < (2 if in_class["train"] == 1 else 1) + 1e-9


def test_identical_images_and_images_of_one_subject_are_on_one_side_and_counted() -> None:
    rng = np.random.default_rng(1)
    # 200 images of 40 people, 100 images twice, 199 of nobody known, and one that is both a person's and a copy.
    subjects = [f"person {number % 40}" if number < 200 else None for number in range(600)]
    contents = [f"{number - 100}" if 300 <= number < 400 else f"{number}" for number in range(600)]
    contents[599] = contents[0]
    table = sample_table(rng.integers(0, 90, 600), subjects=subjects, contents=contents)
    split = make_split(table, config(fractions=(0.6, 0.2, 0.2)))
    for key in ("subject", "sha256"):
        parts_of_each = pd.Series(split.parts).groupby(table[key].to_numpy()).nunique()
        assert parts_of_each.max() == 1
    assert split.groups == SameSide(groups=140, images=401, identical=101, subjects=40)


def test_a_data_set_without_repeats_has_no_group_to_report() -> None:
    split = make_split(sample_table(range(50)), config())
    assert split.groups == SameSide(groups=0, images=0, identical=0, subjects=0)


def test_the_cut_follows_from_seed_and_samples_whatever_the_order_of_the_rows(people: pd.DataFrame) -> None:
    split = make_split(people, config(by=("age", "race")))
    order = np.random.default_rng(3).permutation(FACES)
    shuffled = make_split(people.iloc[order].reset_index(drop=True), config(by=("age", "race")))
    assert shuffled.parts.tolist() == split.parts[order].tolist()
    assert shuffled.digest == split.digest
    assert make_split(people, config(by=("age", "race"), seed=43)).digest != split.digest


def test_which_images_of_a_class_validate_is_a_fair_draw() -> None:
    chosen = Counter()
    table = sample_table([30] * 40)
    for seed in range(200):
        chosen.update(make_split(table, config(seed=seed, fractions=(0.5, 0.5, 0.0))).rows("val").tolist())
    # 200 draws of a fair coin for each of 40 images: deviation 7.1.
    assert min(chosen[row] for row in range(40)) > 100 - 4 * 7.1
    assert max(chosen[row] for row in range(40)) < 100 + 4 * 7.1


def test_a_test_share_of_nothing_leaves_the_test_part_empty() -> None:
    split = make_split(sample_table(range(20)), config(strategy="random", fractions=(0.8, 0.2, 0.0)))
    assert [len(split.rows(part)) for part in PARTS] == [16, 4, 0]


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(ValueError, match="part 'valid' is none of train, val, test"):
        make_split(sample_table(range(20)), config()).rows("valid")


def test_an_empty_data_set_is_refused() -> None:
    with pytest.raises(DataError, match="the data set is empty"):
        make_split(sample_table([]), config())


def test_a_part_that_would_stay_empty_is_refused() -> None:
    with pytest.raises(DataError, match=r"leaves val empty: its share of 0.1 of 30 images \(1 groups\)"):
        make_split(sample_table([30] * 30, subjects=["same"] * 30), config())


@pytest.mark.parametrize(
    ("label", "value", "named"),
    [("gender", "female", "gender 'female' (images: 5)"), ("race", "Asian", "race 'Asian' (images: 5)"),
     ("age", 80.0, "age '66+' (images: 5)")],
)  # fmt: skip
def test_a_class_left_out_of_training_is_refused_by_name_with_the_way_out(
    label: str, value: object, named: str
) -> None:
    # Five images of one person cannot be divided, and twenty of another are placed first, in training.
    table = sample_table([30.0] * 25, subjects=["first"] * 20 + ["second"] * 5)
    table.loc[20:, label] = value
    with pytest.raises(DataError) as refused:
        make_split(table, config(strategy="random", fractions=(0.8, 0.2, 0.0)))
    assert f"the split leaves {named} out of training" in str(refused.value)
    assert "data.split.by" in str(refused.value)
    assert "data.split.seed (this was 42)" in str(refused.value)


def test_an_age_bin_of_a_few_images_may_be_left_out_of_training() -> None:
    table = sample_table([30.0] * 20 + [80.0] * 4, subjects=["first"] * 20 + ["second"] * 4)
    split = make_split(table, config(strategy="random", fractions=(0.8, 0.2, 0.0)))
    assert split.rows("val").tolist() == [20, 21, 22, 23]


def test_unknown_labels_are_a_class_of_their_own_and_never_missing() -> None:
    ages = [float("nan")] * 20 + [30.0] * 20
    split = make_split(sample_table(ages, races=[None] * 40), config(by=("age", "race"), fractions=(0.5, 0.5, 0.0)))
    assert len(split.rows("train")) == 20
    assert (split.rows("train") < 20).sum() == 10


def test_a_written_split_is_read_back(people: pd.DataFrame, tmp_path: Path) -> None:
    split = make_split(people, config(by=("gender",), seed=9))
    write_split(split, tmp_path / "sub" / "split.parquet")
    back = read_split(tmp_path / "sub" / "split.parquet")
    assert back.sample_ids.tolist() == split.sample_ids.tolist()
    assert back.parts.tolist() == split.parts.tolist()
    assert (back.config, back.groups, back.digest) == (split.config, split.groups, split.digest)
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["split.parquet"]


def test_a_split_file_holds_two_plain_columns(faces: Packed, tmp_path: Path) -> None:
    write_split(make_split(faces.table, config()), tmp_path / "s.parquet")
    table = pq.read_table(tmp_path / "s.parquet")
    assert table.column_names == ["sample_id", "part"]
    assert table["sample_id"].to_pylist() == faces.table["sample_id"].tolist()


def test_a_changed_split_is_found(tmp_path: Path) -> None:
    path = tmp_path / "s.parquet"
    write_split(make_split(sample_table(range(30)), config()), path)
    table = pq.read_table(path)
    parts = table["part"].to_pylist()
    parts[0] = "train" if parts[0] != "train" else "val"
    changed = table.set_column(1, "part", [parts])
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(IntegrityError, match=r"has split digest .* fetch it again"):
        read_split(path)


def text(path: Path) -> None:
    path.write_text("sample,part")


def other_table(path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "does not exist"),
        (text, "is not a split"),
        (other_table, "is not a split of schema version"),
    ],
    ids=["missing", "text", "another table"],
)
def test_a_file_that_is_no_split_is_refused(write: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    write(tmp_path / "s.parquet")
    with pytest.raises(DataError, match=message):
        read_split(tmp_path / "s.parquet")


def test_a_smaller_share_lies_within_a_larger_one_and_has_its_size() -> None:
    ids = np.array([f"s{number}" for number in range(1000)], dtype=object)
    rows = np.arange(0, 1000, 2)
    drawn = {share: draw_share(ids, rows, share, seed=1) for share in (0.0001, 0.1, 0.5, 1.0)}
    assert [len(part) for part in drawn.values()] == [1, 50, 250, 500]
    assert drawn[1.0].tolist() == rows.tolist()
    assert set(drawn[0.1]) < set(drawn[0.5]) < set(rows)
    assert (np.diff(drawn[0.5]) > 0).all()
    assert set(draw_share(ids, rows, 0.5, seed=2)) != set(drawn[0.5])


@pytest.mark.slow
def test_the_real_utkface_is_split_without_its_repeats_on_two_sides(utkface_tar: Path, tmp_path: Path) -> None:
    pack(str(utkface_tar), tmp_path / "packed")
    split = make_split(Packed.open(tmp_path / "packed").table, config(by=("age", "gender", "race")))
    assert [len(split.rows(part)) for part in PARTS] == pytest.approx([6400, 800, 800], abs=2)
    where: dict[str, set[str]] = {}
    contents: Counter[str] = Counter()
    with tarfile.open(utkface_tar) as tar:
        part_of = dict(zip(Packed.open(tmp_path / "packed").table["path"], split.parts, strict=True))
        for member in tar:
            if member.name in part_of:
                sha256 = hashlib.sha256(tar.extractfile(member).read()).hexdigest()
                where.setdefault(sha256, set()).add(part_of[member.name])
                contents[sha256] += 1
    assert max(len(parts) for parts in where.values()) == 1
    assert split.groups.identical == sum(count > 1 for count in contents.values()) > 0


@pytest.mark.slow
def test_the_published_split_of_the_real_utkface_leaks_until_it_is_mended(utkface_tar: Path, tmp_path: Path) -> None:
    published = utkface_tar.parent / "published_split.csv"
    pack(str(utkface_tar), tmp_path / "packed")
    table = Packed.open(tmp_path / "packed").table
    listed = pd.read_csv(published).set_index("file")["split"]
    contents = table["sha256"].to_numpy()
    straddling = pd.Series(listed.loc[[path.split("/")[-1] for path in table["path"]]].to_numpy()).groupby(contents)

    kept = make_split(table, config(strategy="file", path=str(published), leaks="keep"))
    assert [len(kept.rows(part)) for part in PARTS] == [5994, 2006, 0]  # counted in the file by hand
    assert kept.groups.straddling == (straddling.nunique() > 1).sum() > 0
    mended = make_split(table, config(strategy="file", path=str(published)))
    assert 0 < mended.groups.moved == (mended.parts != kept.parts).sum()
    assert pd.Series(mended.parts).groupby(contents).nunique().max() == 1

    within = make_split(table, config(strategy="random", fractions=(0.49, 0.21, 0.3)), ages=(10, 65))
    assert len(within.used) == table["age"].between(10, 65).sum() == 8000 - sum(within.left_out.values())
