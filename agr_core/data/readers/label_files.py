"""For data sets whose labels lie in files of their own: finding and reading them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

from agr_core.data.readers.files import MAX_LABEL_BYTES, Files, UnreadableFileError
from agr_core.errors import DataError


def named(paths: Sequence[str], *names: str) -> str | None:
    """The path of the one file with one of these names, in whatever folder and case, or None.

    Raises:
        DataError: If there are several.
    """
    wanted = {name.lower() for name in names}
    found = [path for path in paths if PurePosixPath(path).name.lower() in wanted]
    if len(found) > 1:
        raise DataError(f"the source holds {' and '.join(found)}; leave one of them.")
    return found[0] if found else None


def last_two(path: str) -> str:
    """Folder and name of a file: ``train/1.jpg``, whatever folders they lie in."""
    return "/".join(PurePosixPath(path).parts[-2:])


def read_bytes(files: Files, path: str) -> bytes:
    """The bytes of a file without which nothing can be read.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        return files.read(path, MAX_LABEL_BYTES)
    except UnreadableFileError as error:
        raise DataError(f"{files.source}: {path} cannot be read: {error}; fetch the data set again.") from error


def read_text(files: Files, path: str) -> str:
    """The text of a label file, with or without a byte order mark.

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
    """The number of each line of a table with a header, and its row, which has at least ``columns``.

    Cells come without surrounding space; empty lines are left out.

    Raises:
        DataError: If it is no table, a column is missing, or a row has another number of cells than the header.
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
                "fetch the file again or mend the line."
            )
        yield line, dict(zip(header, (cell.strip() for cell in row), strict=True))


def _csv_rows(text: str, path: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for row in rows:
            yield rows.line_num, row
    except csv.Error as error:
        raise DataError(f"{path}, line {rows.line_num} is no line of a table ({error}); fetch it again.") from error
