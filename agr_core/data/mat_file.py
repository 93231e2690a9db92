"""Columns of a struct in a MATLAB file, read in a limited child process: damaged files can crash scipy's reader."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agr_core.data.confined import confined
from agr_core.errors import DataError

MAX_EXPANSION = 50
"""Maximum expansion of a compressed MATLAB file; names and numbers compress about tenfold."""

_ALWAYS_UNPACKED = 64 * 2**20
_CHUNK_BYTES = 2**20
_HEADER_BYTES = 128
_COMPRESSED = 15


def read_columns(
    data: bytes, path: str, name: str, *, numbers: Sequence[str], texts: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Return fields of a 1 x 1 struct, N values each: ``numbers`` as float64, ``texts`` (cell arrays) as str.

    Args:
        data: The file's bytes.
        path: File name, for messages.
        name: Name of the struct.
        numbers: Names of its numeric fields.
        texts: Names of its text fields.

    Raises:
        DataError: If the file is not a MATLAB file of version 5 to 7, is damaged, or its fields differ in length.
    """
    names = [name, ",".join(numbers), ",".join(texts)]
    _check_expansion(data, path)
    answered = confined(answer, names, data, path, "the MATLAB file it should be")
    with np.load(io.BytesIO(answered)) as columns:
        columns_by_name = dict(columns)
    if len({len(column) for column in columns_by_name.values()}) > 1:
        lengths = ", ".join(f"{name} {len(column):,}" for name, column in columns_by_name.items())
        raise DataError(f"{path} has fields of different lengths ({lengths}); fetch it again.")
    return columns_by_name


def _check_expansion(data: bytes, path: str) -> None:
    """Refuse a file of version 5 to 7 whose variables unpack to far more bytes than labels need."""
    worth = max(_ALWAYS_UNPACKED, MAX_EXPANSION * len(data))
    unpacked, offset = 0, _HEADER_BYTES
    order = ">" if data[126:128] == b"MI" else "<"
    while offset + 8 <= len(data):
        kind, size = struct.unpack(f"{order}LL", data[offset : offset + 8])
        if kind == _COMPRESSED:
            unpacked += _unpacked_bytes(data[offset + 8 : offset + 8 + size], worth - unpacked)
        if unpacked > worth:
            raise DataError(
                f"{path} unpacks to more than {MAX_EXPANSION} times its size; labels do not. Fetch it again."
            )
        offset += 8 + size


def _unpacked_bytes(data: bytes, limit: int) -> int:
    """Return the unpacked size of a compressed variable, in bytes, counted to just above ``limit``."""
    decompressor = zlib.decompressobj()
    count, rest = 0, data
    try:
        while rest and count <= limit:
            count += len(decompressor.decompress(rest, _CHUNK_BYTES))
            rest = decompressor.unconsumed_tail
    except zlib.error:
        return count  # scipy's reader reports the error
    return count


def answer() -> None:
    """Read a MATLAB file from standard input and write its columns as npz; runs in the child process."""
    from scipy.io import loadmat

    struct, numbers, texts = sys.argv[1:]
    fields = loadmat(io.BytesIO(sys.stdin.buffer.read()), variable_names=[struct])[struct][0, 0]
    columns: dict[str, NDArray[Any]] = {name: np.ravel(fields[name]).astype(np.float64) for name in numbers.split(",")}
    for name in texts.split(","):
        columns[name] = np.array(["".join(map(str, np.ravel(cell))) for cell in np.ravel(fields[name])], dtype=np.str_)
    np.savez(sys.stdout.buffer, **columns)  # type: ignore[arg-type] # the columns' names are no options of savez
