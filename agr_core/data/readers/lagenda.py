"""LAGENDA (Kuprashevich and Tolstykh 2023): photographs of people, each with a face box, an age and a gender.

``lagenda_annotation.csv`` has a row per person: ``img_name``; ``age`` in years and ``gender`` M or F, -1 where unknown;
``face_x0`` to ``face_y1`` in pixels, -1 without a face; and the box of the body, which is not used. Each face is
cropped with a margin and stored as JPEG. Its path is the photograph's path with the number of the person's row in that
photograph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import cv2
import numpy as np

from agr_core.bins import MAX_AGE
from agr_core.data.decode import decode, image_problem
from agr_core.data.readers.base import READERS, ImageLabels, Labelling, RawImage, Skipped, exact_age
from agr_core.data.readers.files.base import Files, LeftOut, UnreadableFileError, is_image_name
from agr_core.data.readers.label_files import last_two, named, read_table, read_text
from agr_core.errors import DataError
from agr_core.labels.attributes import GENDERS, Vocabulary

MARGIN = 0.4
"""Margin of a crop as a share of the face's longer side; the same as of ``agr data pack --crop``."""

_LABEL_FILE = "lagenda_annotation.csv"
_BOX = ("face_x0", "face_y0", "face_x1", "face_y1")
_COLUMNS = ("img_name", "age", "gender", *_BOX)
_GENDER_CODES = {"M": GENDERS[0], "F": GENDERS[1], "-1": None, "": None}
_JPEG_QUALITY = 95

_Box = tuple[float, float, float, float]


class LagendaReader:
    """Reader of LAGENDA, one face per person."""

    name = "lagenda"
    layout = "lagenda_annotation.csv beside the folders of photographs"
    vocabulary = Vocabulary(genders=GENDERS, races=())

    def recognises(self, paths: Sequence[str]) -> bool:
        """Return whether the annotation file exists."""
        return any(PurePosixPath(path).name == _LABEL_FILE for path in paths)

    def labelling(self, files: Files) -> Labelling:
        """Return the labels of each face, ``<folder>/<image>#<row>``."""
        path = self._label_file(files)
        labels = {key: labels_or_reason for key, labels_or_reason, _ in _people(files, path)}
        return Labelling(labels, frozenset((path,)))

    def key(self, path: str) -> str:
        """Return folder and name."""
        return last_two(path)

    def images(self, files: Files) -> Iterator[RawImage | Skipped]:
        """Yield each person's face, photograph by photograph, and every row, file and photograph without one."""
        label_file = self._label_file(files)
        people: dict[str, list[tuple[str, ImageLabels | str, _Box | None]]] = {}
        for person in _people(files, label_file):
            people.setdefault(person[0].rpartition("#")[0], []).append(person)
        for path, reason in files.refused:
            yield Skipped(path, reason, lost=is_image_name(path) and not isinstance(reason, LeftOut))
        for path in files.paths:
            if path == label_file:
                continue
            if not is_image_name(path):
                yield Skipped(path, "not an image file by its name", lost=False)
            elif (of_photograph := people.pop(self.key(path), None)) is None:
                yield Skipped(path, f"no line of {_LABEL_FILE} names it", lost=False)
            else:
                yield from _faces(files, path, of_photograph)
        for rest in people.values():
            for key, labels_or_reason, _ in rest:
                reason = (
                    labels_or_reason
                    if isinstance(labels_or_reason, str)
                    else f"named in {_LABEL_FILE}, but there is no such image"
                )
                yield Skipped.because(key, reason)

    def _label_file(self, files: Files) -> str:
        path = named(files.paths, _LABEL_FILE)
        if path is None:
            raise DataError(f"{files.source} has no {_LABEL_FILE}; put it beside the folders of photographs.")
        return path


def _people(files: Files, path: str) -> Iterator[tuple[str, ImageLabels | str, _Box | None]]:
    """Yield key, labels (or the reason for their absence) and box of each row."""
    rows: dict[str, int] = {}
    for _, row in read_table(read_text(files, path), path, _COLUMNS):
        image = last_two(row["img_name"].replace("\\", "/"))
        rows[image] = rows.get(image, -1) + 1
        labels_or_reason, box = _labels(row)
        yield f"{image}#{rows[image]}", labels_or_reason, box


def _labels(row: dict[str, str]) -> tuple[ImageLabels | str, _Box | None]:
    try:
        age = float(row["age"] or -1)
        box = tuple(float(row[side] or -1) for side in _BOX)
    except ValueError:
        return f"age or box of {row['img_name']} is no number", None
    if row["gender"] not in _GENDER_CODES:
        return f"gender {row['gender']!r} is none of M, F, -1", None
    gender = _GENDER_CODES[row["gender"]]
    if age == -1 and gender is None:
        return LeftOut("a person without a known age and gender"), None
    if age != -1 and not 0 <= age <= MAX_AGE:
        return f"age {row['age']} is outside 0 to {MAX_AGE} years", None
    left, top, right, bottom = box
    if min(box) < 0 and max(box) <= 0:
        return LeftOut("a person without a face"), None
    if not (right > left and bottom > top):
        return f"its box from {left:g}, {top:g} to {right:g}, {bottom:g} is none", None
    return ImageLabels(**exact_age(None if age == -1 else age), gender=gender), (left, top, right, bottom)


def _faces(
    files: Files, path: str, people: Sequence[tuple[str, ImageLabels | str, _Box | None]]
) -> Iterator[RawImage | Skipped]:
    """Yield the faces of a photograph, which is decoded once."""
    try:
        data = files.read(path)
        problem = image_problem(data)
    except UnreadableFileError as error:
        problem = str(error)
    pixels = decode(data) if problem is None else None
    for key, labels_or_reason, box in people:
        name = f"{path}#{key.rpartition('#')[2]}"
        if isinstance(labels_or_reason, str):
            yield Skipped.because(name, labels_or_reason)
        elif pixels is None:
            yield Skipped(name, str(problem))
        else:
            assert box is not None
            face = _cut(pixels, box)
            yield (
                RawImage(path=name, data=face, **vars(labels_or_reason))
                if face
                else Skipped(name, "its box is off the image")
            )


def _cut(pixels: np.ndarray, box: _Box) -> bytes | None:
    """Return the face in a box with its margin, clipped to the photograph, as JPEG; None if the box is outside."""
    left, top, right, bottom = box
    around = MARGIN * max(right - left, bottom - top)
    height, width = pixels.shape[:2]
    rows = slice(max(0, round(top - around)), min(height, round(bottom + around)))
    columns = slice(max(0, round(left - around)), min(width, round(right + around)))
    face = pixels[rows, columns]
    if not face.size or left >= width or top >= height:
        return None
    bgr = cv2.cvtColor(np.ascontiguousarray(face), cv2.COLOR_RGB2BGR)
    encoded, data = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
    return data.tobytes() if encoded else None


READERS.register(LagendaReader.name, LagendaReader())
