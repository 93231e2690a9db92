from __future__ import annotations

import io
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agr_core.data.readers import find_reader
from agr_core.data.readers.base import ImageLabels
from agr_core.data.readers.files import open_files
from agr_core.data.readers.utkface import UTKFACE
from agr_core.errors import DataError, UnknownComponentError

from ..conftest import read_all


def jpeg(color: int = 90) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((24, 24, 3), color, dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("26_1_3_20170116220224657.jpg.chip.jpg", (26.0, "female", "Indian")),
        ("1_0_0_20161219140623097.jpg", (1.0, "male", "White")),
        ("116_1_4_20170120134921760.jpg", (116.0, "female", "Others")),
        ("0_0_1_2.png", (0.0, "male", "Black")),
        ("24_0_1_20170116220224657 .jpg.chip.jpg", (24.0, "male", "Black")),
        ("55_0_2_20170116232725357jpg.chip.jpg", (55.0, "male", "Asian")),
    ],
    ids=["usual", "without chip", "oldest", "newborn", "space in the time", "dot missing after the time"],
)
def test_labels_are_read_from_the_name(name: str, labels: tuple[float, str, str]) -> None:
    age, gender, race = labels
    assert UTKFACE.parse(name) == ImageLabels(age=age, age_low=age, age_high=age, gender=gender, race=race)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("39_1_20170116174525125.jpg.chip.jpg", "the name is not"),
        ("53__0_20170116184028385.jpg", "the name is not"),
        ("portrait.jpg", "the name is not"),
        ("-4_0_0_20170116184028385.jpg", "the name is not"),
        ("25.5_0_0_20170116184028385.jpg", "the name is not"),
        (f"{'9' * 5000}_0_0_20170116184028385.jpg", "the name is not"),
        ("117_0_0_20170116184028385.jpg", "age 117 is outside 0 to 116"),
        ("44_3_0_20170116184028385.jpg", "gender 3 is none of 0 male, 1 female"),
        ("44_1_5_20170116184028385.jpg", "race 5 is none of 0 White, 1 Black, 2 Asian, 3 Indian, 4 Others"),
    ],
    ids=["no race", "empty field", "no labels", "negative", "fraction", "endless digits", "too old", "gender", "race"],
)
def test_a_name_that_says_no_valid_labels_gives_the_reason(name: str, reason: str) -> None:
    problem = UTKFACE.parse(name)
    assert isinstance(problem, str)
    assert problem.startswith(reason)


def write_archive(kind: str, folder: Path, files: dict[str, bytes]) -> Path:
    """An archive whose members stand in the reverse of their order."""
    path = folder / f"faces{kind}"
    if kind == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in sorted(files, reverse=True):
                archive.writestr(name, files[name])
        return path
    with tarfile.open(path, {".tar": "w", ".tar.xz": "w:xz"}.get(kind, "w:gz")) as tar:
        for name in sorted(files, reverse=True):
            member = tarfile.TarInfo(name)
            member.size = len(files[name])
            tar.addfile(member, io.BytesIO(files[name]))
    return path


@pytest.mark.parametrize("kind", [".tar", ".tar.gz", ".tgz", ".tar.xz", ".zip"])
def test_an_archive_reads_like_the_folder_in_the_order_of_the_paths(
    kind: str, tmp_path: Path, utkface_files: dict[str, bytes], write_folder: Callable[..., Path]
) -> None:
    files = {f"UTKFace/{name}": data for name, data in utkface_files.items()}
    from_folder, _ = read_all(write_folder(files))
    from_archive, skipped = read_all(write_archive(kind, tmp_path, files))
    assert from_archive == from_folder
    assert [image.path for image in from_archive] == sorted(files)
    assert [image.data for image in from_archive] == [files[path] for path in sorted(files)]
    assert skipped == {}


def test_the_three_parts_of_the_wild_images_are_read_as_folders_and_as_archives(
    tmp_path: Path, utkface_files: dict[str, bytes], write_folder: Callable[..., Path]
) -> None:
    parts = {
        f"part{1 + number % 3}/{name.removesuffix('.chip.jpg')}": data
        for number, (name, data) in enumerate(utkface_files.items())
    }
    folder = write_folder(parts)
    archives = tmp_path / "archives"
    archives.mkdir()
    for part in ("part1", "part2", "part3"):
        with tarfile.open(archives / f"{part}.tar.gz", "w:gz") as tar:
            tar.add(folder / part, arcname=part)
    from_folder, none = read_all(folder)
    from_archives, skipped = read_all(archives)
    assert len(from_folder) == 12
    assert [image.path.split(".tar.gz/")[1] for image in from_archives] == [image.path for image in from_folder]
    assert [image.data for image in from_archives] == [image.data for image in from_folder]
    assert none == skipped == {}


def test_files_that_cannot_be_used_are_skipped_with_their_reasons_and_the_rest_is_read(
    write_folder: Callable[..., Path],
) -> None:
    whole = jpeg()
    floods = [io.BytesIO(), io.BytesIO()]  # a few kB each that would be 255 and 600 MB of pixels
    Image.new("1", (10_000, 8_500)).save(floods[0], "PNG")
    Image.new("1", (20_000, 10_000)).save(floods[1], "PNG")
    images, skipped = read_all(
        write_folder(
            {
                "25_0_0_1.jpg": whole,
                "26_0_0_2.jpg": whole[: len(whole) // 2],
                "27_0_0_3.jpg": b"this is no image",
                "28_0_0_4.jpg": b"",
                "29_0_0_5.png": floods[0].getvalue(),
                "29_0_0_6.png": floods[1].getvalue(),
                "130_0_0_6.jpg": whole,
                "30_1_20170116.jpg": whole,
                "labels.csv": b"file,age",
                ".DS_Store": b"\0",
            }
        )
    )
    assert [(image.path, image.age, image.gender, image.race) for image in images] == [
        ("25_0_0_1.jpg", 25.0, "male", "White")
    ]
    assert skipped.pop("26_0_0_2.jpg").startswith("damaged image (")
    assert skipped == {
        "27_0_0_3.jpg": "not an image of a known format",
        "28_0_0_4.jpg": "the file is empty",
        "29_0_0_5.png": "an image of more than 80,000,000 pixels",
        "29_0_0_6.png": "an image of more than 80,000,000 pixels",
        "130_0_0_6.jpg": "age 130 is outside 0 to 116 years",
        "30_1_20170116.jpg": "the name is not [age]_[gender]_[race]_[time].jpg",
        "labels.csv": "not an image file by its name",
        ".DS_Store": "not an image file by its name",
    }


def test_an_exact_age_is_its_own_range(write_folder: Callable[..., Path]) -> None:
    (image,), _ = read_all(write_folder({"31_1_2_1.jpg": jpeg()}))
    assert (image.age, image.age_low, image.age_high, image.subject) == (31.0, 31.0, 31.0, None)


def test_files_no_reader_knows_are_refused_with_the_layouts_that_are_known(write_folder: Callable[..., Path]) -> None:
    with pytest.raises(
        DataError, match=r"no reader recognises its 1 files \('a/cat.jpg'\).*utkface: \[age\]_\[gender\]"
    ):
        read_all(write_folder({"a/cat.jpg": jpeg()}))


def test_an_unknown_reader_is_refused_with_the_nearest_name(write_folder: Callable[..., Path]) -> None:
    with (
        open_files(write_folder({"31_1_2_1.jpg": jpeg()})) as files,
        pytest.raises(UnknownComponentError, match="Did you mean 'utkface'"),
    ):
        find_reader(files, "utkfaces")


@pytest.mark.slow
def test_the_real_utkface_archive_gives_8000_images_and_three_names_without_a_race(utkface_tar: Path) -> None:
    images, skipped = read_all(utkface_tar)
    assert len(images) == 8000
    assert sorted(skipped) == [
        "UTKFace/39_1_20170116174525125.jpg.chip.jpg",
        "UTKFace/61_1_20170109142408075.jpg.chip.jpg",
        "UTKFace/61_1_20170109150557335.jpg.chip.jpg",
    ]
    assert set(skipped.values()) == {"the name is not [age]_[gender]_[race]_[time].jpg"}
    codes = Counter(image.path.rsplit("/", 1)[1].split("_")[2] for image in images)
    assert Counter(image.race for image in images) == {
        "White": codes["0"], "Black": codes["1"], "Asian": codes["2"], "Indian": codes["3"], "Others": codes["4"]
    }  # fmt: skip
