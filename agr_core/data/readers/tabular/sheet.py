"""Tables of labels with all cells as text: CSV, TSV, JSON lines, Parquet, Excel.

Limited child processes read Parquet and Excel (``children``). Cells that contain images are not read here.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO, Any, BinaryIO

from agr_core.data.confined import confined
from agr_core.data.parser_errors import PARSER_ERRORS
from agr_core.data.readers.files.archives import MAX_EXPANSION, iter_read
from agr_core.data.readers.files.base import MAX_LABEL_BYTES
from agr_core.data.readers.tabular import children
from agr_core.errors import DataError

SUFFIXES = (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet", ".xlsx")
"""Suffixes of tables."""

PIXELS = "pixels"
"""Column that contains images as space-separated grey values, as in Kaggle's ``age_gender.csv``."""

MAX_LINE = 16 * 2**20
"""Maximum length of a line in a text table, in characters; an image in a cell takes one line."""

_SNIFFED = 2**20
_MAX_DEPTH = 8  # of nested objects in a line of JSON
_DELIMITERS = ",;\t|"
_ALWAYS_UNPACKED = 64 * 2**20


@dataclass
class Sheet:
    """A table of labels.

    Attributes:
        file: Its name inside the source, or on this machine.
        columns: Its columns, in order.
        cells: Text of each cell by column, empty if missing; without the column that contains images.
        lines: Position of each row: line of the text or row of the sheet, counted from 1.
        problems: By row, counted from 0, the reason why it cannot be read.
        embedded: Column that contains the images themselves, if any.
        names: By column, the file's own names of its codes.
    """

    file: str
    columns: tuple[str, ...]
    cells: dict[str, list[str]] = field(default_factory=dict)
    lines: list[int] = field(default_factory=list)
    problems: dict[int, str] = field(default_factory=dict)
    embedded: str | None = None
    names: dict[str, dict[str, str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lines)

    def add(self, line: int, values: dict[str, str], problem: str | None = None) -> None:
        """Append a row."""
        if problem is not None:
            self.problems[len(self)] = problem
        for column in self.columns:
            if column != PIXELS:
                self.cells[column].append(values.get(column, ""))
        self.lines.append(line)


def is_sheet_name(path: str) -> bool:
    """Return whether a name has the suffix of a table."""
    return PurePosixPath(path).suffix.lower() in SUFFIXES


def read_sheet(stream: IO[bytes], file: str) -> Sheet:
    """Return the table in a stream.

    Raises:
        DataError: If it is not a table of the kind in its name, or too large.
    """
    suffix = PurePosixPath(file).suffix.lower()
    if suffix in (".parquet", ".xlsx"):
        with seekable(stream, file) as seekable_file:
            if suffix == ".xlsx":
                _check_workbook(seekable_file, file)
            kind = "a Parquet file" if suffix == ".parquet" else "an Excel workbook"
            work = children.parquet_labels if suffix == ".parquet" else children.excel_labels
            return _from_child(confined(work, [], seekable_file, file, kind), file)
    if suffix == ".json":
        raise DataError(f"{file} is JSON; write JSON lines, one object a line, as .jsonl, or CSV.")
    text = _as_text(stream, file)
    return _json_lines(text, file) if suffix in (".jsonl", ".ndjson") else _delimited(text, file, suffix)


def iter_images(stream: IO[bytes], sheet: Sheet) -> Iterator[bytes | str]:
    """Yield the image of each row of a table that contains images, in order, or the reason if there is none.

    Raises:
        DataError: If the table cannot be read again.
    """
    assert sheet.embedded is not None
    if sheet.file.lower().endswith(".parquet"):
        with seekable(stream, sheet.file) as seekable_file:
            yield from children.parquet_images(seekable_file, sheet.file, sheet.embedded)
        return
    for line, row in _rows(_as_text(stream, sheet.file), sheet.file, ""):
        if line is None:
            column = [name.strip() for name in row].index(sheet.embedded)
        else:
            yield children.pixels_png(row[column]) if len(row) == len(sheet.columns) else "a line of another length"


@contextmanager
def seekable(stream: IO[bytes], file: str) -> Iterator[BinaryIO]:
    """Yield a stream as a file with a descriptor, copied to an anonymous temporary file if necessary.

    Raises:
        DataError: If it is larger than ``MAX_LABEL_BYTES`` and must be copied.
    """
    try:
        stream.fileno()
    except (OSError, AttributeError):
        pass
    else:
        if isinstance(stream, io.BufferedReader) and isinstance(stream.raw, io.FileIO):
            stream.seek(0)
            yield stream
            return
    with tempfile.TemporaryFile() as copy:
        for chunk in iter_read(stream):
            copy.write(chunk)
            if copy.tell() > min(8 * MAX_LABEL_BYTES, shutil.disk_usage(tempfile.gettempdir()).free):
                raise DataError(f"{file} is too large to be read from an archive; unpack it first.")
        copy.seek(0)
        yield copy


def _from_child(answer: bytes, file: str) -> Sheet:
    """Return the table written by a child: a JSON header, then a JSON array per row."""
    lines = iter(answer.splitlines())
    header: dict[str, Any] = json.loads(next(lines))
    columns = tuple(header["columns"])
    file = f"{file}, sheet {header['sheet']}" if header.get("sheet") else file
    sheet = Sheet(file, columns, embedded=header["embedded"], names=header["names"])
    sheet.cells = {column: [] for column in columns}
    for number, line in enumerate(lines, start=header["first"]):
        sheet.add(number, dict(zip(columns, json.loads(line), strict=True)))
    return sheet


def _json_lines(text: Iterator[str], file: str) -> Sheet:
    rows: list[tuple[int, dict[str, str] | None]] = []
    columns: dict[str, None] = {}
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            document = None
        if isinstance(document, dict):
            document = dict(_flat(document))
            columns |= dict.fromkeys(document)
            rows.append((number, {column: children.cell_text(value) for column, value in document.items()}))
        else:
            rows.append((number, None))
    if not columns:
        raise DataError(f"{file} has no line that is a JSON object; each line must be one, with the columns as keys.")
    sheet = Sheet(file, tuple(columns), {column: [] for column in columns})
    for number, values in rows:
        sheet.add(number, values or {}, None if values is not None else "the line is no JSON object")
    return sheet


def _flat(document: dict[str, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield the values of nested objects under dotted names: ``labels.age``."""
    for name, value in document.items():
        if isinstance(value, dict) and value and depth < _MAX_DEPTH:
            yield from _flat(value, f"{prefix}{name}.", depth + 1)
        else:
            yield f"{prefix}{name}", value


def _delimited(text: Iterator[str], file: str, suffix: str) -> Sheet:
    sheet: Sheet | None = None
    for line, row in _rows(text, file, suffix):
        if sheet is None:
            columns = tuple(name.strip() for name in row)
            if len(set(columns)) < len(columns):
                twice = next(name for name in columns if columns.count(name) > 1)
                raise DataError(f"{file} has two columns {twice!r}; rename one.")
            embedded = PIXELS if PIXELS in columns else None
            sheet = Sheet(file, columns, {name: [] for name in columns if name != PIXELS}, embedded=embedded)
        elif len(row) == len(sheet.columns):
            sheet.add(line or 0, {name: cell.strip() for name, cell in zip(sheet.columns, row, strict=True)})
        else:
            sheet.add(line or 0, {}, f"{len(row)} cells where the header has {len(sheet.columns)}")
    if sheet is None:
        raise DataError(f"{file} is empty; its first line must name the columns.")
    return sheet


def _rows(text: Iterator[str], file: str, suffix: str) -> Iterator[tuple[int | None, list[str]]]:
    """Yield the header, with None for its line, then line number and cells of each row that is not blank."""
    first = next(text, "")
    before = 1
    if first.lower().startswith("sep=") and len(first.strip()) == 5:  # separator line written by Excel
        first, before = next(text, ""), 2
    delimiter = "\t" if suffix == ".tsv" else max(_DELIMITERS, key=first.count)
    csv.field_size_limit(MAX_LINE)
    rows = csv.reader(_again(first, text), delimiter=delimiter)
    header = True
    try:
        for row in rows:
            if not row or row == [""]:
                continue
            yield None if header else rows.line_num + before - 1, row
            header = False
    except csv.Error as error:
        raise DataError(f"{file}, line {rows.line_num + before - 1} is not a line of a table ({error}).") from error


def _again(first: str, rest: Iterable[str]) -> Iterator[str]:
    yield first
    yield from rest


def _as_text(stream: IO[bytes], file: str) -> Iterator[str]:
    """Yield the lines of a text: UTF-8, UTF-16 with its mark, else Windows-1252."""
    head = stream.read(_SNIFFED)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    else:
        try:
            head.decode("utf-8")
            encoding = "utf-8-sig"
        except UnicodeDecodeError as error:
            # The last character read may be incomplete.
            encoding = "utf-8-sig" if error.start > len(head) - 4 and len(head) == _SNIFFED else "cp1252"
    if b"\0" in head and encoding != "utf-16":
        raise DataError(f"{file} is not text; give a table as {', '.join(SUFFIXES)}.")
    lines = io.TextIOWrapper(io.BufferedReader(_Joined(head, stream)), encoding=encoding, newline="")
    try:
        while line := lines.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE:
                raise DataError(f"{file} has a line of more than {MAX_LINE:,} characters; it is not a table of labels.")
            yield line
    except UnicodeError as error:
        raise DataError(f"{file} is not text in {encoding} ({error}); save it as UTF-8.") from error


class _Joined(io.RawIOBase):
    """Stream of bytes already read, followed by the rest of their stream."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head = head
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head[: len(buffer)] if self._head else self._rest.read(len(buffer))
        self._head = self._head[len(data) :] if self._head else b""
        buffer[: len(data)] = data
        return len(data)


def _check_workbook(file: BinaryIO, name: str) -> None:
    """Refuse a workbook that unpacks to far more bytes than labels need."""
    try:
        with zipfile.ZipFile(file) as workbook:
            claimed = sum(member.file_size for member in workbook.infolist())
    except PARSER_ERRORS as error:
        raise DataError(f"{name} is not an Excel workbook ({error}); save it again as .xlsx or CSV.") from error
    packed = file.seek(0, 2)
    file.seek(0)
    if claimed > max(_ALWAYS_UNPACKED, MAX_EXPANSION * packed):
        raise DataError(f"{name} unpacks to more than {MAX_EXPANSION} times its size; save it as CSV.")
