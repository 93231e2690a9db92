"""Reader for small Parquet files."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq


def read_parquet(source: Path | BinaryIO) -> pa.Table:
    """Return the table in a file, read without threads.

    The threads of ``pyarrow.parquet.read_table`` occasionally abort a process that ends soon afterwards, with exit code
    134 (apache/arrow#34314). Commands read such files last.
    """
    with pq.ParquetFile(source, pre_buffer=False) as file:
        return file.read(use_threads=False)


UNREADABLE = (pa.ArrowException, OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError)
"""Exceptions raised by a damaged Parquet file or the JSON in its metadata."""


def reason(error: BaseException) -> str:
    """Return an exception as one line; Arrow's messages have several."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
