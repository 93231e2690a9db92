"""Run the blocks of the documents, as a reader does who copies them into a shell."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from typer.testing import CliRunner

from orchestrator.cli.main import app
from tests.parts.documents import NIGHTLY, NOT_RUN, ROOT, Block, without_comment

SERVES = ("board", "serve", "ui")
"""Commands that run until Ctrl-C."""

OWN_PROCESS = {*SERVES, "submit", "resume", "extend", "rerun", "sync", "stack"}
"""Commands that start processes, or change libraries for the whole process."""

_RED = re.compile(r"Traceback \(most recent call last\)|^error:|^agr: |command not found", flags=re.MULTILINE)

_SERVED = shlex.join([sys.executable, str(ROOT / "tests/parts/served.py")])
_PRELUDE = f"""\
agr() {{
    case "$1" in
        {"|".join(SERVES)}) {_SERVED} agr "$@" ;;
        *) command agr "$@" ;;
    esac
}}
set -euo pipefail
"""


def is_run(block: Block, *, nightly: bool) -> bool:
    """Return whether a test runs the block."""
    if block.language not in {"bash", "python"} or block.title.startswith(NOT_RUN):
        return False
    return nightly or not block.title.startswith(NIGHTLY)


def script_of(blocks: Iterable[Block]) -> str:
    """Return one shell script that runs the blocks and prints each command before its output."""
    parts = [_PRELUDE]
    for block in blocks:
        if block.language == "python":
            parts.append(f"python - <<'END'\n{block.text}END\n")
        else:
            parts.append("".join(f"printf '\\n$ %s\\n' {shlex.quote(line)}\n{line}\n" for line in lines_of(block)))
    return "".join(parts)


def lines_of(block: Block) -> Iterator[str]:
    """Yield the command lines of a block, without comments; a backslash continues a line."""
    for line in block.text.replace("\\\n", " ").splitlines():
        if text := without_comment(line):
            yield text


def check_output(text: str, code: int) -> None:
    """Fail unless a command succeeded and printed nothing red."""
    red = _RED.search(text)
    assert code == 0, f"ended with {code}:\n{text}"
    assert red is None, f"printed {red[0]!r}:\n{text}"


class Shell:
    """A shell that keeps its folder and exported variables; ``agr`` runs in this process where that is possible."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": path, **environment}

    def run(self, block: Block, *, done: set[str]) -> None:
        """Run the block's lines one by one, except those in ``done``, which other pages ran in the same home.

        Lines that start processes are added to it.

        Raises:
            AssertionError: If one fails or prints an error.
        """
        if block.language == "python":
            self._run_process(["python", "-c", block.text])
        for line in lines_of(block) if block.language == "bash" else ():
            if line in done:
                continue
            try:
                self.run_line(line)
            except AssertionError as error:
                raise AssertionError(f"{block}: {line}\n{error}") from error
            if line.startswith("agr ") and line.split()[1] in OWN_PROCESS:
                done.add(line)

    def run_line(self, line: str) -> None:
        words = shlex.split(line)
        if words[0] == "export":
            self.environment |= dict(word.split("=", 1) for word in words[1:])
        elif words[0] == "agr" and words[1] not in OWN_PROCESS and not re.search(r"[$|&;<>()*~]", line):
            self._run_here(words[1:])
        else:
            self._run_process(["bash", "-c", _PRELUDE + line])

    def _run_here(self, arguments: list[str]) -> None:
        with contextlib.chdir(self.folder):
            result = CliRunner().invoke(app, arguments, env=self.environment)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        check_output(result.output, result.exit_code)

    def _run_process(self, command: list[str]) -> None:
        done = subprocess.run(
            command,
            cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        check_output(done.stdout, done.returncode)
