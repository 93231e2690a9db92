"""Words of others, from file names to errors in a journal, are shown on the terminal and do nothing there."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.cli.render.terminal import Terminal, harmless
from orchestrator.storage import layout

CLEAR, TITLE, EIGHT_BIT, REVERSED = "\x1b[2J", "\x1b]0;pwned\x07", "\x9b2J", "\u202egpj.exe"
OBEYED = ("\x1b", "\x07", "\x9b", "\u202e", "\r", "\x08")
EVIL = f"a{CLEAR}b{TITLE}c{EIGHT_BIT}d{REVERSED}e\rf\x08[/red][link=http://evil.example]g[/link]:bomb:"


def written(show: Callable[[Terminal], None]) -> str:
    out = io.StringIO()
    show(Terminal(file=out, width=300))
    return out.getvalue()


def cell(text: str) -> Table:
    table = Table()
    table.add_column(text)
    table.add_row(text)
    return table


@pytest.mark.parametrize(
    "show",
    [
        lambda terminal: terminal.print(EVIL),
        lambda terminal: terminal.print(Text(EVIL)),
        lambda terminal: terminal.print(cell(EVIL)),
        lambda terminal: terminal.print(EVIL, style="bold", soft_wrap=True),
    ],
    ids=["text", "rich text", "table", "styled"],
)
def test_nothing_that_a_terminal_obeys_is_shown_and_brackets_are_just_brackets(
    show: Callable[[Terminal], None],
) -> None:
    shown = written(show)
    assert not [word for word in OBEYED if word in shown]
    assert "[/red][link=http://evil.example]g[/link]:bomb:" in shown


def test_lines_and_tabs_stay() -> None:
    assert harmless("a\n\tb\u00e9\u4e2d") == "a\n\tb\u00e9\u4e2d"


def test_the_commands_that_read_a_bucket_show_the_words_of_whoever_wrote_to_it(
    record_sweep: Callable[..., Any], tmp_path: Path
) -> None:
    sweep = record_sweep(name=EVIL, description=EVIL, tags=(EVIL,))
    trial = sweep.trial(0, [9.0, 7.0], params={"optimizer.lr": 0.1}, files=True)
    broken = sweep.create(1)
    sweep.end_trial(broken, "failed", [], error=EVIL)
    sweep.storage.write(f"{layout.attempt(sweep.sweep_id, trial, 0)}/log.txt", EVIL.encode())
    sweep.end(reason=EVIL)
    summary = json.loads(sweep.storage.read(layout.summary(sweep.sweep_id)))
    sweep.storage.write(layout.summary(sweep.sweep_id), json.dumps(summary | {"name": EVIL}).encode())
    storage = ["--storage", str(tmp_path / "storage")]

    commands = [["list"], *([name, sweep.sweep_id] for name in ("status", "leaderboard"))]
    commands += [[name, trial] for name in ("show", "logs")] + [["show", broken]]
    for command in commands:
        found = CliRunner().invoke(app, [*command, *storage])
        assert found.exit_code == 0, (command, found.output)
        assert not [word for word in OBEYED if word in found.output], command
    assert "[/red]" in CliRunner().invoke(app, ["show", broken, *storage]).output
