"""Synthetic faces as files in the layout of a known data set, for tests of its reader.

A layout yields files as pairs of name inside the data set and bytes.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import savemat

from agr_core.config import SyntheticConfig
from agr_core.data.drawn.synthetic import draw_faces
from agr_core.data.readers import RawImage, adience, fairface
from agr_core.errors import DataError
from agr_core.labels.attributes import CELEBA_ATTRIBUTES, GENDERS, UTKFACE_RACES
from agr_core.registry import Registry

NamedFiles = Iterator[tuple[str, bytes]]

_PHOTO_YEAR = 2010
_MATLAB_1970 = 719529  # MATLAB's serial number of 1 January 1970


@dataclass(frozen=True)
class Layout:
    """File layout of a data set; ``files`` converts faces drawn ``like`` it to its files."""

    like: str
    files: Callable[[Iterable[RawImage]], NamedFiles]


LAYOUTS: Registry[Layout] = Registry("layout")


def write_layout(config: SyntheticConfig, folder: Path, layout: str) -> int:
    """Generate faces and write them in the layout of a data set; return the number of images.

    ``folder`` appears only when it is complete.

    Raises:
        UnknownComponentError: If there is no such layout.
        DataError: If the faces lack the labels of the layout, or ``folder`` exists and is not empty.
    """
    chosen = LAYOUTS.get(layout)
    if config.like != chosen.like:
        raise DataError(
            f"layout {layout} needs the labels of faces drawn like {chosen.like}, not like {config.like}; "
            f"give --like {chosen.like} or leave it out."
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder} exists and is not an empty folder; choose another output, or remove it.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as workshop:
        built = Path(workshop) / "built"
        for name, data in chosen.files(draw_faces(config)):
            target = built / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        built.rename(folder)
    return config.images


def _utkface(images: Iterable[RawImage]) -> NamedFiles:
    for number, image in enumerate(images):
        codes = f"{_years(image)}_{GENDERS.index(_said(image.gender))}_{UTKFACE_RACES.index(_said(image.race))}"
        yield f"UTKFace/{codes}_20170116{number:09d}.jpg.chip.jpg", image.data


def _fairface(images: Iterable[RawImage]) -> NamedFiles:
    # The published files contain the two spellings made by a spreadsheet; AGES lists them last for their range.
    written = {group: age for age, group in fairface.AGES.items()}
    lines: dict[str, list[str]] = {partition: [] for partition in fairface.LABEL_FILES.values()}
    for image in images:
        told = lines[_said(image.partition)]
        path = f"{image.partition}/{len(told) + 1}.jpg"
        age = written[_group(image)]
        told.append(f"{path},{age},{_said(image.gender).capitalize()},{image.race},FALSE\r\n")
        yield path, image.data
    for name, partition in fairface.LABEL_FILES.items():
        yield name, ("file,age,gender,race,service_test\r\n" + "".join(lines[partition])).encode()


def _adience(images: Iterable[RawImage]) -> NamedFiles:
    header = "user_id original_image face_id age gender x y dx dy tilt_ang fiducial_yaw_angle fiducial_score"
    lines: list[list[str]] = [[] for _ in range(adience.FOLDS)]
    for number, image in enumerate(images):
        user, name = f"{70_000_000 + int(_said(image.subject))}@N00", f"{9_000_000_000 + number}_o.jpg"
        cells = (user, name, image.subject, str(_group(image)), _said(image.gender)[0], *"0000000")
        lines[int(_said(image.partition))].append("\t".join(map(str, cells)) + "\n")
        yield f"faces/{user}/coarse_tilt_aligned_face.{image.subject}.{name}", image.data
    for fold in range(adience.FOLDS):
        text = header.replace(" ", "\t") + "\n" + "".join(lines[fold])
        yield adience.fold_file(fold), text.encode()


def _celeba(images: Iterable[RawImage]) -> NamedFiles:
    rows: list[str] = []
    partitions: list[str] = []
    codes = {"train": 0, "val": 1, "test": 2}
    for number, image in enumerate(images, start=1):
        name = f"{number:06d}.jpg"
        assert image.attributes is not None
        rows.append(f"{name} {' '.join(' 1' if has else '-1' for has in image.attributes)}\n")
        partitions.append(f"{name} {codes[_said(image.partition)]}\n")
        yield f"img_align_celeba/{name}", image.data
    yield "list_attr_celeba.txt", f"{len(rows)}\n{' '.join(CELEBA_ATTRIBUTES)} \n{''.join(rows)}".encode()
    yield "list_eval_partition.txt", "".join(partitions).encode()


def _imdb_wiki(images: Iterable[RawImage]) -> NamedFiles:
    paths: list[str] = []
    born: list[int] = []
    genders: list[float] = []
    for number, image in enumerate(images):
        birth = date(_PHOTO_YEAR - _years(image), 1 + number % 6, 1 + number % 28)  # before July
        day = f"{birth.year}-{birth.month}-{birth.day}"
        paths.append(f"{number % 100:02d}/nm{number:07d}_rm{number:09d}_{day}_{_PHOTO_YEAR}.jpg")
        born.append(_MATLAB_1970 + (birth - date(1970, 1, 1)).days)
        genders.append(1.0 if image.gender == GENDERS[0] else 0.0)
        yield f"imdb_crop/{paths[-1]}", image.data
    count = len(paths)
    people = [f"Drawn {number}" for number in range(count)]
    fields: dict[str, Any] = {
        "dob": np.array([born], dtype=np.int32),
        "photo_taken": np.full((1, count), _PHOTO_YEAR, dtype=np.uint16),
        "full_path": _cell_array(paths),
        "gender": np.array([genders]),
        "name": _cell_array(people),
        "face_location": _cell_array([np.array([[1.0, 1.0, 2.0, 2.0]])] * count),
        "face_score": np.full((1, count), 3.5),
        "second_face_score": np.full((1, count), np.nan),
        "celeb_names": _cell_array(people),
        "celeb_id": np.arange(1, count + 1, dtype=np.int32)[None],
    }
    buffer = io.BytesIO()
    savemat(buffer, {"imdb": fields}, do_compression=True)
    yield "imdb_crop/imdb.mat", buffer.getvalue()


def _cell_array(values: list[Any]) -> NDArray[np.object_]:
    """Return a 1 x N MATLAB cell array."""
    cells = np.empty((1, len(values)), dtype=object)
    for index, value in enumerate(values):
        cells[0, index] = value
    return cells


def _said(label: str | None) -> str:
    assert label is not None  # faces drawn like the layout's data set have its labels
    return label


def _years(image: RawImage) -> int:
    assert image.age is not None
    return int(image.age)


def _group(image: RawImage) -> tuple[int, int]:
    assert image.age_low is not None
    assert image.age_high is not None
    return int(image.age_low), int(image.age_high)


LAYOUTS.register("adience", Layout("adience", _adience))
LAYOUTS.register("celeba", Layout("celeba", _celeba))
LAYOUTS.register("fairface", Layout("fairface", _fairface))
LAYOUTS.register("imdb_wiki", Layout("plain", _imdb_wiki))
LAYOUTS.register("utkface", Layout("plain", _utkface))
