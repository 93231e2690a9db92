"""Confusion matrices as real PNG files whose cells hold what the table says; how they look was judged by eye."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from agr_core.evaluation.confusion import confusion_png

EDGE = 12  # pixels of white around a picture


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def dark_blue(png: bytes) -> np.ndarray:
    """Which pixels are in the colour of a cell that holds (nearly) all of its class."""
    red, _, blue = np.moveaxis(pixels(png), 2, 0)
    return (red < 30) & (blue > 90)


def span(of: np.ndarray) -> tuple[int, int]:
    places = np.flatnonzero(of)
    return int(places[0]), int(places[-1]) + 1


@pytest.mark.parametrize("classes", range(2, 10))
def test_it_is_drawn_for_two_to_nine_classes(classes: int) -> None:
    labels = [f"class number {k}" for k in range(classes)]
    counts = (np.eye(classes, dtype=int) * 20_000).tolist()
    height, width, _ = pixels(confusion_png({"labels": labels, "counts": counts}, "race")).shape
    assert min(height, width) >= 60 * classes  # room for a percentage and a count in each cell
    assert max(height, width) < 1500


def test_colours_are_shares_of_the_true_class_and_not_counts() -> None:
    def draw(counts: list[list[int]]) -> float:
        return dark_blue(confusion_png({"labels": ["male", "female"], "counts": counts}, "gender")).mean()

    perfect, unbalanced = draw([[500, 0], [0, 500]]), draw([[9000, 0], [0, 3]])
    assert unbalanced == pytest.approx(perfect, rel=0.05)
    assert draw([[250, 250], [250, 250]]) < 0.2 * perfect


def test_the_true_class_is_in_rows_and_the_predicted_one_in_columns() -> None:
    def draw(counts: list[list[int]]) -> tuple[tuple[int, int], tuple[int, int]]:
        dark = dark_blue(confusion_png({"labels": ["one", "two", "six"], "counts": counts}, "race"))
        return span(dark.any(axis=1)), span(dark.any(axis=0))

    (top, bottom), column = draw([[0, 0, 9], [0, 0, 9], [0, 0, 9]])
    row, alone = draw([[0, 0, 9], [3, 3, 3], [3, 3, 3]])
    assert alone == column
    assert row == (top, top + (bottom - top) // 3)
    assert draw([[3, 3, 3], [3, 3, 3], [9, 0, 0]])[0] == (bottom - (bottom - top) // 3, bottom)


def test_a_class_without_images_has_an_empty_row() -> None:
    drawn = dark_blue(confusion_png({"labels": ["0-2", "3+"], "counts": [[0, 0], [0, 2]]}, "age"))
    full = dark_blue(confusion_png({"labels": ["0-2", "3+"], "counts": [[0, 1], [0, 1]]}, "age"))
    assert drawn.sum() == pytest.approx(full.sum() / 2, rel=0.05)


@pytest.mark.parametrize("letters", [60, 200])
def test_a_title_wider_than_the_matrix_is_not_cut(letters: int) -> None:
    table = {"labels": ["male", "female"], "counts": [[9, 1], [2, 8]]}
    half, whole = (pixels(confusion_png(table, "n" * n)).shape[1] for n in (letters, 2 * letters))
    assert whole - 2 * EDGE == pytest.approx(2 * (half - 2 * EDGE), rel=0.02)


@pytest.mark.parametrize("name", ["x", "a class of a rather long name, over forty letters"])
def test_there_is_white_on_all_sides(name: str) -> None:
    drawn = (pixels(confusion_png({"labels": [name, name], "counts": [[9, 1], [2, 8]]}, "race")) < 255).any(axis=2)
    for side in (drawn, drawn[::-1], drawn.T, drawn.T[::-1]):
        assert int(side.any(axis=1).argmax()) == EDGE
