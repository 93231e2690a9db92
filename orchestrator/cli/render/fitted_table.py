"""Table that fits a width by dropping its least important columns; cells are never truncated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from orchestrator.cli.render.terminal import Terminal

PADDING = 2
"""Gap between two columns, in characters."""


@dataclass(frozen=True)
class Column:
    """Column with its cells.

    ``rank`` orders columns by importance. Columns of rank 0 are always shown; of the others, the highest ranks are
    dropped first.
    """

    title: str
    cells: Sequence[str | Text]
    right: bool = False
    rank: int = 0

    @property
    def width(self) -> int:
        """Width of its widest line plus the column gap, in characters."""
        texts = [self.title, *(cell.plain if isinstance(cell, Text) else cell for cell in self.cells)]
        return max(len(line) for text in texts for line in (text.splitlines() or [""])) + PADDING


def fitted(columns: Sequence[Column], width: int) -> tuple[list[Column], list[Column]]:
    """Return the columns that fit into ``width`` together, in their order, and the dropped columns.

    A column wider than the remaining space is dropped in favour of less important, narrower ones.
    """
    room = width + PADDING - sum(column.width for column in columns if column.rank == 0)
    kept = {id(column) for column in columns if column.rank == 0}
    for column in sorted((column for column in columns if column.rank), key=lambda column: column.rank):
        if column.width <= room:
            room -= column.width
            kept.add(id(column))
    return [column for column in columns if id(column) in kept], [
        column for column in columns if id(column) not in kept
    ]


def print_table(columns: Sequence[Column], out: Terminal, *, styles: Sequence[str | None] = ()) -> list[Column]:
    """Print the columns that fit and return the dropped ones.

    If even the columns of rank 0 do not fit, the terminal wraps their lines, so that copied cells are complete.

    Args:
        columns: Columns with equal numbers of cells.
        out: Terminal to print to.
        styles: Style of each row.
    """
    shown, left_out = fitted(columns, out.width)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for column in shown:
        table.add_column(column.title, justify="right" if column.right else "left", no_wrap=True)
    for number in range(len(columns[0].cells) if columns else 0):
        style = styles[number] if number < len(styles) else None
        table.add_row(*(column.cells[number] for column in shown), style=style)
    needed = sum(column.width for column in shown)
    (out if needed <= out.width + 1 else Terminal(width=needed, file=out.file)).print(table)
    return left_out
