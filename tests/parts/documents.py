"""Fenced blocks of the documents, and the commands in them.

The info string of a fence says what becomes of the block:

    ```bash                                       commands that `make tour` runs, in the order of the page
    ```bash title="Run by make nightly: WHY"      the same, for commands that take long
    ```bash title="Not run by tests: WHY"         commands that need what a test does not have
    ```console                                    a recorded session: lines after a prompt are commands, others output
    ```text, ```json                              output or a drawing
    ```yaml                                       a sweep file or a part of one
    ```python                                     code, with the same titles as commands
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

NIGHTLY, NOT_RUN = "Run by make nightly: ", "Not run by tests: "

_FENCE = re.compile(r"( *)```(\S*) *(.*)")
_TITLE = re.compile(r'title="([^"]+)"')
_PROMPT = re.compile(r"(?:[a-z][\w-]*)?\$ (?P<command>.+)")
_INNER = re.compile(r"\$\(([^()]*)\)")
_BEFORE = {"sudo", "eval", "exec", "time", "command"}
"""Words before a command that run it."""


@dataclass(frozen=True)
class Block:
    """A fenced block. ``document`` is relative to the root of the repository, ``line`` that of the opening fence."""

    document: str
    line: int
    language: str
    attributes: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"

    @property
    def title(self) -> str:
        """Text above the block on the site; empty without one."""
        title = _TITLE.fullmatch(self.attributes)
        return title[1] if title else ""

    @property
    def script(self) -> str:
        """The block's commands, without the output of a recorded session."""
        if self.language == "bash":
            return self.text
        prompted = (_PROMPT.fullmatch(line) for line in self.text.splitlines())
        return "".join(f"{line['command']}\n" for line in prompted if line)

    def commands(self) -> list[list[str]]:
        """Return the words of each simple command."""
        return list(simple_commands(self.script)) if self.language in {"bash", "console"} else []


def documents() -> list[Path]:
    """Return the pages: those of ``docs/``, and the front pages of the repository and its folders."""
    return sorted(
        [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
         *(ROOT / name / "README.md" for name in ("sweeps", "infra"))]
    )  # fmt: skip


def blocks_of(document: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order.

    Raises:
        ValueError: If a block does not end.
    """
    name, blocks = document.relative_to(ROOT).as_posix(), []
    lines = enumerate(document.read_text(encoding="utf-8").splitlines(), start=1)
    for number, line in lines:
        if opening := _FENCE.fullmatch(line):
            indent, language, attributes = opening.groups()
            text = []
            for _, inner in lines:
                if inner.strip() == "```":
                    break
                text.append(inner.removeprefix(indent) + "\n")
            else:
                raise ValueError(f"{name}:{number}: this block does not end")
            blocks.append(Block(name, number, language, attributes.strip(), "".join(text)))
    return blocks


def all_blocks() -> list[Block]:
    return [block for document in documents() for block in blocks_of(document)]


def inline_commands(document: Path) -> Iterator[list[str]]:
    """Yield the words of each ``agr ...`` in running text; brackets around what may be left out are removed."""
    text = re.sub(r"^ *```.*?^ *```$", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for code in re.findall(r"`(agr [^`]+)`", text):
        yield shlex.split(re.sub(r"[\[\]…|]|\.\.\.", " ", code))


def simple_commands(script: str) -> Iterator[list[str]]:
    """Yield the words of each command of a shell script that has no control structures.

    Comments, redirections, assignments before a command, and words that run another command are left out; what stands
    in ``$(...)`` is yielded as a command of its own.
    """
    for line in script.replace("\\\n", " ").splitlines():
        yield from _commands_of_line(without_comment(line))


def without_comment(line: str) -> str:
    quote = ""
    for position, letter in enumerate(line):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        elif letter == "#" and (position == 0 or line[position - 1].isspace()):
            return line[:position].rstrip()
    return line.rstrip()


def _commands_of_line(line: str) -> Iterator[list[str]]:
    while inner := _INNER.search(line):
        yield from _commands_of_line(inner[1])
        line = line.replace(inner[0], "INNER")
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    redirected = False
    for word in (*lexer, ";"):
        if set(word) <= set("<>"):
            redirected = True
        elif set(word) <= set("();|&"):
            yield from filter(None, [_without_prefix(words)])
            words = []
        elif redirected:
            redirected = False
        else:
            words.append(word)


def _without_prefix(words: list[str]) -> list[str]:
    while words:
        if re.match(r"\w+=", words[0]) or words[0] in _BEFORE:
            words = words[1:]
        elif words[0] == "ssh" and len(words) > 2:  # ssh HOST COMMAND
            words = words[2:]
        elif words[:2] == ["docker", "run"]:  # the image's entry point is agr
            image = next((number for number, word in enumerate(words) if word.startswith("agr:")), len(words))
            words = ["agr", *words[image + 1 :]]
        else:
            break
    return words
