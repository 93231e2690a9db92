"""Data sets whose labels stand in names: AgeDB, FG-NET, CACD, AFAD, MORPH-II."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agr_core.data.packed.pack import Packed, pack
from agr_core.data.readers import READERS, fgnet, find_reader
from agr_core.data.readers.base import ImageLabels, exact_age
from agr_core.data.readers.files import open_files
from agr_core.data.readers.names import NameReader
from agr_core.errors import DataError
from agr_core.labels.attributes import Vocabulary

from ..conftest import picture, read_all

NAMED = [
    ("agedb", "AgeDB/0_MariaCallas_35_f.jpg", {"age": 35, "gender": "female", "subject": "MariaCallas"}),
    ("agedb", "16349_AdlaiStevenson_II_101_m.jpg", {"age": 101, "gender": "male", "subject": "AdlaiStevenson_II"}),
    ("fgnet", "FGNET/images/001A02.JPG", {"age": 2, "subject": "001"}),
    ("fgnet", "082a18b.jpg", {"age": 18, "subject": "082"}),
    ("cacd", "CACD2000/53_Robin_Williams_0001.jpg", {"age": 53, "subject": "Robin_Williams"}),
    ("cacd", "14_Élodie_Yung_0012.jpg", {"age": 14, "subject": "Élodie_Yung"}),
    ("cacd", "30_50_Cent_0003.jpg", {"age": 30, "subject": "50_Cent"}),
    ("afad", "AFAD-Full/15/111/109318-0.jpg", {"age": 15, "gender": "male", "race": "Asian"}),
    ("afad", "40/112/7-0.jpg", {"age": 40, "gender": "female", "race": "Asian"}),
    ("morph", "Album2/009055_1M54.JPG", {"age": 54, "gender": "male", "subject": "009055"}),
    ("morph", "317_02F8.jpg", {"age": 8, "gender": "female", "subject": "317"}),
]


@pytest.mark.parametrize(("reader", "path", "labels"), NAMED, ids=[path.rsplit("/", 1)[-1] for _, path, _ in NAMED])
def test_labels_are_read_from_the_name(
    reader: str, path: str, labels: dict[str, Any], write_folder: Callable[..., Path]
) -> None:
    (image,), skipped = read_all(write_folder({path: picture(1)}), reader)
    said = ImageLabels(**{**labels, **exact_age(labels["age"])})
    assert {name: getattr(image, name) for name in vars(said)} == vars(said)
    assert skipped == {}


@pytest.mark.parametrize(
    ("reader", "path", "reason"),
    [
        ("agedb", "0_MariaCallas_117_f.jpg", "age 117 is outside 0 to 116 years"),
        ("agedb", "0_MariaCallas_35.jpg", r"the name is not [number]_[Name]_[age]_[f|m].jpg"),
        ("fgnet", "1A02.JPG", "the name is not [subject]A[age].JPG"),
        ("cacd", "154_Robin_Williams_0001.jpg", "age 154 is outside 0 to 116 years"),
        ("cacd", "53_0001.jpg", "the name is not [age]_[First]_[Last]_[number].jpg"),
        ("afad", "AFAD/15/113/1-0.jpg", "the name is not [age]/[111|112]/[file].jpg"),
        ("afad", "AFAD/150/111/1-0.jpg", "age 150 is outside 0 to 116 years"),
        ("morph", "009055_1X54.JPG", "the name is not [subject]_[number][M|F][age].JPG"),
        ("morph", "009055_1M154.JPG", "age 154 is outside 0 to 116 years"),
        ("morph", "readme.txt", "not an image file by its name"),
    ],
)
def test_a_name_that_says_no_valid_labels_is_skipped_with_the_reason(
    reader: str, path: str, reason: str, write_folder: Callable[..., Path]
) -> None:
    images, skipped = read_all(write_folder({path: picture(1)}), reader)
    assert images == []
    assert skipped == {path: reason}


OTHERS = {
    "adience": "fold_0_data.txt",
    "celeba": "list_attr_celeba.txt",
    "fairface": "fairface_label_val.csv",
    "imdb_wiki": "wiki.mat",
    "utkface": "24_0_1_20170116220224657 .jpg.chip.jpg",
}
PATHS = [(reader, path) for reader, path, _ in NAMED] + list(OTHERS.items())


@pytest.mark.parametrize(("name", "path"), PATHS, ids=[path.rsplit("/", 1)[-1] for _, path in PATHS])
def test_a_data_set_is_recognised_by_its_own_reader_alone(name: str, path: str) -> None:
    assert [known for known in READERS if READERS.get(known).recognises(["a/readme.txt", path])] == [name]


def test_files_of_two_data_sets_are_refused_with_the_way_out(write_folder: Callable[..., Path]) -> None:
    folder = write_folder({"001A02.JPG": picture(1), "0_MariaCallas_35_f.jpg": picture(2)})
    with (
        open_files(folder) as files,
        pytest.raises(DataError, match=r"look like agedb and fgnet; choose one with .*--reader"),
    ):
        find_reader(files)
    images, skipped = read_all(folder, "fgnet")
    assert [image.path for image in images] == ["001A02.JPG"]
    assert skipped == {"0_MariaCallas_35_f.jpg": "the name is not [subject]A[age].JPG"}


def test_a_new_reader_is_a_pattern_a_function_and_one_registration(
    write_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(READERS, "_entries", dict(READERS._entries))
    READERS.register(
        "toy",
        NameReader(
            name="toy",
            layout="age-[age].jpg",
            vocabulary=Vocabulary(genders=(), races=()),
            pattern=re.compile(r"age-([0-9]+)\.jpg"),
            labels=lambda match: ImageLabels(**exact_age(int(match[1]))),
        ),
    )
    pack(str(write_folder({"age-30.jpg": picture(1), "age-4.jpg": picture(2)})), tmp_path / "packed")
    assert Packed.open(tmp_path / "packed").table["age"].tolist() == [30, 4]


def test_the_reader_that_contributing_shows_is_the_one_there_is() -> None:
    root = Path(fgnet.__file__).parents[3]
    section = (root / "CONTRIBUTING.md").read_text().split("## Adding a reader")[1]
    shown = re.split(r"```python.*\n", section)[1].split("```")[0]
    assert shown in Path(fgnet.__file__).read_text()


def test_every_reader_has_a_name_it_is_registered_under_and_says_what_its_files_look_like() -> None:
    for name in READERS:
        reader = READERS.get(name)
        assert reader.name == name
        assert reader.layout


# --------------------------------------------------------------------------------------------------------------------
# MORPH-II's table

MORPH = "id_num,picture_num,dob,doa,race,gender,facial_hair,age,age_diff,glasses,photo\r\n" + "".join(
    f"{name[:6]},1,01/01/1960,01/01/2004,{race},M,NULL,44,0,NULL,Album2/{name}\r\n"
    for name, race in [("000001_0M44.JPG", "B"), ("000002_0M44.JPG", "H"), ("000003_0M44.JPG", "X")]
)


def test_morph_s_table_tells_the_race(write_folder: Callable[..., Path]) -> None:
    files = {f"Album2/{number:06d}_0M44.JPG": picture(number) for number in range(1, 5)}
    images, skipped = read_all(write_folder(files | {"morph_2008_nonCommercial.csv": MORPH.encode()}))
    assert [(image.subject, image.race) for image in images] == [
        ("000001", "Black"),
        ("000002", "Hispanic"),
        ("000004", None),
    ]
    assert skipped == {"Album2/000003_0M44.JPG": "race 'X' is none of W, B, A, H, O"}


def test_morph_without_its_table_knows_no_race(write_folder: Callable[..., Path]) -> None:
    images, skipped = read_all(write_folder({"000001_0M44.JPG": picture(1)}))
    assert images[0].race is None
    assert skipped == {}
