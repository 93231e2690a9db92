"""Child processes that read Parquet files, Excel workbooks and images in cells.

A child writes lines: a JSON object of the columns, then a JSON array of texts for each row.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from datetime import date, datetime
from math import isqrt
from typing import Any, BinaryIO

import cv2
import numpy as np

from agr_core.data.confined import ConfinedError, stream_confined
from agr_core.data.readers.files.base import MAX_FILE_BYTES
from agr_core.data.readers.tabular.columns import names_images
from agr_core.errors import DataError

_ROWS_AT_ONCE = 16
_TOO_LARGE = 2**64 - 2
_NO_IMAGE = 2**64 - 1
_MONTH_FIRST = re.compile(r"m+[-/ ]+yy", re.IGNORECASE)


def cell_text(value: Any) -> str:
    """Return a cell as text; whole numbers without a decimal point, empty cells as empty text."""
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value).strip()


def pixels_png(text: str) -> bytes | str:
    """Convert a square image of grey values 0 to 255, separated by spaces, to PNG; or return why it is invalid."""
    try:
        values = np.array(text.split(), dtype=np.int64)
    except (ValueError, OverflowError):
        return "its pixels are no whole numbers"
    side = isqrt(len(values))
    if side == 0 or side * side != len(values):
        return f"{len(values):,} pixels are no square"
    if values.min() < 0 or values.max() > 255:
        return "its pixels are not from 0 to 255"
    encoded, png = cv2.imencode(".png", values.astype(np.uint8).reshape(side, side))
    return png.tobytes() if encoded else "its pixels cannot be encoded"


def parquet_labels() -> None:
    """Write the columns of a Parquet file except image bytes, with codes as Hugging Face's names; runs in a child."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(sys.stdin.buffer, pre_buffer=False) as file:
        schema = file.schema_arrow
        embedded, leaves, columns = None, [], []
        for field in schema:
            if pa.types.is_struct(field.type) and "bytes" in [inner.name for inner in field.type]:
                embedded = embedded or field.name
                if field.name == embedded and "path" in [inner.name for inner in field.type]:
                    leaves.append(f"{field.name}.path")
                columns.append(field.name)
            elif pa.types.is_binary(field.type) or pa.types.is_large_binary(field.type):
                embedded = embedded or field.name
                if field.name != embedded:
                    continue
                columns.append(field.name)
            else:
                leaves.append(field.name)
                columns.append(field.name)
        _write({"columns": columns, "embedded": embedded, "names": _class_names(schema.metadata or {}), "first": 1})
        for batch in file.iter_batches(batch_size=1024, columns=leaves, use_threads=False):
            for row in batch.to_pylist():
                image = row.get(embedded) if embedded else None
                if embedded:
                    row[embedded] = image.get("path") if isinstance(image, dict) else None
                _write([cell_text(row.get(column)) for column in columns])
        if not leaves:
            for _ in range(file.metadata.num_rows):
                _write([""] * len(columns))


def _class_names(metadata: dict[bytes, bytes]) -> dict[str, dict[str, str]]:
    """Return, by column, the names of class labels by code."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        return {
            column: {str(code): str(name) for code, name in enumerate(feature["names"])}
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and "names" in feature
        }
    except (ValueError, AttributeError, TypeError):
        return {}


def excel_labels() -> None:
    """Write a sheet of a workbook, dates as displayed so that ranges can be recognised; runs in a child.

    It is the first one that has a column of image names, else the first; with several sheets it is named.
    """
    from openpyxl import load_workbook

    workbook = load_workbook(sys.stdin.buffer, read_only=True, data_only=True)
    sheet = next((each for each in workbook.worksheets if names_images(_header(each.iter_rows()))), None)
    sheet = sheet or workbook.worksheets[0]
    rows = sheet.iter_rows()
    header = _header(rows)
    named = sheet.title if len(workbook.worksheets) > 1 else None
    _write({"columns": header, "embedded": None, "names": {}, "first": 2, "sheet": named})
    blank = 0
    for row in rows:
        texts = [_excel_text(cell) for cell in row[: len(header)]]
        texts += [""] * (len(header) - len(texts))
        if not any(texts):
            blank += 1
            continue
        for _ in range(blank):
            _write([""] * len(header))
        blank = 0
        _write(texts)


def _header(rows: Iterator[Any]) -> list[str]:
    """Return the cells of the first row, without empty ones at its end."""
    header = [cell_text(cell.value) for cell in next(rows, ())]
    while header and not header[-1]:
        header.pop()
    return header


def _excel_text(cell: Any) -> str:
    value = cell.value
    if not isinstance(value, datetime | date):
        return cell_text(value)
    shown = str(cell.number_format)
    if _MONTH_FIRST.match(shown):
        return f"{value:%b}-{value:%y}"
    return f"{value:%d}-{value:%b}" if "y" not in shown.lower() else value.isoformat()


def parquet_bytes() -> None:
    """Write the image bytes of each row, preceded by their length as eight bytes; runs in a child."""
    import pyarrow.parquet as pq

    column, output = sys.argv[1], sys.stdout.buffer
    with pq.ParquetFile(sys.stdin.buffer, pre_buffer=False) as file:
        nested = f"{column}.bytes" in [file.schema.column(index).path for index in range(len(file.schema))]
        leaf = f"{column}.bytes" if nested else column
        for batch in file.iter_batches(batch_size=_ROWS_AT_ONCE, columns=[leaf], use_threads=False):
            for value in batch.column(0):
                data = value.as_py()
                data = data.get("bytes") if isinstance(data, dict) else data
                if data is None or len(data) > MAX_FILE_BYTES:
                    output.write((_NO_IMAGE if data is None else _TOO_LARGE).to_bytes(8, "big"))
                else:
                    output.write(len(data).to_bytes(8, "big"))
                    output.write(data)


def parquet_images(file: BinaryIO, name: str, column: str) -> Iterator[bytes | str]:
    """Yield the image bytes of each row of a Parquet file, read by a child; or the reason why there are none.

    Raises:
        DataError: If the child cannot read the file.
    """
    try:
        with stream_confined(parquet_bytes, [column], file) as stream:
            while header := stream.read(8):
                size = int.from_bytes(header, "big")
                if size == _NO_IMAGE:
                    yield "the row holds no image"
                elif size == _TOO_LARGE:
                    yield f"larger than {MAX_FILE_BYTES // 2**20} MiB"
                else:
                    yield stream.read(size)
    except ConfinedError as error:
        raise DataError(f"{name} is not a Parquet file that can be read ({error}); fetch it again.") from error


def _write(document: Any) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=True) + "\n")
