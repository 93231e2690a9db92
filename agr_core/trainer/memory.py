"""The memory of a training: what the C library frees is kept between steps, and given back at the end; what is held.

A training step on the CPU allocates and frees the same large tensors again and again. glibc gives each of them back to
the kernel, which then has to map and clear the same pages in every step: up to a quarter of the time of large models.
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
_HELD = re.compile(r"^Rss(?:Anon|Shmem):\s+(\d+) kB$", re.MULTILINE)


def keep_freed_memory() -> None:
    """Let freed memory stay with this process; does nothing where the C library is not glibc."""
    if (libc := _glibc()) is not None:
        libc.mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)


def give_back_freed_memory() -> None:
    """Return what is freed to the kernel; does nothing where the C library is not glibc."""
    if (libc := _glibc()) is not None:
        libc.malloc_trim(0)


def held_bytes() -> int | None:
    """Main memory (bytes) that this process has to itself; None where the system does not tell (it is not Linux).

    Files that are mapped, such as decoded images and libraries, are left out: processes share them, and the system
    drops their pages when others need the room. On a CPU this is about the most that the training held so far, because
    freed memory is kept.
    """
    if not _STATUS.exists():
        return None
    parts = _HELD.findall(_STATUS.read_text())
    return sum(map(int, parts)) * 1024 if parts else None


def memory_metrics(team: Team, device: torch.device) -> dict[str, float]:
    """``memory/main_gb`` and, on a GPU, ``memory/gpu_gb`` of the trial that this team trains."""
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
