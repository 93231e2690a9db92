"""The pictures of the README and the documents, made by the project itself: `make pictures`.

Runs the quickstart sweep in a terminal of its own, then takes what its users see: the live view while it runs, the
leaderboard, the learning curves and a confusion matrix of its best trials, and the leaderboard in MLflow. Everything
is kept in the folder ``agr`` of the temporary folder, and a sweep that is there already is used again. It takes about
ten minutes on two cores.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyte
from playwright.sync_api import Page, sync_playwright
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).parents[1]
BUILD = Path(tempfile.gettempdir(), "agr")
IMAGES = ROOT / "docs/images"
AGR = str(Path(sys.executable).with_name("agr"))
WIDTH, HEIGHT = 100, 30
TRIALS = 12
HALFWAY = 0.55
"""Share of the trials that have ended when the picture of the live view is taken."""


def environment() -> dict[str, str]:
    """That of the commands: a home of their own, and a terminal of the pictures' size."""
    ours = {"AGR_HOME": str(BUILD), "TERM": "xterm-256color", "COLUMNS": str(WIDTH), "LINES": str(HEIGHT)}
    return {name: value for name, value in os.environ.items() if not name.startswith(("AGR_", "MLFLOW_"))} | ours


def agr(*arguments: str) -> str:
    """What a command prints."""
    done = subprocess.run([AGR, *arguments], env=environment(), cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout


def in_terminal(*arguments: str) -> Iterator[pyte.Screen]:
    """The screen of a command in a terminal, after each of its outputs."""
    screen = pyte.Screen(WIDTH, HEIGHT)
    stream = pyte.ByteStream(screen)
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(ROOT)
        os.execve(AGR, [AGR, *arguments], environment())  # noqa: S606 - our own command
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", HEIGHT, WIDTH, 0, 0))
    try:
        while True:
            select.select([terminal], [], [])
            stream.feed(os.read(terminal, 65536))
            yield screen
    except OSError:  # the command has ended
        pass
    finally:
        os.close(terminal)
        os.waitpid(process, 0)


def lines_of(screen: pyte.Screen) -> Text:
    """A screen with its colours, without the empty lines at its end."""
    text = Text()
    for row in range(screen.lines):
        for column in range(screen.columns):
            cell = screen.buffer[row][column]
            colour = (
                None if cell.fg == "default" else f"#{cell.fg}" if len(cell.fg) == 6 and cell.fg.isalnum() else None
            )
            named = colour or (None if cell.fg == "default" else cell.fg.replace("brown", "yellow"))
            text.append(cell.data, style=f"{'bold ' if cell.bold else ''}{named or ''}".strip() or "default")
        text.append("\n")
    text.rstrip()
    return text


def _style(cell: Any) -> str:
    """The style of a character, in Rich's words; pyte gives colours by name or as six digits."""
    colour = f"#{cell.fg}" if len(cell.fg) == 6 and cell.fg.isalnum() else cell.fg.replace("brown", "yellow")
    return f"{'bold ' if cell.bold else ''}{colour}"


def as_page(text: Text, title: str) -> str:
    """A terminal's window as HTML that loads nothing."""
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    console.print(text, soft_wrap=True)
    code = console.export_html(theme=MONOKAI, inline_styles=True, code_format="<pre>{code}</pre>")
    return (
        "<meta charset='utf-8'><style>body{margin:0;background:#fff}#window{display:inline-block;background:#1d2026;"
        "color:#d6dae0;border-radius:8px;padding:10px 18px 16px;font:15px/1.35 'DejaVu Sans Mono',monospace}"
        "pre{margin:0;font:inherit}.bar{color:#8b929c;text-align:center;margin-bottom:8px;font-size:13px}</style>"
        f"<div id='window'><div class='bar'>{title}</div>{code}</div>"
    )


@contextmanager
def browser_page(width: int = 1280, height: int = 800) -> Iterator[Page]:
    """A page of a real browser."""
    program = next(path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser.new_page(viewport={"width": width, "height": height})
        finally:
            browser.close()


def terminal_picture(name: str, text: Text, title: str) -> None:
    """Write ``docs/images/NAME.png``: a terminal."""
    with browser_page() as page:
        page.set_content(as_page(text, title))
        page.locator("#window").screenshot(path=IMAGES / f"{name}.png", omit_background=True)


def run_the_sweep() -> None:
    """Run the quickstart in a terminal, and take the live view on the way."""
    taken = False
    for screen in in_terminal("submit", "sweeps/quickstart.yaml", "--set", f"search.trials={TRIALS}"):
        counts = re.findall(rf"\b(\d+) ?(?:/|of) ?{TRIALS}\b", "\n".join(screen.display))
        if not taken and counts and int(counts[0]) >= HALFWAY * TRIALS:
            terminal_picture("live", lines_of(screen), "agr submit sweeps/quickstart.yaml")
            taken = True


def leaderboard_in_mlflow(sweep_id: str) -> None:
    """Take MLflow's page of the sweep, as `agr ui` opens it."""
    server = subprocess.Popen([AGR, "ui"], env=environment(), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        link = next(word for line in server.stdout for word in line.split() if word.startswith("http"))
        with browser_page(1400, 820) as page:
            page.goto(link)
            page.get_by_text(sweep_id[:10]).first.wait_for(timeout=60_000)
            page.wait_for_timeout(3_000)  # its charts are drawn last
            page.screenshot(path=IMAGES / "mlflow.png")
    finally:
        server.terminate()
        server.wait()


def main() -> None:
    """Make all pictures."""
    IMAGES.mkdir(exist_ok=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    if not json.loads(agr("list", "--json")):
        run_the_sweep()
    sweep_id: str = json.loads(agr("list", "--json"))[0]["sweep_id"]
    rows: list[dict[str, Any]] = json.loads(agr("leaderboard", sweep_id, "--json"))
    best, second = rows[0]["trial_id"], rows[1]["trial_id"]
    colours = {**environment(), "FORCE_COLOR": "1"}
    command = [AGR, "leaderboard", sweep_id, "--top", "8"]
    shown = subprocess.run(command, env=colours, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    terminal_picture("leaderboard", Text.from_ansi(shown), "agr leaderboard quickstart --top 8")
    agr("compare", best, second, "-o", str(IMAGES / "curves.png"))
    plots = BUILD / "plots"
    agr("show", best, "--plots", str(plots))
    shutil.copy(plots / "val_age_confusion.png", IMAGES / "confusion.png")
    leaderboard_in_mlflow(sweep_id)
    for picture in sorted(IMAGES.glob("*.png")):
        sys.stdout.write(f"{picture.relative_to(ROOT)}  {picture.stat().st_size / 1000:.0f} kB\n")


if __name__ == "__main__":
    main()
