"""Errors that mean that a machine or its GPU has too little memory. The same trial may succeed elsewhere."""

from __future__ import annotations

import errno
import re

_SAID = re.compile(
    r"out of memory"  # CUDA and MPS
    r"|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED"
    r"|DefaultCPUAllocator: .*(can't|not enough) .*memory"  # a plain RuntimeError of torch
    r"|bad_alloc",
    re.IGNORECASE,
)


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether the error means that memory could not be allocated."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _SAID.search(str(error)) is not None)
