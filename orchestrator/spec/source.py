"""Read YAML 1.2 into a plain document that keeps the file position of each part.

The rules are those of YAML 1.2's core schema: ``no`` is text, ``1e-4`` a number. In addition, keys are
unique text and numbers are finite; each violation is noted with its position, and reading continues.
"""

from __future__ import annotations

import copy
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from agr_core.errors import InputError
from orchestrator.errors import Problem, SpecError

DocPath = tuple[str | int, ...]
"""Position of a value in a document: keys of mappings and indices of lists, from the root."""

_MAX_BYTES = 2**17
"""Maximum size of a file; sweeps have a few KiB, and the parser may take a second for an eighth of a MiB."""

_MAX_VALUES = 100_000
"""Maximum number of values; nested aliases can make a short file describe more than fit into memory."""

_MAX_DEPTH = 50
"""Maximum nesting depth; sweeps have about ten levels, and all code that walks a document is recursive."""

_MAX_INTEGER = 2**63

_TOO_DEEP = f"the file is nested deeper than {_MAX_DEPTH} levels; flatten it."

_TAG = "tag:yaml.org,2002:"

_UNUSABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""Characters not allowed in a sweep file: control characters, and lone surrogates, which are not valid UTF-8."""

_SPACES = re.compile(r"[\u00a0\u1680\u2000-\u200b\u202f\u205f\u3000\ufeff]")
"""Characters that look like a space or are invisible, and are not spaces to YAML."""

_TOO_HIGH = re.compile(r"\\U(?!000|0010)[0-9A-Fa-f]{8}")
"""An escape above U+10FFFF, the last character of Unicode."""


@dataclass(frozen=True)
class Mark:
    """A position in a file, counted from 1; line 0: the value is in no file.

    ``file`` is set if it is not the source's own file but one that the sweep file extends.
    """

    line: int
    column: int
    file: str = ""


NOWHERE = Mark(0, 0)


@dataclass
class Source:
    """A document and the origins of its parts.

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
    _noted: set[Problem] = field(init=False)

    def __post_init__(self) -> None:
        self._noted = set(self.problems)

    def mark(self, path: DocPath, *, key: bool = False) -> Mark:
        """Return the position of the value at ``path`` (``key``: of its key), or of its nearest parent in the file."""
        if self._override_of(path) is not None:
            return NOWHERE
        first, second = (self.key_marks, self.value_marks) if key else (self.value_marks, self.key_marks)
        for end in range(len(path), -1, -1):
            mark = first.get(path[:end]) or second.get(path[:end])
            if mark is not None:
                return mark
        return NOWHERE

    def add(self, path: DocPath, message: str, *, key: bool = False) -> None:
        """Note a problem with the value (or ``key``) at ``path``, once; ignored if the path is settled."""
        if any(path[:end] in self._settled for end in range(len(path) + 1)):
            return
        override = self._override_of(path)
        if override is not None:
            message = f"{message} (Given by --set {override}.)"
        mark = self.mark(path, key=key)
        problem = Problem(mark.line, mark.column, render_path(path), message, mark.file)
        if problem not in self._noted:
            self._noted.add(problem)
            self.problems.append(problem)

    def settle(self, path: DocPath) -> None:
        """Suppress further problems at ``path`` and below: they would repeat, or the value must not be shown."""
        self._settled.add(path)

    def replace(self, path: DocPath, value: Any, name: str) -> None:
        """Put ``value`` at ``path``, whose parent exists, as ``--set name=...``; the old value's marks are dropped."""
        self.at(path[:-1])[path[-1]] = value
        for marks in (self.key_marks, self.value_marks):
            for mark_path in [mark_path for mark_path in marks if mark_path[: len(path)] == path]:
                del marks[mark_path]
        self._overridden[path] = name

    def overrides(self) -> list[tuple[DocPath, Any]]:
        """Yield path and value of each override, and of each value from the profile."""
        return [(path, self.at(path)) for path in (*self._overridden, *self.from_profile) if self.has(path)]

    def at(self, path: DocPath) -> Any:
        """Return the value at ``path``.

        Raises:
            LookupError: If there is none.
        """
        value = self.document
        for part in path:
            value = value[part]
        return value

    def has(self, path: DocPath) -> bool:
        """Return whether the document has a value at ``path``."""
        try:
            self.at(path)
        except (LookupError, TypeError):
            return False
        return True

    def _override_of(self, path: DocPath) -> str | None:
        """Return the name of the ``--set`` that put the value at ``path``, or created the mapping there."""
        for override_path, name in self._overridden.items():
            made = path not in self.key_marks and override_path[: len(path)] == path != ()
            if made or path[: len(override_path)] == override_path:
                return name
        return None


def render_path(path: Sequence[str | int]) -> str:
    """Return ``space.model[1].conv_layers`` for ``("space", "model", 1, "conv_layers")``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if part.isprintable() else repr(part)  # a path is one line
            text += f".{name}" if text else name
    return text


def read_file(path: Path) -> Source:
    """Read the source of a YAML file; problems of single values are noted in it.

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
        message = f"the file is larger than {_MAX_BYTES // 2**10} KiB; give a sweep file, which has a few."
        raise SpecError(str(path), [Problem(1, 1, "", message)])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        message = f"byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8."
        raise SpecError(str(path), [Problem(line, column, "", message)]) from error
    return read_text(text, file=str(path))


def read_text(text: str, *, file: str) -> Source:
    """Read the source of a YAML text; problems of single values are noted in it.

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
    """Return the source of a document that is in no file."""
    return Source(file=file, document=copy.deepcopy(document))


def parse_value(text: str, *, file: str) -> Any:
    """Return the plain value of a YAML text, such as the right side of ``--set``.

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
        mark_of_error = NOWHERE if mark is None else Mark(mark.line + 1, mark.column + 1)
        _stop(source, *_explain_syntax(text, mark_of_error, error), error)
    except ReaderError as error:  # a character that YAML does not allow
        message = f"the character {_character(text[error.position])} is not allowed in YAML; remove it."
        _stop(source, _mark_at(text, error.position), message, error)
    except (YAMLError, ValueError, OverflowError) as error:
        escape = _TOO_HIGH.search(text)
        if escape is None:
            _stop(source, Mark(1, 1), f"this is not YAML: {str(error).splitlines()[0]}.", error)
        message = f"{escape[0]} is not a character: Unicode ends at \\U0010FFFF. Correct the escape."
        _stop(source, _mark_at(text, escape.start()), message, error)
    return root


def _explain_syntax(text: str, mark_of_error: Mark, error: MarkedYAMLError) -> tuple[Mark, str]:
    """Explain where and why a text is not YAML."""
    if "'\\t'" in (error.problem or ""):
        return mark_of_error, "a tab where YAML requires spaces; indent with spaces."
    for space in _SPACES.finditer(text):
        mark = _mark_at(text, space.start())
        if mark_of_error.line - 2 <= mark.line <= mark_of_error.line:
            return mark, f"{_character(space[0])} in place of a plain space; type a space."
    context = f" {error.context}" if error.context else ""
    return mark_of_error, f"this is not YAML: {error.problem}{context}. Check indentation, quotes and brackets here."


def _character(character: str) -> str:
    """Return a character's number, and its name where Unicode has one: ``U+00A0 (no-break space)``."""
    name = unicodedata.name(character, "control character" if unicodedata.category(character) == "Cc" else "")
    return f"U+{ord(character):04X}" + (f" ({name.lower()})" if name else "")


def _mark_at(text: str, position: int) -> Mark:
    return Mark(text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position))


def _stop(source: Source, mark: Mark, message: str, cause: Exception | None = None) -> NoReturn:
    problem = Problem(mark.line, mark.column, "", message)
    raise SpecError(source.file, [*source.problems, problem]) from cause


class _Builder:
    """Conversion of YAML nodes into plain values with marks."""

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
            return self._refuse(node, path, "this alias is inside its own anchor; write the value out.")
        if not (isinstance(node, ScalarNode) and node.value == "" and node.style is None):
            # An omitted value has the mark of the next token.
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
        mapping: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode) or key.tag != _TAG + "str":
                self._note(key, path, _wrong_key(key))
                continue
            here = (*path, key.value)
            unusable = _UNUSABLE.search(key.value)
            if unusable is not None:
                self._note(key, path, f"a key contains the character {_character(unusable[0])}; remove it.")
                continue
            if key.value in mapping:
                first = self._source.key_marks[here].line
                self._note(key, here, f"{key.value!r} is already a key in line {first}; a key may occur only once.")
                continue
            self._source.key_marks[here] = _start(key)
            mapping[key.value] = self.build(value, here)
        return mapping

    def _scalar(self, node: ScalarNode, path: DocPath) -> Any:
        text: str = node.value
        match str(node.tag).removeprefix(_TAG):
            case "str" | "timestamp":
                unusable = _UNUSABLE.search(text)
                if unusable is None:
                    return text
                return self._refuse(
                    node, path, f"the text contains the character {_character(unusable[0])}; remove it."
                )
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
        return "`<<` is not part of YAML 1.2; write the fields out, or let a variant build on another with `from`."
    shown = repr(key.value) if isinstance(key, ScalarNode) else "a list or mapping"
    return f"the key {shown} is not text; put it in quotes if it is meant as a name."


def _number(text: str) -> int | float | None:
    """Parse ``text`` as a number; None if it is none, or not a finite 64-bit one."""
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
