"""``agr report``: HTML report of one or several sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.common import StorageOption, SweepsArgument, errors_in_one_line, say, storage_at, sweep_of


def register(app: typer.Typer) -> None:
    """Add the command of this module to ``app``."""
    app.command()(report)


def report(
    sweeps: SweepsArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write; an existing file is replaced.")] = Path(
        "report.html"
    ),
    storage: StorageOption = None,
) -> None:
    """Write an HTML report of one sweep, or several on the same split: curves, importance, groups, leaderboard.

    The file is self-contained and loads nothing from a network. Example: agr report quickstart -o quickstart.html
    """
    with errors_in_one_line():
        from orchestrator.cli.arguments.output import output_file
        from orchestrator.report.evidence import Evidence
        from orchestrator.report.page import figures_of, page_html

        path = output_file(output, "-o", suffix=".html")
        opened = storage_at(storage)
        evidence = Evidence(opened)
        states = evidence.states(list(dict.fromkeys(sweep_of(opened, text) for text in sweeps)))
        figures = figures_of(evidence, states)
        path.write_text(page_html(figures, title=figures["title"]), encoding="utf-8")
        for sweep in figures["sweeps"]:
            if sweep["message"] is not None:
                say(f"{sweep['sweep_id']}: {sweep['message']}")
        say(f"{path}: {path.stat().st_size / 1e6:.2f} MB; open it in a browser.")
