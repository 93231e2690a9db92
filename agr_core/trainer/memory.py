"""The C library's memory: kept between the steps of a training, given back after it.

A training step on the CPU allocates and frees the same large tensors again and again. glibc gives each of them back to
the kernel, which then has to map and clear the same pages in every step: up to a quarter of the time of large models.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_M_TRIM_THRESHOLD = -1  # malloc.h
_M_MMAP_THRESHOLD = -3
_KEEP_BYTES = 2**31 - 1


def keep_freed_memory() -> None:
    """Let freed memory stay with this process; does nothing where the C library is not glibc."""
    if (libc := _glibc()) is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)


def give_back_freed_memory() -> None:
    """Return what is freed to the kernel; does nothing where the C library is not glibc."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
