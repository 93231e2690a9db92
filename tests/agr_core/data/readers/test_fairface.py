from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from agr_core.data.readers import RawImage
from agr_core.data.readers.files import base as files_module
from agr_core.errors import DataError
from agr_core.labels.attributes import FAIRFACE_RACES
from tests.parts.real_data import real_data

from ..conftest import picture, read_all

HEADER = "file,age,gender,race,service_test\r\n"
TRAIN = HEADER + "".join(
    f"train/{number}.jpg,{age},{gender},{race},TRUE\r\n"
    for number, (age, gender, race) in enumerate(
        [
            ("0-2", "Male", "White"),
            ("03-Sep", "Female", "Latino_Hispanic"),
            ("Oct-19", "Male", "East Asian"),
            ("3-9", "Female", "Southeast Asian"),
            ("10-19", "Female", "Middle Eastern"),
            ("20-29", "Female", "Black"),
            ("more than 70", "Male", "Indian"),
        ],
        start=1,
    )
)
VAL = HEADER + "val/1.jpg,30-39,Female,White,FALSE\r\nval/2.jpg,60-69,Male,Black,FALSE\r\n"


def files_of(train: str = TRAIN, val: str = VAL, folder: str = "") -> dict[str, bytes]:
    images = {f"{folder}train/{number}.jpg": picture(number) for number in range(1, 8)}
    images |= {f"{folder}val/{number}.jpg": picture(20 + number) for number in range(1, 3)}
    return images | {"fairface_label_train.csv": train.encode(), "fairface_label_val.csv": val.encode()}


def labels_of(images: list[RawImage]) -> dict[str, tuple[object, ...]]:
    return {image.path: (image.age_low, image.age_high, image.gender, image.race, image.partition) for image in images}


EXPECTED = {
    "train/1.jpg": (0, 2, "male", "White", "train"),
    "train/2.jpg": (3, 9, "female", "Latino_Hispanic", "train"),
    "train/3.jpg": (10, 19, "male", "East Asian", "train"),
    "train/4.jpg": (3, 9, "female", "Southeast Asian", "train"),
    "train/5.jpg": (10, 19, "female", "Middle Eastern", "train"),
    "train/6.jpg": (20, 29, "female", "Black", "train"),
    "train/7.jpg": (70, 116, "male", "Indian", "train"),
    "val/1.jpg": (30, 39, "female", "White", "val"),
    "val/2.jpg": (60, 69, "male", "Black", "val"),
}


def test_both_label_files_are_read_and_the_ages_a_spreadsheet_took_for_dates_are_repaired(
    write_folder: Callable[..., Path],
) -> None:
    images, skipped = read_all(write_folder(files_of()))
    assert labels_of(images) == EXPECTED
    assert [image.age for image in images[:2]] == [1, 6]
    assert images[1].data == picture(2)
    assert skipped == {}


def test_the_margin_s_own_folder_and_an_archive_read_alike(write_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_folder(files_of(folder="fairface-img-margin025-trainval/"))
    with tarfile.open(tmp_path / "FairFace.tar", "w") as archive:
        archive.add(folder, arcname=".")
    for source in (folder, tmp_path / "FairFace.tar"):
        images, skipped = read_all(source)
        assert {path.split("trainval/")[1]: labels for path, labels in labels_of(images).items()} == EXPECTED
        assert skipped == {}


def test_one_partition_alone_is_read_and_the_other_s_images_are_named(write_folder: Callable[..., Path]) -> None:
    files = files_of()
    del files["fairface_label_val.csv"]
    images, skipped = read_all(write_folder(files))
    assert {image.partition for image in images} == {"train"}
    assert skipped == {f"val/{n}.jpg": "no line of fairface_label_train.csv names it" for n in (1, 2)}


def test_what_cannot_be_used_is_named_with_its_reason(write_folder: Callable[..., Path]) -> None:
    val = HEADER + "val/1.jpg,9-Feb,Male,White,FALSE\nval/2.jpg,30-39,Man,White,FALSE\nval/3.jpg,30-39,Male,Red,TRUE\n"
    files = files_of(val=val + "val/4.jpg,0-2,Male,White,TRUE\n")
    files |= {"val/3.jpg": picture(3), "val/5.jpg": picture(5), "train/1.jpg": b"", "notes.txt": b"?"}
    images, skipped = read_all(write_folder(files))
    assert sorted(labels_of(images)) == [f"train/{number}.jpg" for number in range(2, 8)]
    told = "fairface_label_train.csv, fairface_label_val.csv"
    assert skipped.pop("val/1.jpg").startswith("age '9-Feb' is none of 0-2, 3-9, 03-Sep")
    assert skipped == {
        "train/1.jpg": "the file is empty",
        "val/2.jpg": "gender 'Man' is none of Male, Female",
        "val/3.jpg": f"race 'Red' is none of {', '.join(FAIRFACE_RACES)}",
        "val/4.jpg": f"named in {told}, but there is no such image",
        "val/5.jpg": f"no line of {told} names it",
        "notes.txt": "not an image file by its name",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fairface_label_val.csv": b"file,age,sex,race\n"}, r"fairface_label_val.csv has no column gender; its first"),
        ({"fairface_label_val.csv": b"file,age,gender,race\nval/1.jpg,0-2,Male\n"}, r"line 2: 3 cells where .* has 4"),
        ({"fairface_label_val.csv": b"\xff\xfe\x00"}, "fairface_label_val.csv is not UTF-8 text"),
        ({"fairface_label_val.csv": (VAL + "val/1.jpg,0-2,Male,White,TRUE\n").encode()}, "names 'val/1.jpg' again"),
        (
            {"fairface_label_val.csv": (VAL + "x" * 200_000).encode()},
            "line 4 is not a line of a table .field larger than",
        ),
        ({"margin125/val/1.jpg": picture(9)}, r"margin125/val/1.jpg and val/1.jpg are both 'val/1.jpg' of"),
        (
            {"old/fairface_label_val.csv": VAL.encode()},
            "holds fairface_label_val.csv and old/",
        ),
    ],
    ids=["column", "short line", "encoding", "repeated line", "no table", "two croppings", "two label files"],
)
def test_label_files_that_make_no_sense_are_refused(
    changes: dict[str, bytes], message: str, write_folder: Callable[..., Path]
) -> None:
    with pytest.raises(DataError, match=message):
        read_all(write_folder(files_of() | changes))


def test_a_label_file_may_be_larger_than_an_image(
    write_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "MAX_FILE_BYTES", 2000)
    images, skipped = read_all(write_folder(files_of(train=TRAIN + "\r\n" * 2000)))
    assert labels_of(images) == EXPECTED
    assert skipped == {}


def test_without_label_files_the_reader_says_what_is_missing(write_folder: Callable[..., Path]) -> None:
    with pytest.raises(DataError, match=r"has none of fairface_label_train\.csv, .*; put them beside"):
        read_all(write_folder({"train/1.jpg": picture(1)}), reader="fairface")


@pytest.mark.slow
def test_the_real_archive_gives_4000_and_1000_images_with_all_nine_age_groups() -> None:
    images, skipped = read_all(real_data("fairface/FairFace_5k.tar"))
    assert skipped == {}
    assert Counter(image.partition for image in images) == {"train": 4000, "val": 1000}
    # Lines of the label files with each age, counted with cut, sort and uniq.
    assert Counter((image.age_low, image.age_high) for image in images) == {
        (0, 2): 86 + 14, (3, 9): 497 + 125, (10, 19): 385 + 107, (20, 29): 1200 + 318, (30, 39): 882 + 218,
        (40, 49): 499 + 122, (50, 59): 287 + 57, (60, 69): 126 + 30, (70, 116): 38 + 9,
    }  # fmt: skip
    assert {image.race for image in images} == set(FAIRFACE_RACES)


def test_what_a_second_spreadsheet_did_to_the_labels_is_undone(write_folder: Callable[..., Path]) -> None:
    damaged = TRAIN.replace("03-Sep", "3-Sep").replace("3-9,", "9-Mar,").replace("Oct-19", "19-Oct")
    damaged = damaged.replace("10-19,", "Oct-19,").replace("train/", "train\\")
    images, skipped = read_all(write_folder(files_of(train=damaged)))
    assert labels_of(images) == EXPECTED
    assert skipped == {}
