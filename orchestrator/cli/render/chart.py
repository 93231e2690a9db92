"""Text chart of several trials' curves: a letter at each epoch, dots between."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from rich.text import Text

from orchestrator.cli.render.live_view import within

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_STYLES = ("cyan", "yellow", "green", "magenta", "blue", "red")
_HEIGHT = 12
_WIDEST = 100


def chart(curves: Mapping[str, Sequence[float]], title: str, width: int) -> list[Text]:
    """Draw a chart: title, curves over epochs, and a legend of the letters.

    Args:
        curves: Values by curve name, one for each epoch from the first; non-finite values are left out.
        title: Name of the plotted quantity.
        width: Line width, in characters.

    Returns:
        The lines; empty if no curve has a finite value.
    """
    values = [value for curve in curves.values() for value in curve if math.isfinite(value)]
    if not values:
        return []
    low, high = min(values), max(values)
    scale = [f"{high:.4g}", f"{low:.4g}"]
    margin = max(map(len, scale))
    columns = max(2, min(_WIDEST, width - margin - 2))
    epochs = max(len(curve) for curve in curves.values())
    cells: list[list[tuple[str, str] | None]] = [[None] * columns for _ in range(_HEIGHT)]
    for number, curve in enumerate(curves.values()):
        _draw(cells, curve, _LETTERS[number % len(_LETTERS)], _STYLES[number % len(_STYLES)], (low, high), epochs)
    lines = [Text(title, style="bold")]
    for row, line in enumerate(cells):
        label = {0: scale[0], _HEIGHT - 1: scale[1]}.get(row, "")
        text = Text(f"{label:>{margin}} │")
        for cell in line:
            text.append(" " if cell is None else cell[0], style=None if cell is None else cell[1])
        text.rstrip()
        lines.append(text)
    last = str(epochs)
    lines.append(Text(f"{'':>{margin}} └{'─' * columns}"))
    lines.append(Text(f"{'':>{margin}}  1{'epoch':^{max(0, columns - 1 - len(last))}}{last}"))
    for number, name in enumerate(curves):
        lines.append(
            Text(f"{_LETTERS[number % len(_LETTERS)]}  {within(name, width - 3)}", style=_STYLES[number % len(_STYLES)])
        )
    return lines


def _draw(
    cells: list[list[tuple[str, str] | None]],
    curve: Sequence[float],
    letter: str,
    style: str,
    bounds: tuple[float, float],
    epochs: int,
) -> None:
    """Draw a curve into ``cells``; occupied cells stay, and letters take precedence over dots."""
    low, high = bounds
    columns = len(cells[0])
    points = []
    for epoch, value in enumerate(curve):
        if math.isfinite(value):
            column = round(epoch / max(1, epochs - 1) * (columns - 1))
            row = round((high - value) / (high - low) * (_HEIGHT - 1)) if high > low else _HEIGHT - 1
            points.append((column, row))
    for (left, above), (right, below) in pairwise(points):
        for column in range(left + 1, right):
            row = round(above + (below - above) * (column - left) / (right - left))
            cells[row][column] = cells[row][column] or ("·", style)
    for column, row in points:
        occupant = cells[row][column]
        if occupant is None or occupant[0] == "·":
            cells[row][column] = letter, style
