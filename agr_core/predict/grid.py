"""Prediction grid: faces with predictions, and with true labels if the file name contains them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from agr_core.data.readers.base import ImageLabels
from agr_core.data.readers.utkface import UTKFACE
from agr_core.errors import DataError
from agr_core.evaluation.plots import empty_figure, png

if TYPE_CHECKING:
    from agr_core.predict.model import Face, FileFaces

MOST_FACES = 100
"""Maximum number of faces in a grid; more would not be legible."""

_COLUMNS = 8
_RIGHT, _WRONG, _PLAIN = "#15803d", "#c2410c", "#222222"


def grid_png(found: Sequence[FileFaces]) -> bytes:
    """Return the first faces that have a thumbnail, at most ``MOST_FACES``, as a PNG, in the order of the files.

    The prediction is printed below each face, followed by the true labels if the file has one face and a name in
    UTKFace's form. The prediction is green if gender and race are right and the age is within five years, else orange.

    Raises:
        DataError: If there is no face.
    """
    drawn = ((one, face, face.thumbnail) for one in found for face in one.faces)
    faces = [(one, face, image) for one, face, image in drawn if image is not None][:MOST_FACES]
    if not faces:
        raise DataError("no face was found in any of the files, so there is no grid to draw.")
    columns = min(_COLUMNS, len(faces))
    rows = -(-len(faces) // columns)
    figure = empty_figure(width=1.75 * columns, height=2.35 * rows)
    for place, (one, face, image) in enumerate(faces, start=1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(image)
        axes.set_axis_off()
        below: dict[str, Any] = {"transform": axes.transAxes, "ha": "center", "va": "top", "fontsize": 8}
        true = _true(one)
        axes.text(0.5, -0.06, _words(face.age, face.gender, face.race), color=_color(face, true), **below)
        if true is not None:
            axes.text(0.5, -0.20, "true: " + _words(true.age, true.gender, true.race), color=_PLAIN, **below)
    return png(figure)


def _true(one: FileFaces) -> ImageLabels | None:
    """Return the labels in the file's name; None if it has none, or the file has several faces."""
    labels = UTKFACE.parse(PurePath(one.file).name)
    return None if isinstance(labels, str) or len(one.faces) != 1 else labels


def _words(age: float | None, gender: str | None, race: str | None) -> str:
    return " ".join(word for word in ("" if age is None else f"{age:.0f}", gender or "", race or "") if word)


def _color(face: Face, true: ImageLabels | None) -> str:
    if true is None:
        return _PLAIN
    near = face.age is None or true.age is None or abs(face.age - true.age) <= 5
    return _RIGHT if near and face.gender in (None, true.gender) and face.race in (None, true.race) else _WRONG
