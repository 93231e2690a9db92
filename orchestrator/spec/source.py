"""Reading YAML 1.2 into a plain document that remembers where each part stood in the file.

The rules are those of YAML 1.2's core schema: ``no`` is text, ``1e-4`` a number. Beyond YAML, a key may stand only once
in its mapping, keys are text, and numbers are finite; each breach is a problem with its place, and reading goes on.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from agr_core.errors import InputError
from orchestrator.errors import Problem, SpecError

DocPath = tuple[str | int, ...]
"""Where a value stands in a document: keys of mappings and indices of lists, from the root."""

_MAX_BYTES = 2**20
"""Most that is read of a file; sweeps have a few KiB, and the parser takes seconds for each MiB."""

_MAX_VALUES = 100_000
"""Aliases of aliases can make a short file describe more values than fit into memory."""

_MAX_DEPTH = 50
"""Levels of mappings and lists; sweeps have about ten, and everything that walks a document is recursive."""

_MAX_INTEGER = 2**63

_TOO_DEEP = f"the file is nested deeper than {_MAX_DEPTH} levels; flatten it."

_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Mark:
    """A place in a file, both counted from 1; line 0 is a value that stands in no file.

    ``file`` is named where it is another than the source's: one that the sweep file extends.
    """

    line: int
    column: int
    file: str = ""


NOWHERE = Mark(0, 0)


@dataclass
class Source:
    """A document and where its parts come from.

    ``document`` is plain: mappings with text keys, lists, numbers, text, booleans, null. ``_overridden`` holds the
    name of each ``--set`` by the path it replaced, ``from_profile`` the paths that the chosen profile gives. A source
    made from a document alone has no marks.
    """

    file: str
    document: Any
    problems: list[Problem] = field(default_factory=list)
    key_marks: dict[DocPath, Mark] = field(default_factory=dict)
    value_marks: dict[DocPath, Mark] = field(default_factory=dict)
    from_profile: tuple[DocPath, ...] = ()
    _overridden: dict[DocPath, str] = field(default_factory=dict)
    _settled: set[DocPath] = field(default_factory=set)

    def mark(self, path: DocPath, *, key: bool = False) -> Mark:
        """Where the value of ``path`` stands (``key``: its key), or the nearest thing around it that the file has."""
        if self._override_of(path) is not None:
            return NOWHERE
        first, second = (self.key_marks, self.value_marks) if key else (self.value_marks, self.key_marks)
        for end in range(len(path), -1, -1):
            mark = first.get(path[:end]) or second.get(path[:end])
            if mark is not None:
                return mark
        return NOWHERE

    def add(self, path: DocPath, message: str, *, key: bool = False) -> None:
        """Note a problem with the value (or ``key``) at ``path``, once; nothing about a path that is settled."""
        if any(path[: len(settled)] == settled for settled in self._settled):
            return
        override = self._override_of(path)
        if override is not None:
            message = f"{message} (Given by --set {override}.)"
        mark = self.mark(path, key=key)
        problem = Problem(mark.line, mark.column, render_path(path), message, mark.file)
        if problem not in self.problems:
            self.problems.append(problem)

    def settle(self, path: DocPath) -> None:
        """Say no more about ``path`` and what is below it: enough was said, or its value must not be shown."""
        self._settled.add(path)

    def replace(self, path: DocPath, value: Any, name: str) -> None:
        """Put ``value`` at ``path``, whose parent exists, as ``--set name=...``; what stood there is forgotten."""
        self.at(path[:-1])[path[-1]] = value
        for marks in (self.key_marks, self.value_marks):
            for known in [known for known in marks if known[: len(path)] == path]:
                del marks[known]
        self._overridden[path] = name

    def overrides(self) -> list[tuple[DocPath, Any]]:
        """Path and value of each override, and of each value that the profile gives."""
        return [(path, self.at(path)) for path in (*self._overridden, *self.from_profile) if self.has(path)]

    def at(self, path: DocPath) -> Any:
        """The value at ``path``.

        Raises:
            LookupError: If there is none.
        """
        value = self.document
        for part in path:
            value = value[part]
        return value

    def has(self, path: DocPath) -> bool:
        """Whether the document says something at ``path``."""
        try:
            self.at(path)
        except (LookupError, TypeError):
            return False
        return True

    def _override_of(self, path: DocPath) -> str | None:
        """Name of the ``--set`` that put the value at ``path``, or made the mapping there."""
        for known, name in self._overridden.items():
            made = path not in self.key_marks and known[: len(path)] == path != ()
            if made or path[: len(known)] == known:
                return name
        return None


def render_path(path: Sequence[str | int]) -> str:
    """``space.model[1].conv_layers`` for ``("space", "model", 1, "conv_layers")``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if part.isprintable() else repr(part)  # a path stands on one line
            text += f".{name}" if text else name
    return text


def read_file(path: Path) -> Source:
    """The source of a YAML file; problems of single values are noted in it.

    Raises:
        InputError: If the file cannot be read, or is far larger than a sweep file.
        SpecError: If the text is not UTF-8 or not YAML.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputError(
            f"cannot read the sweep file {path}: {error.strerror}. Give the path of a YAML file."
        ) from error
    if len(data) > _MAX_BYTES:
        raise InputError(f"the sweep file {path} is larger than {_MAX_BYTES // 2**10} KiB; is it one?")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        message = f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8."
        raise SpecError(str(path), [Problem(line, column, "", message)]) from error
    return read_text(text, file=str(path))


def read_text(text: str, *, file: str) -> Source:
    """The source of a YAML text; problems of single values are noted in it.

    Raises:
        SpecError: If the text is not YAML, is empty or describes too many values.
    """
    source = Source(file=file, document=None)
    source.value_marks[()] = Mark(1, 1)
    root = _compose(text, source)
    if root is not None:
        source.document = _Builder(source).build(root, ())
    return source


def from_document(document: Any, *, file: str) -> Source:
    """The source of a document that stands in no file."""
    return Source(file=file, document=copy.deepcopy(document))


def parse_value(text: str, *, file: str) -> Any:
    """The plain value of a YAML text, such as the right side of ``--set``.

    Raises:
        SpecError: If it is not YAML.
    """
    source = read_text(text, file=file)
    if source.problems:
        raise SpecError(file, source.problems)
    return source.document


def _compose(text: str, source: Source) -> Node | None:
    try:
        root: Node | None = YAML(typ="safe", pure=True).compose(text)
    except RecursionError as error:
        _stop(source, Mark(1, 1), _TOO_DEEP, error)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = NOWHERE if mark is None else Mark(mark.line + 1, mark.column + 1)
        if "'\\t'" in (error.problem or ""):
            message = "a tab where YAML wants spaces; indent with spaces."
        else:
            context = f" {error.context}" if error.context else ""
            message = f"this is not YAML: {error.problem}{context}. Check indentation, quotes and brackets here."
        _stop(source, place, message, error)
    except YAMLError as error:  # a character that YAML does not allow
        _stop(source, Mark(1, 1), f"this is not YAML: {str(error).splitlines()[0]}. Remove that character.", error)
    return root


def _stop(source: Source, mark: Mark, message: str, cause: Exception | None = None) -> NoReturn:
    problem = Problem(mark.line, mark.column, "", message)
    raise SpecError(source.file, [*source.problems, problem]) from cause


class _Builder:
    """Turns YAML nodes into plain values and notes their marks."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._open: list[Node] = []
        self._count = 0

    def build(self, node: Node, path: DocPath) -> Any:
        self._count += 1
        if self._count > _MAX_VALUES:
            _stop(
                self._source, _start(node), f"the file describes more than {_MAX_VALUES:,} values; use fewer aliases."
            )
        if len(self._open) > _MAX_DEPTH:
            _stop(self._source, _start(node), _TOO_DEEP)
        if any(node is outer for outer in self._open):
            return self._refuse(node, path, "this alias stands inside its own anchor; write the value out.")
        if not (isinstance(node, ScalarNode) and node.value == "" and node.style is None):
            # A value left out has the mark of whatever comes next.
            self._source.value_marks[path] = _start(node)
        self._open.append(node)
        try:
            match node:
                case MappingNode():
                    return self._mapping(node, path)
                case SequenceNode():
                    return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
                case ScalarNode():
                    return self._scalar(node, path)
        finally:
            self._open.pop()
        raise AssertionError(f"unknown YAML node {node!r}")

    def _mapping(self, node: MappingNode, path: DocPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode) or key.tag != _TAG + "str":
                self._note(key, path, _wrong_key(key))
                continue
            here = (*path, key.value)
            if key.value in found:
                first = self._source.key_marks[here].line
                self._note(key, here, f"{key.value!r} stands here and in line {first}; a key may stand only once.")
                continue
            self._source.key_marks[here] = _start(key)
            found[key.value] = self.build(value, here)
        return found

    def _scalar(self, node: ScalarNode, path: DocPath) -> Any:
        text: str = node.value
        match str(node.tag).removeprefix(_TAG):
            case "str" | "timestamp":
                return text
            case "null":
                return None
            case "bool" if text.lower() in ("true", "false"):
                return text.lower() == "true"
            case "int" | "float":
                number = _number(text)
                if number is None:
                    return self._refuse(node, path, f"{text[:30]} is not a finite number of 64 bits; give one that is.")
                return number
            case "bool":
                return self._refuse(node, path, f"{text} is a boolean only in YAML 1.1; drop the %YAML line.")
            case other:
                return self._refuse(node, path, f"the tag {other!r} has no meaning here; write a plain value.")

    def _refuse(self, node: Node, path: DocPath, message: str) -> None:
        self._note(node, path, message)
        self._source.settle(path)

    def _note(self, node: Node, path: DocPath, message: str) -> None:
        mark = _start(node)
        self._source.problems.append(Problem(mark.line, mark.column, render_path(path), message))


def _wrong_key(key: Node) -> str:
    if key.tag == _TAG + "merge":
        return "`<<` is no part of YAML 1.2; write the fields out, or let a variant build on another with `from`."
    shown = repr(key.value) if isinstance(key, ScalarNode) else "a list or mapping"
    return f"the key {shown} is not text; put it in quotes if it is meant as a name."


def _number(text: str) -> int | float | None:
    """The number that ``text`` says; None where there is none, or no finite one of 64 bits."""
    digits = text.lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan")
    number: int | float
    try:
        if digits.lstrip("+-").startswith(("0x", "0o")):
            number = int(digits, 0)
        elif digits.lstrip("+-").isdigit():
            number = int(digits)
        else:
            number = float(digits)
    except ValueError:  # such as 1:30, a number in YAML 1.1
        return None
    is_small = abs(number) < _MAX_INTEGER if isinstance(number, int) else math.isfinite(number)
    return number if is_small else None


def _start(node: Node) -> Mark:
    return Mark(node.start_mark.line + 1, node.start_mark.column + 1)
