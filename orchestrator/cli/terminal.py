"""What people see on a terminal: words of others (names, labels, errors, logs) are shown, and do nothing there.

A terminal obeys what it is shown: an escape sequence in the name of a file may rewrite lines, set titles or fill the
clipboard. Rich reads ``[red]`` in any text as markup, and ``[/red]`` as an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import IO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

_WIDTH = 100

_CONTROLS = [*range(0x20), *range(0x7F, 0xA0)]
_DIRECTIONS = [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
"""Unicode's commands to write from right to left, which show a text as another one."""

_HARMLESS = dict.fromkeys({*_CONTROLS, *_DIRECTIONS} - {ord("\n"), ord("\t")})


def harmless(text: str) -> str:
    """``text`` without what a terminal would obey; line breaks and tabs stay."""
    return text.translate(_HARMLESS)


class Terminal(Console):
    """A console to which every text is just text; styles are given as styles.

    Args:
        width: Columns; default: the terminal's, or 100 where there is none.
        stderr: Write on standard error.
        soft_wrap: Lines are wrapped by the terminal.
        highlight: Colour numbers and the like.
        file: Where to write instead.
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
            self.width = _WIDTH

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The parts that make up something shown, harmless."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(harmless(segment.text), segment.style)
