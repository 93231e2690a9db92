"""Readers of APPA-REAL, LAGENDA, MegaAge, IMDb-WIKI by names and UTKFace as Kaggle has it, on files in their forms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agr_core.data.decode import decode
from agr_core.data.packed.pack import Packed, pack
from agr_core.data.readers.lagenda import MARGIN
from agr_core.errors import DataError

from ..conftest import encode, picture, read_all

AVERAGES = "file_name,num_ratings,apparent_age_avg,apparent_age_std,real_age\n"


def appa_real() -> dict[str, bytes]:
    return {
        "appa/gt_avg_train.csv": (AVERAGES + "000000.jpg,36,5.25,1.1,4\n000001.jpg,30,30.5,3,200\n").encode(),
        "appa/gt_avg_valid.csv": (AVERAGES + "000000.jpg,40,61.0,4,63\n").encode(),
        "appa/train/000000.jpg": picture(0),
        "appa/train/000000.jpg_face.jpg": picture(1),
        "appa/train/000001.jpg_face.jpg": picture(2),
        "appa/train/000000.jpg.mat": b"boxes",
        "appa/valid/000000.jpg": picture(3),
    }


def test_appa_real_gives_the_face_its_real_age_and_its_own_part(write_folder: Callable[..., Path]) -> None:
    images, skipped = read_all(write_folder(appa_real()))
    assert [(image.path, image.age, image.partition) for image in images] == [
        ("appa/train/000000.jpg_face.jpg", 4, "train"),
        ("appa/valid/000000.jpg", 63, "val"),
    ]
    assert skipped == {
        "appa/train/000000.jpg": "the face that is cut out of it is packed instead",
        "appa/train/000000.jpg.mat": "not an image file by its name",
        "appa/train/000001.jpg_face.jpg": "age '200' is none from 0 to 116 years",
    }


def test_appa_real_s_apparent_ages_are_taken_by_name(write_folder: Callable[..., Path]) -> None:
    images, _ = read_all(write_folder(appa_real()), "appa_real_apparent")
    assert [image.age for image in images] == [5.25, 30.5, 61.0]


def test_appa_real_refuses_an_image_named_twice(write_folder: Callable[..., Path]) -> None:
    files = appa_real()
    files["appa/gt_avg_train.csv"] += b"000000.jpg,36,5.25,1.1,4\n"
    with pytest.raises(DataError, match=r"names '000000\.jpg' again"):
        read_all(write_folder(files))


LAGENDA = """img_name,age,gender,face_x0,face_y0,face_x1,face_y1,person_x0,person_y0,person_x1,person_y1
lag_benchmark/a.jpg,30.0,M,10,20,30,40,0,0,50,100
lag_benchmark/a.jpg,-1,-1,60,20,80,40,50,0,100,100
lag_benchmark/a.jpg,20,F,60,20,80,50,-1,-1,-1,-1
lag_benchmark/a.jpg,44,F,-1,-1,-1,-1,0,0,50,100
lag_benchmark/a.jpg,44,F,400,20,430,50,0,0,50,100
lag_benchmark/gone.jpg,44,F,10,20,30,40,0,0,50,100
"""


def test_lagenda_cuts_each_labelled_face_out_of_its_photograph(write_folder: Callable[..., Path]) -> None:
    photograph = np.full((100, 100, 3), 30, dtype=np.uint8)
    photograph[20:40, 10:30] = 200
    files = {"lagenda_annotation.csv": LAGENDA.encode(), "lag_benchmark/a.jpg": encode(photograph)}
    images, skipped = read_all(write_folder(files))
    assert [(image.path, image.age, image.gender) for image in images] == [
        ("lag_benchmark/a.jpg#0", 30, "male"),
        ("lag_benchmark/a.jpg#2", 20, "female"),
    ]
    around = round(20 * MARGIN)
    face = decode(images[0].data)
    assert face.shape == (20 + 2 * around, 20 + 2 * around, 3)
    assert abs(face[around:-around, around:-around].astype(int) - 200).mean() < 5
    assert skipped == {
        "lag_benchmark/a.jpg#1": "a person without a known age and gender",
        "lag_benchmark/a.jpg#3": "a person without a face",
        "lag_benchmark/a.jpg#4": "its box is off the image",
        "lag_benchmark/gone.jpg#0": "named in lagenda_annotation.csv, but there is no such image",
    }


def megaage(folder: str) -> dict[str, bytes]:
    return {
        f"{folder}/list/train_name.txt": b"1.jpg\n2.jpg\n3.jpg\n",
        f"{folder}/list/train_age.txt": b"18\n9\nx\n",
        f"{folder}/list/test_name.txt": b"1.jpg\n",
        f"{folder}/list/test_age.txt": b"70\n",
    } | {
        f"{folder}/{name}.jpg": picture(number)
        for number, name in enumerate(("train/1", "train/2", "train/3", "test/1"))
    }


@pytest.mark.parametrize(("folder", "race"), [("megaage", None), ("megaage_asian", "Asian")])
def test_both_megaages_are_read_line_by_line(folder: str, race: str | None, write_folder: Callable[..., Path]) -> None:
    images, skipped = read_all(write_folder(megaage(folder)))
    assert [(image.path, image.age, image.partition, image.race) for image in images] == [
        (f"{folder}/test/1.jpg", 70, "test", race),
        (f"{folder}/train/1.jpg", 18, "train", race),
        (f"{folder}/train/2.jpg", 9, "train", race),
    ]
    assert skipped == {f"{folder}/train/3.jpg": "age 'x' is no number of years"}


def test_a_megaage_with_a_line_too_few_is_refused(write_folder: Callable[..., Path]) -> None:
    files = megaage("megaage") | {"megaage/list/train_age.txt": b"18\n9\n"}
    with pytest.raises(DataError, match=r"has 3 lines and megaage/list/train_age\.txt 2"):
        read_all(write_folder(files))


def test_imdb_wiki_is_read_from_names_alone_where_there_is_no_matlab_file(write_folder: Callable[..., Path]) -> None:
    names = {
        "imdb_crop/01/nm0000001_rm124825600_1899-5-10_1968.jpg": (69, "imdb:1"),
        "wiki_crop/00/10049200_1891-07-02_1958.jpg": (66, "wiki:10049200"),
    }
    bad = "wiki_crop/00/10049201_1891-00-16_1958.jpg"
    images, skipped = read_all(write_folder({name: picture(place) for place, name in enumerate([*names, bad])}))
    assert {image.path: (image.age, image.subject) for image in images} == names
    assert {(image.gender, image.age_low == image.age_high) for image in images} == {(None, True)}
    assert skipped == {bad: "the date of birth 1891-00-16 is none"}


# --------------------------------------------------------------------------------------------------------------------
# UTKFace as Kaggle has it


def kaggle() -> dict[str, bytes]:
    """Two faces: one four times, its aligned copies with other bytes; one twice. And two of one name that differ."""
    first, second, third = (f"{age}_0_0_2017{age}.jpg.chip.jpg" for age in (20, 30, 40))
    return {
        f"UTKFace/{first}": picture(1),
        f"crop_part1/{first}": picture(1),
        f"utkface_aligned_cropped/UTKFace/{first}": picture(11),
        f"utkface_aligned_cropped/crop_part1/{first}": picture(11),
        f"UTKFace/{second}": picture(2),
        f"more/{second}": picture(2),
        f"UTKFace/{third}": picture(3),
        f"more/{third}": picture(4),
    }


def test_kaggle_s_copies_of_a_face_are_packed_once_and_named(write_folder: Callable[..., Path], tmp_path: Path) -> None:
    source = write_folder(kaggle())
    report = pack(str(source), tmp_path / "packed", max_lost=0)
    assert list(Packed.open(tmp_path / "packed").table["path"]) == [
        "UTKFace/20_0_0_201720.jpg.chip.jpg",
        "UTKFace/30_0_0_201730.jpg.chip.jpg",
        "UTKFace/40_0_0_201740.jpg.chip.jpg",
        "more/40_0_0_201740.jpg.chip.jpg",
    ]
    assert [entry.file.partition("_0_0")[0] for entry in report.skipped] == [
        "crop_part1/20",
        "more/30",
        "utkface_aligned_cropped/UTKFace/20",
        "utkface_aligned_cropped/crop_part1/20",
    ]
    assert all("--keep-copies" in entry.reason for entry in report.skipped)
    assert pack(str(source), tmp_path / "all", keep_copies=True).images == 8


def test_kaggle_s_aligned_folder_alone_is_no_copy(write_folder: Callable[..., Path], tmp_path: Path) -> None:
    source = write_folder({"utkface_aligned_cropped/UTKFace/20_0_0_2017.jpg": picture(1)})
    assert pack(str(source), tmp_path / "packed").images == 1
