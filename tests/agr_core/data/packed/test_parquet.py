from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from agr_core.data.packed.parquet import read_parquet

TABLE = pa.table({"sample_id": ["a", "b"], "age": pa.array([1.5, None], pa.float32())}).replace_schema_metadata(
    {b"classes": b"{}"}
)


def test_a_file_and_its_bytes_are_read_with_their_metadata(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(TABLE, path)
    for found in (read_parquet(path), read_parquet(io.BytesIO(path.read_bytes()))):
        assert found.equals(TABLE, check_metadata=True)


def test_reading_starts_no_threads_that_could_abort_a_process_that_ends(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(TABLE, path)
    code = (
        "import os, pathlib, sys; from agr_core.data.packed.parquet import read_parquet\n"
        "threads = lambda: len(os.listdir('/proc/self/task'))\n"
        "before = threads(); table = read_parquet(pathlib.Path(sys.argv[1])); print(threads() - before, flush=True)"
    )
    said = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "0"
