"""Columns of a struct in a MATLAB file, read in a process of its own: damaged files can crash scipy's reader."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agr_core.errors import DataError


def read_columns(
    data: bytes, path: str, struct: str, *, numbers: Sequence[str], texts: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Fields of a 1 x 1 struct, N values each: ``numbers`` as float64, ``texts`` (cell arrays) as str.

    Args:
        data: The file's bytes.
        path: Its name, for messages.
        struct: Name of the struct.
        numbers: Names of its numeric fields.
        texts: Names of its fields of text.

    Raises:
        DataError: If the file is no MATLAB file of version 5 to 7, is damaged, or its fields are not as long as each
            other.
    """
    names = [struct, ",".join(numbers), ",".join(texts)]
    code = f"from {__name__} import answer; answer()"
    child = subprocess.run([sys.executable, "-c", code, *names], input=data, capture_output=True, check=False)
    if child.returncode != 0:
        said = child.stderr.decode(errors="replace").strip().splitlines()
        problem = said[-1] if child.returncode == 1 and said else f"its reader crashed, code {child.returncode}"
        raise DataError(f"{path} is not the MATLAB file it should be ({problem}); fetch it again.")
    with np.load(io.BytesIO(child.stdout)) as columns:
        found = dict(columns)
    if len({len(column) for column in found.values()}) > 1:
        lengths = ", ".join(f"{name} {len(column):,}" for name, column in found.items())
        raise DataError(f"{path} has fields of different lengths ({lengths}); fetch it again.")
    return found


def answer() -> None:
    """What the process does: a MATLAB file comes in, columns go out as npz."""
    from scipy.io import loadmat

    struct, numbers, texts = sys.argv[1:]
    fields = loadmat(io.BytesIO(sys.stdin.buffer.read()), variable_names=[struct])[struct][0, 0]
    columns: dict[str, NDArray[Any]] = {name: np.ravel(fields[name]).astype(np.float64) for name in numbers.split(",")}
    for name in texts.split(","):
        columns[name] = np.array(["".join(map(str, np.ravel(cell))) for cell in np.ravel(fields[name])], dtype=np.str_)
    np.savez(sys.stdout.buffer, **columns)  # type: ignore[arg-type] # the columns' names are no options of savez
