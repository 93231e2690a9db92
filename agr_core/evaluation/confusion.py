"""A confusion matrix as PNG.

MLflow's writer draws some for every trial, so they are put together from squares and words: Matplotlib, which measures,
lays out and draws an artist for each of them, takes eight times the CPU time. The font and the colours are its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from agr_core.evaluation.pictures import DPI, cut_png

_CELL, _GAP, _LINE = 88, 8, 24  # pixels
_SMALL, _NORMAL, _TITLE = 8, 10, 11  # points
_TURN = 40  # degrees, of the names below the columns
_INK, _FAINT, _ON_DARK = "#222222", "#a0a0a0", "#ffffff"


def confusion_png(table: Mapping[str, Any], title: str) -> bytes:
    """A confusion matrix as a heat map: colour and percentage are the share of the true class, below it the count.

    Args:
        table: ``{"labels": [K names], "counts": [K lists of K counts]}``, the true class in rows.
        title: Words above the picture.
    """
    import matplotlib

    labels = [str(label) for label in table["labels"]]
    counts = np.asarray(table["counts"], dtype=np.int64)
    class_sizes = counts.sum(axis=1)
    shares = counts / np.maximum(class_sizes, 1)[:, np.newaxis]
    colors = matplotlib.colormaps["Blues"](shares, bytes=True)

    rows = [f"{label}  (n={size:,})" for label, size in zip(labels, class_sizes, strict=True)]
    columns = [_turned(label, _TURN) for label in labels]
    axis = _turned("true", 90)
    name_width, name_height = max(map(_width, rows)), max(column.height for column in columns)
    side = _CELL * len(labels)
    # Room for all of it on each side of the middle; what remains white is cut off.
    half = side // 2 + name_width + axis.width + 4 * _GAP
    half = max(half, *(_width(line, _TITLE) for line in title.splitlines()))
    left, top = half - side // 2, _LINE * (2 + len(title.splitlines()))
    bottom = top + side
    picture = Image.new("RGB", (2 * half, bottom + name_height + 2 * _LINE), "white")
    draw = ImageDraw.Draw(picture)

    for (row, column), share in np.ndenumerate(shares):
        x, y, count = left + column * _CELL, top + row * _CELL, counts[row, column]
        draw.rectangle((x, y, x + _CELL - 1, y + _CELL - 1), fill=tuple(colors[row, column, :3].tolist()))
        words = f"{share:.0%}\n{count:,}" if count else "0"
        ink = _ON_DARK if share > 0.55 else _INK if count else _FAINT
        draw.text((x + _CELL / 2, y + _CELL / 2), words, ink, _font(_SMALL), anchor="mm", align="center")
    for place, (name, turned) in enumerate(zip(rows, columns, strict=True)):
        middle = place * _CELL + _CELL // 2
        draw.text((left - _GAP, top + middle), name, _INK, _font(_NORMAL), anchor="rm")
        draw.bitmap((left + middle + _GAP - turned.width, bottom + _GAP), turned, _INK)
    draw.bitmap((left - 2 * _GAP - name_width - axis.width, top + (side - axis.height) // 2), axis, _INK)
    draw.text((half, bottom + name_height + 2 * _GAP), "predicted (% of the true class)", _INK, _font(_NORMAL), "ma")
    draw.text((half, top - _GAP), title, _INK, _font(_TITLE), "md", align="center")
    return cut_png(picture)


def _turned(text: str, degrees: float) -> Image.Image:
    """Text turned to the left, as a mask."""
    left, top, right, bottom = map(round, _font(_NORMAL).getbbox(text))
    mask = Image.new("L", (right - left, bottom - top))
    ImageDraw.Draw(mask).text((-left, -top), text, 255, _font(_NORMAL))
    return mask.rotate(degrees, Image.Resampling.BICUBIC, expand=True)


def _width(text: str, points: int = _NORMAL) -> int:
    return round(_font(points).getlength(text))


@cache
def _font(points: int) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), points * DPI / 72)
