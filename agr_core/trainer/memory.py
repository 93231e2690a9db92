"""Memory of a training process: keep freed memory between steps, return it at the end, measure usage.

Every training step on the CPU allocates and frees the same large tensors. By default glibc returns their memory to the
kernel, which must map and clear the pages again in every step; that takes up to a quarter of the time of large models.
"""

from __future__ import annotations

import ctypes
import re
import sys
from functools import cache
from pathlib import Path

import torch

from agr_core.evaluation.names import GPU_MEMORY, MAIN_MEMORY
from agr_core.trainer.distributed import Team

_M_TRIM_THRESHOLD = -1  # malloc.h
_M_MMAP_THRESHOLD = -3
_KEEP_BYTES = 2**31 - 1

_STATUS = Path("/proc/self/status")
_DATA = re.compile(r"^(?P<name>VmData|RssAnon):\s+(?P<kilobytes>\d+) kB$", re.MULTILINE)
_HELD = re.compile(r"^Rss(?:Anon|Shmem):\s+(\d+) kB$", re.MULTILINE)


def keep_freed_memory() -> None:
    """Keep freed memory in this process instead of returning it; no effect without glibc."""
    if (libc := _glibc()) is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)


def give_back_freed_memory() -> None:
    """Return freed memory to the kernel; no effect without glibc."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def held_bytes() -> int | None:
    """Return the main memory private to this process, in bytes; None if not on Linux.

    Mapped files, such as decoded images and libraries, are not counted: processes share them, and the system drops
    their pages when memory is short. On a CPU the result is close to the peak of the training so far, because freed
    memory is kept.
    """
    if not _STATUS.exists():
        return None
    parts = _HELD.findall(_STATUS.read_text())
    return sum(map(int, parts)) * 1024 if parts else None


def reserved_bytes() -> int | None:
    """Return the private address space that this process has reserved and does not hold; None if not on Linux.

    ``RLIMIT_DATA`` counts it: stacks of threads, and what libraries reserve in advance.
    """
    if not _STATUS.exists():
        return None
    sizes = {match["name"]: int(match["kilobytes"]) * 1024 for match in _DATA.finditer(_STATUS.read_text())}
    if len(sizes) < 2:
        return None
    return sizes["VmData"] - sizes["RssAnon"]


def memory_metrics(team: Team, device: torch.device) -> dict[str, float]:
    """Return ``memory/main_gb`` and, on a GPU, ``memory/gpu_gb`` of the trial that this team trains."""
    on_gpu = torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None
    main, gpu = zip(*team.gather((held_bytes(), on_gpu)), strict=True)
    figures = {}
    if None not in main:
        figures[MAIN_MEMORY] = sum(main) / 1e9
    if None not in gpu:
        figures[GPU_MEMORY] = max(gpu) / 1e9
    return figures


@cache
def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
