"""Faces written as a data set is distributed and read again by its reader are the faces that were drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from agr_core.config import SyntheticConfig
from agr_core.data.drawn.layouts import LAYOUTS, write_layout
from agr_core.data.drawn.synthetic import draw_faces
from agr_core.data.readers import RawImage, find_reader
from agr_core.data.readers.files import open_files
from agr_core.errors import DataError, UnknownComponentError

from ..conftest import read_all

# IMDb-WIKI has no place for races, and says who it is.
NOT_KEPT = {"imdb_wiki": {"race", "subject"}}


def config_of(layout: str, images: int = 60) -> SyntheticConfig:
    return SyntheticConfig.model_validate({"like": LAYOUTS.get(layout).like, "images": images, "size": 16, "seed": 4})


def labels_of(image: RawImage, layout: str) -> dict[str, object]:
    return {
        name: value for name, value in vars(image).items() if name not in {"path", "data"} | NOT_KEPT.get(layout, set())
    }


@pytest.mark.parametrize("layout", LAYOUTS.names())
def test_what_is_written_is_recognised_and_read_again_label_for_label(layout: str, tmp_path: Path) -> None:
    config = config_of(layout)
    assert write_layout(config, tmp_path / "raw", layout) == 60
    with open_files(tmp_path / "raw") as files:
        assert find_reader(files).name == layout
    images, skipped = read_all(tmp_path / "raw")
    assert skipped == {}
    drawn = {face.data: labels_of(face, layout) for face in draw_faces(config)}
    assert {image.data: labels_of(image, layout) for image in images} == drawn
    assert len(images) == len(drawn) == 60


def test_the_files_have_the_published_names_and_first_lines(tmp_path: Path) -> None:
    for layout in LAYOUTS:
        write_layout(config_of(layout), tmp_path / layout, layout)
    for path in (
        "adience/fold_4_data.txt", "celeba/img_align_celeba/000060.jpg", "celeba/list_eval_partition.txt",
        "fairface/val/1.jpg", "imdb_wiki/imdb_crop/imdb.mat",
    ):  # fmt: skip
        assert (tmp_path / path).is_file()
    assert all(path.name.endswith(".jpg.chip.jpg") for path in (tmp_path / "utkface/UTKFace").iterdir())
    first = (tmp_path / "celeba/list_attr_celeba.txt").read_text().splitlines()
    assert first[0] == "60"
    assert first[1].startswith("5_o_Clock_Shadow Arched_Eyebrows ")
    train = (tmp_path / "fairface/fairface_label_train.csv").read_bytes().decode()
    assert train.startswith("file,age,gender,race,service_test\r\n")
    assert "03-Sep" in train
    assert "Oct-19" in train
    assert ",3-9," not in train
    fold = (tmp_path / "adience/fold_0_data.txt").read_text().splitlines()
    assert fold[0].split("\t")[:5] == ["user_id", "original_image", "face_id", "age", "gender"]
    assert len(fold[1].split("\t")) == 12


def test_faces_without_the_layout_s_labels_are_refused(tmp_path: Path) -> None:
    plain = SyntheticConfig(images=10, size=16)
    with pytest.raises(
        DataError, match="layout celeba needs the labels of faces drawn like celeba, not like plain; give"
    ):
        write_layout(plain, tmp_path / "raw", "celeba")
    with pytest.raises(UnknownComponentError, match=r"Unknown layout 'utkfaces'. Did you mean 'utkface'"):
        write_layout(plain, tmp_path / "raw", "utkfaces")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone_and_an_empty_one_is_filled(tmp_path: Path) -> None:
    full, empty = tmp_path / "full", tmp_path / "empty"
    full.mkdir()
    empty.mkdir()
    (full / "thesis.tex").write_text("precious")
    with pytest.raises(DataError, match="exists and is not an empty folder"):
        write_layout(config_of("utkface", 10), full, "utkface")
    assert [path.name for path in full.iterdir()] == ["thesis.tex"]
    write_layout(config_of("utkface", 10), empty, "utkface")
    assert len(list((empty / "UTKFace").iterdir())) == 10
