from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import cv2
import numpy as np
import pytest
import torch

from agr_core.batch import Batch
from agr_core.config import SplitConfig, TrialConfig
from agr_core.data.augment.augment import sample_seed
from agr_core.data.loading.trial_data import TrialData
from agr_core.data.packed.pack import Packed, pack_images
from agr_core.data.readers import RawImage
from agr_core.data.splits.splits import make_split, write_split
from agr_core.errors import DataError
from agr_core.labels.attributes import GENDERS, UTKFACE_RACES, Vocabulary

from ..conftest import picture, range_images

SPLIT = SplitConfig(by=("age", "race"), fractions=(0.7, 0.2, 0.1))
Open = Callable[..., TrialData]


@pytest.fixture(scope="module")
def files(faces: Packed, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Packed data set, split and cache of the drawn faces."""
    folder = tmp_path_factory.mktemp("trial")
    write_split(make_split(faces.table, SPLIT), folder / "split.parquet")
    return {"packed": faces.folder, "split": folder / "split.parquet", "cache": folder / "cache"}


def trial(**changes: Any) -> TrialConfig:
    document = {"image": {"size": 24}, "batch_size": 20, "data": {"split": SPLIT.model_dump(mode="json")}, **changes}
    return TrialConfig.from_document(document)


@pytest.fixture
def open_data(files: dict[str, Path]) -> Open:
    """Opens the drawn faces for a trial."""
    return lambda workers=0, **changes: TrialData.open(trial(**changes), **files, workers=workers)


def joined(batches: list[Batch]) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n,) and images (n, C, S, S) of all batches."""
    return np.concatenate([b.rows for b in batches]), np.concatenate([b.images for b in batches])


def assert_equal(first: list[Batch], second: list[Batch]) -> None:
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.images, other.images)
        assert one.images.stride() == other.images.stride()  # the memory format changes the bits of a convolution
        assert torch.equal(one.rows, other.rows)
        for label in ("age", "age_low", "age_high", "gender", "race", "attributes"):
            assert torch.equal(getattr(one.labels, label), getattr(other.labels, label))


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_part_comes_whole_in_order_with_its_pixels_and_labels(part: str, faces: Packed, open_data: Open) -> None:
    data = open_data(image={"size": 32})
    batches = list(data.batches(part))
    rows, images = joined(batches)
    assert rows.tolist() == make_split(faces.table, SPLIT).rows(part).tolist()
    assert images.dtype == np.uint8
    for row, image, encoded in zip(rows, images, faces.image_bytes(rows), strict=True):
        pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        np.testing.assert_array_equal(image.transpose(1, 2, 0), pixels, err_msg=f"row {row}")
    labels = data.labels(part)
    truth = faces.table.iloc[rows]
    assert torch.cat([batch.labels.age for batch in batches]).tolist() == truth["age"].tolist()
    assert [GENDERS[index] for index in labels.gender] == truth["gender"].tolist()
    assert [UTKFACE_RACES[index] for index in torch.cat([b.labels.race for b in batches])] == truth["race"].tolist()
    assert labels.age_low.tolist() == labels.age_high.tolist() == truth["age"].tolist()


def test_drawn_faces_are_known_by_their_rows_and_one_photograph_in_training_is_enough(
    faces: Packed, open_data: Open
) -> None:
    assert open_data().only_drawn

    split = make_split(faces.table, SPLIT)
    for part, drawn in (("test", True), ("train", False)):
        photographs = Packed.open(faces.folder)
        photographs.table.loc[split.rows(part)[0], "source"] = "utkface"
        assert TrialData(trial(), photographs, split, Mock()).only_drawn is drawn


def test_shapes_and_kinds_are_those_of_the_contract(open_data: Open) -> None:
    batch = next(open_data().train_batches(0))
    assert batch.images.shape == (20, 3, 24, 24)
    assert batch.images.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.rows.dtype == batch.labels.gender.dtype == batch.labels.race.dtype == torch.int64
    assert batch.labels.age.dtype == torch.float32


def test_an_epoch_trains_on_every_image_once_in_an_order_of_its_own(faces: Packed, open_data: Open) -> None:
    data = open_data()
    train = make_split(faces.table, SPLIT).rows("train")
    orders = [joined(list(data.train_batches(epoch)))[0].tolist() for epoch in range(3)]
    assert all(sorted(order) == train.tolist() for order in orders)
    assert len({tuple(order) for order in orders}) == 3
    assert data.num_rows("train") == len(train) == len(data.labels("train").age)
    assert data.steps_per_epoch == len(list(data.train_batches(0)))


def test_a_single_image_left_over_trains_with_the_batch_before(open_data: Open) -> None:
    n = open_data().num_rows("train")
    data = open_data(batch_size=n - 1)
    assert [len(batch.rows) for batch in data.train_batches(0)] == [n]
    assert data.steps_per_epoch == 1


@pytest.mark.parametrize(
    ("augment", "crop_from"), [("none", None), ("light", None), ("agecnn", 30), ("rand_augment", 30)]
)
@pytest.mark.parametrize("color", ["rgb", "grey"])
def test_batches_are_the_same_bits_for_any_number_of_workers_and_either_cache(
    augment: str, crop_from: int | None, color: str, open_data: Open
) -> None:
    image = {"size": 24, "color": color, "crop_from": crop_from}
    expected = list(open_data(augment=augment, image={**image, "cache": "decoded"}).train_batches(3))
    for workers, cache in ((2, "decoded"), (0, "jpeg"), (3, "jpeg")):
        data = open_data(workers=workers, augment=augment, image={**image, "cache": cache})
        list(data.train_batches(2))  # what ran before must not matter
        assert_equal(list(data.train_batches(3)), expected)
        assert_equal(list(data.batches("val")), list(open_data(image=image).batches("val")))


def test_seed_and_epoch_change_order_and_augmentation(open_data: Open) -> None:
    def first_images(seed: int, epoch: int) -> dict[int, bytes]:
        rows, images = joined(list(open_data(seed=seed, augment="light").train_batches(epoch)))
        return {int(row): image.tobytes() for row, image in zip(rows, images, strict=True)}

    base = first_images(1, 0)
    assert first_images(1, 0) == base
    for other in (first_images(2, 0), first_images(1, 1)):
        assert sum(other[row] == base[row] for row in base) <= 2


def test_validation_images_are_never_augmented(open_data: Open) -> None:
    assert_equal(list(open_data(augment="light").batches("train")), list(open_data().batches("train")))


def test_images_decoded_larger_are_cut_at_random_in_training_and_from_the_middle_elsewhere(open_data: Open) -> None:
    large = open_data(image={"size": 32})
    whole = {int(row): image for b in large.batches("train") for row, image in zip(b.rows, b.images, strict=True)}
    data = open_data(image={"size": 24, "crop_from": 32})
    for batch in data.batches("train"):
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        for row, image in zip(batch.rows, batch.images, strict=True):
            assert torch.equal(image, whole[int(row)][:, 4:28, 4:28])
    windows = dict.fromkeys(whole, torch.zeros(0))
    for batch in data.train_batches(0):
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        for row, image in zip(batch.rows, batch.images, strict=True):
            places = whole[int(row)].unfold(1, 24, 1).unfold(2, 24, 1).permute(1, 2, 0, 3, 4)
            assert (places == image).flatten(2).all(dim=2).any()
            windows[int(row)] = image
    middle = sum(torch.equal(windows[row], whole[row][:, 4:28, 4:28]) for row in whole)
    assert middle < len(whole) / 4


@pytest.mark.parametrize("to", ["largest", "full"])
def test_oversampled_genders_are_equally_many_and_none_is_left_out(to: str, open_data: Open) -> None:
    data = open_data(sampler={"name": "oversample", "by": "gender", "to": to}, augment="light")
    sizes = torch.bincount(data.labels("train").gender)
    size = int(sizes.max()) if to == "largest" else data.num_rows("train")
    batches = list(data.train_batches(1))
    genders = torch.cat([batch.labels.gender for batch in batches])
    assert torch.bincount(genders).tolist() == [size, size]
    assert data.images_per_epoch == 2 * size
    assert data.steps_per_epoch == len(batches)
    rows, images = joined(batches)
    assert set(rows) == set(joined(list(data.batches("train")))[0])
    assert len({image.tobytes() for image in images}) == len(images)  # each repetition is changed in its own way


def test_grey_is_one_channel(open_data: Open) -> None:
    batch = next(open_data(image={"size": 24, "color": "grey"}, augment="agecnn").train_batches(0))
    assert batch.images.shape == (20, 1, 24, 24)


def test_a_fraction_trains_on_a_share_and_leaves_the_other_parts(open_data: Open) -> None:
    whole, half = open_data(), open_data(data={"fraction": 0.5, "split": SPLIT.model_dump(mode="json")})
    assert half.num_rows("train") == round(whole.num_rows("train") / 2) == len(half.labels("train").age)
    rows = [set(joined(list(data.train_batches(0)))[0].tolist()) for data in (half, whole)]
    assert rows[0] < rows[1]
    assert_equal(list(half.batches("val")), list(whole.batches("val")))
    again = open_data(seed=99, data={"fraction": 0.5, "split": SPLIT.model_dump(mode="json")})
    assert set(joined(list(again.train_batches(0)))[0].tolist()) == rows[0]  # drawn by split.seed, not by the trial's


@pytest.mark.parametrize(
    ("sampler", "age", "edges"),
    [
        ({"name": "weighted", "by": "age"}, {"encoding": "onehot", "bins": "utk4"}, (0, 13, 20, 60, 200)),
        ({"name": "weighted", "by": "age"}, {"encoding": "regression"}, (0, 3, 7, 15, 31, 41, 66, 200)),
        ({"name": "weighted", "by": "age", "bins": [0, 40]}, {"encoding": "onehot", "bins": "utk4"}, (0, 40, 200)),
    ],
    ids=["the trial's bins", "utk7 without bins", "bins of its own"],
)
def test_the_weighted_sampler_draws_age_classes_equally_often(
    sampler: dict[str, Any], age: dict[str, Any], edges: tuple[int, ...], open_data: Open
) -> None:
    data = open_data(sampler=sampler, age=age)
    ages = np.concatenate([batch.labels.age for epoch in range(40) for batch in data.train_batches(epoch)])
    assert len(ages) == 40 * data.num_rows("train")
    counts, _ = np.histogram(ages, edges)
    expected = len(ages) / (len(edges) - 1)
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_the_weighted_sampler_can_draw_by_race(open_data: Open) -> None:
    data = open_data(sampler={"name": "weighted", "by": "race"})
    counts = Counter(
        int(race) for epoch in range(30) for batch in data.train_batches(epoch) for race in batch.labels.race
    )
    expected = 30 * data.num_rows("train") / 5
    assert max(abs(counts[race] - expected) for race in range(5)) < 5 * np.sqrt(expected)


def test_an_image_drawn_twice_in_an_epoch_is_changed_in_two_ways(open_data: Open) -> None:
    data = open_data(sampler={"name": "weighted", "by": "race"}, augment="light")
    rows, images = joined(list(data.train_batches(0)))
    (twice, count), *_ = Counter(rows.tolist()).most_common(1)
    assert count > 1
    assert len({image.tobytes() for image in images[rows == twice]}) == count
    assert sample_seed(0, 0, 1) != sample_seed(0, 0, 2)


def test_opencv_starts_no_threads_of_its_own_in_a_trial(open_data: Open) -> None:
    cv2.setNumThreads(4)
    open_data()
    assert cv2.getNumThreads() <= 1


def test_a_closed_trial_lets_go_of_its_images(open_data: Open) -> None:
    data = open_data()
    data.close()
    with pytest.raises(AttributeError):
        next(data.train_batches(0))


def test_data_and_split_are_named_by_their_digests(faces: Packed, open_data: Open) -> None:
    data = open_data()
    assert data.data_digest == faces.digest
    assert data.split_digest == make_split(faces.table, SPLIT).digest
    assert data.label_kind == "exact"
    assert data.vocabulary == Vocabulary(GENDERS, UTKFACE_RACES)


def test_attributes_reach_the_trainer_in_the_vocabulary_s_order_and_are_nan_where_not_known(tmp_path: Path) -> None:
    told: list[tuple[bool | None, ...] | None] = [(True, False, None), None, (False, None, True)]
    images = [
        RawImage(
            path=f"{number:03d}.jpg", data=picture(number), gender=GENDERS[number % 2], attributes=told[number % 3]
        )
        for number in range(60)
    ]
    vocabulary = Vocabulary(GENDERS, (), ("Bald", "Smiling", "Young"))
    pack_images(images, tmp_path / "p", source="test", kind="test", vocabulary=vocabulary)
    write_split(make_split(Packed.open(tmp_path / "p").table, SplitConfig(by=("gender",))), tmp_path / "s")
    data = TrialData.open(
        trial(tasks=["gender"], data={}), packed=tmp_path / "p", split=tmp_path / "s", cache=tmp_path / "c"
    )
    assert data.vocabulary.attributes == ("Bald", "Smiling", "Young")
    nan = float("nan")
    values = np.array([[1, 0, nan], [nan, nan, nan], [0, nan, 1]], dtype=np.float32)
    batches = list(data.train_batches(0))
    assert {batch.labels.attributes.dtype for batch in batches} == {torch.float32}
    for batch in batches:
        np.testing.assert_array_equal(batch.labels.attributes.numpy(), values[batch.rows.numpy() % 3])
    rows = torch.cat([batch.rows for batch in data.batches("val")])
    np.testing.assert_array_equal(data.labels("val").attributes.numpy(), values[rows.numpy() % 3])


def test_a_data_set_without_attributes_has_none(open_data: Open) -> None:
    data = open_data()
    assert data.labels("val").attributes.shape == (data.num_rows("val"), 0)
    assert next(data.train_batches(0)).labels.attributes.shape == (20, 0)


# --------------------------------------------------------------------------------------------------------------------
# Refusals

RANGES = [(0.0, 2.0), (4.0, 6.0), (8.0, 12.0), (15.0, 20.0), (25.0, 32.0), (38.0, 43.0), (48.0, 53.0), (60.0, 100.0)]


@pytest.fixture
def open_ranges(tmp_path: Path) -> Open:
    """Opens 80 images with Adience's age ranges, genders and no race."""
    vocabulary = Vocabulary(GENDERS, ())
    pack_images(range_images(80, RANGES), tmp_path / "p", source="test", kind="test", vocabulary=vocabulary)
    split = SplitConfig(by=("age", "gender"), fractions=(0.6, 0.2, 0.2))
    write_split(make_split(Packed.open(tmp_path / "p").table, split), tmp_path / "s")

    def open_them(**changes: Any) -> TrialData:
        config = trial(tasks=["age", "gender"], **changes)
        return TrialData.open(config, packed=tmp_path / "p", split=tmp_path / "s", cache=tmp_path / "c")

    return open_them


def test_range_labels_reach_the_trainer_with_both_ends(open_ranges: Open) -> None:
    data = open_ranges(age={"encoding": "onehot", "bins": "adience8"})
    labels = data.labels("train")
    assert data.label_kind == "range"
    assert data.age_ranges == RANGES
    assert set(zip(labels.age_low.tolist(), labels.age_high.tolist(), strict=True)) == set(RANGES)
    assert torch.equal(labels.age, (labels.age_low + labels.age_high) / 2)
    assert set(labels.race.tolist()) == {-1}


def test_bins_that_cut_a_label_range_are_refused_with_those_that_do_not(open_ranges: Open) -> None:
    with pytest.raises(DataError, match=r"age.bins: the edge at 31 cuts the label range 25-32 .*adience8"):
        open_ranges(age={"encoding": "onehot", "bins": "utk7"})


def test_sampler_bins_that_cut_a_label_range_are_refused(open_ranges: Open) -> None:
    with pytest.raises(DataError, match=r"sampler.bins: the edge at 31 cuts"):
        open_ranges(age={"encoding": "regression"}, sampler={"name": "weighted", "by": "age"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tasks": ["age", "race"]},
            "tasks names race, but none of the .* has a race label. This data set has: age, gender",
        ),
        ({"sampler": {"name": "weighted", "by": "race"}}, "sampler draws by race, but none"),
    ],
    ids=["task", "sampler"],
)
def test_labels_the_data_set_lacks_are_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    vocabulary = Vocabulary(GENDERS, ())
    pack_images(range_images(80, RANGES), tmp_path / "p", source="test", kind="test", vocabulary=vocabulary)
    write_split(make_split(Packed.open(tmp_path / "p").table, SPLIT), tmp_path / "s")
    config = trial(**{"tasks": ["age", "gender"], "age": {"encoding": "regression"}, **changes})
    with pytest.raises(DataError, match=message):
        TrialData.open(config, packed=tmp_path / "p", split=tmp_path / "s", cache=tmp_path / "c")


def test_a_fraction_that_leaves_a_class_out_of_training_is_refused_only_if_it_is_trained(open_data: Open) -> None:
    data = {"fraction": 0.03, "split": SPLIT.model_dump(mode="json")}
    with pytest.raises(DataError, match=r"leaves .*race '\w+' .* out of training.*raise data.fraction \(now 0.03\)"):
        open_data(data=data, tasks=["gender", "race"])
    assert open_data(data=data, tasks=["gender"]).num_rows("train") == 4


def test_a_split_of_another_data_set_is_refused(files: dict[str, Path], faces: Packed, tmp_path: Path) -> None:
    write_split(make_split(faces.table.iloc[:-1], SPLIT), tmp_path / "other")
    with pytest.raises(DataError, match="the split names 202 samples that are not the 203 of"):
        TrialData.open(trial(), **{**files, "split": tmp_path / "other"})
