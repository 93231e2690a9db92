"""Finding and reading of separate label files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from agr_core.data.readers.files import MAX_LABEL_BYTES, Files, UnreadableFileError
from agr_core.errors import DataError

_LONGEST_CELL = 131_072


def named(paths: Sequence[str], *names: str) -> str | None:
    """Return the path of the only file with one of these names, in any folder and case, or None.

    Raises:
        DataError: If there are several.
    """
    wanted = {name.lower() for name in names}
    matching = [path for path in paths if PurePosixPath(path).name.lower() in wanted]
    if len(matching) > 1:
        raise DataError(f"the source holds {' and '.join(matching)}; leave one of them.")
    return matching[0] if matching else None


def last_two(path: str) -> str:
    """Return the last folder and name of a path, such as ``train/1.jpg``."""
    return "/".join(PurePosixPath(path).parts[-2:])


def read_bytes(files: Files, path: str) -> bytes:
    """Return the bytes of a required file.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        return files.read(path, MAX_LABEL_BYTES)
    except UnreadableFileError as error:
        raise DataError(f"{files.source}: {path} cannot be read: {error}; fetch the data set again.") from error


def read_text(files: Files, path: str) -> str:
    """Return the text of a label file, with or without a byte order mark.

    Raises:
        DataError: If it cannot be read or is not UTF-8.
    """
    try:
        return read_bytes(files, path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{files.source}: {path} is not UTF-8 text ({error}); fetch the data set again.") from error


def read_table(
    text: str, path: str, columns: Sequence[str], *, delimiter: str = ","
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the number of each line of a table with a header, and its row, which has at least ``columns``.

    Surrounding space of cells is removed; empty lines are skipped.

    Raises:
        DataError: If it is not a table, a column is missing, or a row has another number of cells than the header.
    """
    rows = _csv_rows(text, path, delimiter)
    header = [name.strip() for name in next(rows, (0, []))[1]]
    missing = [name for name in columns if name not in header]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}; its first line must name {', '.join(columns)}.")
    for line, row in rows:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise DataError(
                f"{path}, line {line}: {len(row)} cells where the header has {len(header)}; "
                "fetch the file again, or fix the line."
            )
        yield line, dict(zip(header, (cell.strip() for cell in row), strict=True))


def _csv_rows(text: str, path: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of each row."""
    csv.field_size_limit(_LONGEST_CELL)  # process-wide; tables with images in cells set another limit
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num} is not a line of a table ({error}); fetch it again.") from error
