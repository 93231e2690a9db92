from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agr_core.data.readers import RawImage
from agr_core.errors import DataError
from agr_core.labels.attributes import CELEBA_ATTRIBUTES

from ..conftest import picture, read_all

VALUES = np.where(np.random.default_rng(0).random((5, 40)) < 0.3, 1, -1)
NAMES = [f"{number:06d}.jpg" for number in range(1, 6)]
PARTITIONS = "".join(f"{name} {code}\n" for name, code in zip(NAMES, (0, 0, 1, 2, 0), strict=True))
HEADER = " ".join(CELEBA_ATTRIBUTES) + " \n"
# Columns are aligned in the published file, so that there are two spaces before a 1.
ROWS = "".join(
    f"{name} {' '.join(f'{value:2d}' for value in values)}\n" for name, values in zip(NAMES, VALUES, strict=True)
)
CSV = "".join(
    ",".join(map(str, cells)) + "\n"
    for cells in [
        ["image_id", *CELEBA_ATTRIBUTES],
        *([name, *values] for name, values in zip(NAMES, VALUES, strict=True)),
    ]
)
CSV_PARTITIONS = "image_id,partition\n" + PARTITIONS.replace(" ", ",")


def images_in(folder: str, suffix: str = ".jpg") -> dict[str, bytes]:
    return {f"{folder}/{name[:6]}{suffix}": picture(number) for number, name in enumerate(NAMES)}


def check(images: list[RawImage]) -> None:
    assert [image.path.rsplit("/", 1)[1][:6] for image in images] == [name[:6] for name in NAMES]
    assert [image.attributes for image in images] == [tuple(value == 1 for value in values) for values in VALUES]
    male = VALUES[:, CELEBA_ATTRIBUTES.index("Male")] == 1
    assert [image.gender for image in images] == ["male" if is_male else "female" for is_male in male]
    assert {image.age for image in images} == {image.race for image in images} == {None}


@pytest.mark.parametrize(
    "files",
    [
        {"list_attr_celeba.txt": f"5\n{HEADER}{ROWS}", "list_eval_partition.txt": PARTITIONS},
        {"Anno/list_attr_celeba.txt": f"{HEADER}{ROWS}", "Eval/list_eval_partition.txt": PARTITIONS},
        {"list_attr_celeba.csv": CSV, "list_eval_partition.csv": CSV_PARTITIONS},
        {"list_attr_celeba.txt": f"5\r\n{HEADER}{ROWS}".replace("\n", "\r\n"), "list_eval_partition.txt": PARTITIONS},
        {"list_attr_celeba.csv": CSV.replace(",-1", ",0"), "list_eval_partition.csv": CSV_PARTITIONS},
    ],
    ids=["published", "without the number", "CSV", "Windows", "1 and 0"],
)
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_both_forms_of_the_label_files_are_read(
    files: dict[str, str], suffix: str, write_folder: Callable[..., Path]
) -> None:
    labels = {path: text.encode() for path, text in files.items()}
    images, skipped = read_all(write_folder(labels | images_in("Img/img_align_celeba", suffix)))
    check(images)
    assert [image.partition for image in images] == ["train", "train", "val", "test", "train"]
    assert {image.subject for image in images} == {None}
    assert skipped == {}


def test_people_are_known_where_the_file_of_identities_is_there_and_partitions_where_theirs_is(
    write_folder: Callable[..., Path],
) -> None:
    identities = "".join(f"{name} {who}\n" for name, who in zip(NAMES, (2880, 2937, 2880, 7, 9), strict=True))
    labels = {"list_attr_celeba.txt": f"5\n{HEADER}{ROWS}".encode(), "identity_CelebA.txt": identities.encode()}
    images, skipped = read_all(write_folder(labels | images_in("img_align_celeba")))
    check(images)
    assert [image.subject for image in images] == ["2880", "2937", "2880", "7", "9"]
    assert {image.partition for image in images} == {None}
    assert skipped == {}


def test_attributes_in_another_order_are_put_into_the_published_one(write_folder: Callable[..., Path]) -> None:
    order = np.random.default_rng(1).permutation(40)
    rows = [
        ["image_id", *(CELEBA_ATTRIBUTES[place] for place in order)],
        *([name, *values[order]] for name, values in zip(NAMES, VALUES, strict=True)),
    ]
    text = "".join(",".join(map(str, row)) + "\n" for row in rows)
    images, _ = read_all(write_folder({"list_attr_celeba.csv": text.encode()} | images_in("img_align_celeba")))
    check(images)


def test_what_cannot_be_used_is_named_with_its_reason(write_folder: Callable[..., Path]) -> None:
    odd = ROWS.replace("000002.jpg -1", "000002.jpg  0").replace("000002.jpg  1", "000002.jpg  0")
    files = {
        "list_attr_celeba.txt": f"5\n{HEADER}{odd}000009.jpg {'-1 ' * 40}\n".encode(),
        "list_eval_partition.txt": PARTITIONS.replace("03.jpg 1", "03.jpg 3").encode(),
        "list_bbox_celeba.txt": b"5\n",
    }
    images, skipped = read_all(write_folder(files | images_in("faces") | {"faces/000007.jpg": picture(7)}))
    assert [image.path for image in images] == ["faces/000001.jpg", "faces/000004.jpg", "faces/000005.jpg"]
    told = "list_attr_celeba.txt, list_eval_partition.txt"
    assert skipped == {
        "faces/000002.jpg": "attribute '0' is none of 1, -1",
        "faces/000003.jpg": "partition '3' is none of 0, 1, 2",
        "faces/000007.jpg": f"no line of {told} names it",
        "000009": f"named in {told}, but there is no such image",
        "list_bbox_celeba.txt": "not an image file by its name",
    }


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"list_attr_celeba.txt": f"5\n{HEADER}".replace("Bald ", "") + ROWS}, "does not name Bald; before the images"),
        ({"list_attr_celeba.txt": f"5\n{HEADER}000001.jpg -1 1\n"}, "line 3: 2 values of 40 attributes"),
        ({"list_attr_celeba.txt": f"5\n{HEADER}{ROWS}{ROWS}"}, "names 000001 again"),
        (
            {"list_attr_celeba.txt": f"5\n{HEADER}{ROWS}", "list_attr_celeba.csv": CSV},
            "list_attr_celeba.csv and list_at",
        ),
        (
            {"list_attr_celeba.txt": f"5\n{HEADER}{ROWS}", "list_eval_partition.txt": "000001.jpg\n"},
            "list_eval_partition.txt, line 1: 1 cells where an image and one value",
        ),
    ],
    ids=["attribute missing", "short line", "repeated", "two forms", "partition missing"],
)
def test_label_files_that_make_no_sense_are_refused(
    files: dict[str, str], message: str, write_folder: Callable[..., Path]
) -> None:
    labels = {path: text.encode() for path, text in files.items()}
    with pytest.raises(DataError, match=message):
        read_all(write_folder(labels | images_in("img_align_celeba")))


def test_the_aligned_and_the_wild_images_together_are_refused(write_folder: Callable[..., Path]) -> None:
    labels = {"list_attr_celeba.txt": f"5\n{HEADER}{ROWS}".encode()}
    with pytest.raises(DataError, match=r"img_align_celeba/000001.jpg and img_celeba/000001.jpg are both '000001' of"):
        read_all(write_folder(labels | images_in("img_align_celeba") | images_in("img_celeba")))
