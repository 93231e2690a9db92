"""Small Parquet files, read whole."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq


def read_parquet(source: Path | BinaryIO) -> pa.Table:
    """The table in a file, read by this thread alone.

    ``pyarrow.parquet.read_table`` reads with threads, and a process that ends soon after it is now and then aborted by
    them, with exit code 134 (apache/arrow#34314): the commands read such a file last.
    """
    with pq.ParquetFile(source, pre_buffer=False) as file:
        return file.read(use_threads=False)
