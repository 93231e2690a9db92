"""Terminal output that neutralises control sequences and markup in external text (names, labels, errors, logs).

Terminals execute escape sequences: one in a file name may rewrite lines, set the title or fill the clipboard. Rich
interprets ``[red]`` in any text as markup and raises an error for ``[/red]``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import IO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_WIDTH = 100

_CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]
_DIRECTIONS = [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
"""Unicode bidirectional controls, which can make text appear in another order."""

_HARMLESS = dict.fromkeys({*_CONTROLS, *_DIRECTIONS} - {ord("\n"), ord("\t")})


def harmless(text: str) -> str:
    """Return ``text`` without control characters; line breaks and tabs stay."""
    return text.translate(_HARMLESS)


class Terminal(Console):
    """Console without markup in text; styles are passed as arguments.

    Args:
        width: Number of columns; default: ``COLUMNS``, else the terminal's width, or 100 without a terminal.
        stderr: Write to standard error.
        soft_wrap: Let the terminal wrap lines.
        highlight: Colour numbers and similar tokens.
        file: Output file instead of standard output.
    """

    def __init__(
        self,
        *,
        width: int | None = None,
        stderr: bool = False,
        soft_wrap: bool = False,
        highlight: bool = True,
        file: IO[str] | None = None,
    ) -> None:
        super().__init__(
            width=width,
            stderr=stderr,
            soft_wrap=soft_wrap,
            highlight=highlight,
            file=file,
            markup=False,
            emoji=False,
        )
        if width is None and not self.is_terminal:
            asked = os.environ.get("COLUMNS", "")
            self.width = int(asked) if asked.isdigit() and int(asked) else _WIDTH

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Return the segments of a renderable without control characters."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(harmless(segment.text), segment.style)
