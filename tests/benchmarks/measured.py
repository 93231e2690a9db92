"""Figures of a benchmark: what was measured, its goal, and whether it is held. Each script of this folder uses it.

``--tiny`` runs a script at a size whose figures mean nothing: it shows that the script still works. ``--json FILE``
writes the figures, which is how ``bench.py`` has them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured value; without a goal it is there to be read."""

    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def goal(self) -> str:
        """As a bound; empty without one."""
        if self.at_most is not None:
            return f"≤ {self.at_most:g}"
        return "" if self.at_least is None else f"≥ {self.at_least:g}"

    @property
    def held(self) -> bool | None:
        """Whether the goal is held; None without one."""
        if self.at_most is not None:
            return self.value <= self.at_most
        return None if self.at_least is None else self.value >= self.at_least


def parse(parser: argparse.ArgumentParser, *, tiny: Mapping[str, Any]) -> argparse.Namespace:
    """The arguments of a benchmark; under ``--tiny`` those of ``tiny`` replace what was given."""
    parser.add_argument("--tiny", action="store_true", help="only show that it works; its figures mean nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    arguments = parser.parse_args()
    if arguments.tiny:
        unknown = tiny.keys() - vars(arguments).keys()
        assert not unknown, f"no arguments of this benchmark: {unknown}"
        vars(arguments).update(tiny)
    return arguments


def report(figures: Sequence[Figure], arguments: argparse.Namespace) -> int:
    """Print a line for each figure and write them where ``--json`` says; returns the exit code.

    Returns:
        1 if a goal is not held, else 0; always 0 under ``--tiny``.
    """
    for figure in figures:
        verdict = "" if figure.held is None or arguments.tiny else ("held" if figure.held else "NOT held")
        print(f"{figure.name:<46} {figure.value:>10.4g} {figure.unit:<12} {figure.goal:<8} {verdict}".rstrip())
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=1))
    return 0 if arguments.tiny or all(figure.held is not False for figure in figures) else 1


def read(file: Path) -> list[Figure]:
    """The figures that ``report`` wrote."""
    return [Figure(**fields) for fields in json.loads(file.read_text())]
