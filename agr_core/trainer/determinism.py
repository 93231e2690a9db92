"""Determinism: the same configuration gives the same bits.

All randomness of the training (dropout, stochastic depth) comes from torch's generators. Every epoch seeds them from
(seed, epoch), so checkpoints need no generator state, and earlier work of the process has no effect.
"""

from __future__ import annotations

import os
import random

import numpy as np
import torch

from agr_core.config import ComputeConfig
from agr_core.identity import digest


def use_deterministic_algorithms(compute: ComputeConfig) -> None:
    """Configure this process for a trial: threads, deterministic algorithms only, no kernel benchmarks.

    An operation without a deterministic algorithm on the device then raises RuntimeError.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it at the first use of CUDA
    torch.set_num_threads(compute.threads)
    # Same effect as use_deterministic_algorithms(True), which would also import torch's compiler to configure it.
    torch.set_deterministic_debug_mode("error")
    # Filling new tensors with NaN makes reads before writes repeatable; the trainer does none, and filling costs a
    # pass.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def seed_everything(seed: int, epoch: int, rank: int = 0) -> None:
    """Seed Python's, NumPy's and torch's generators (all devices) from (seed, epoch, rank of the process)."""
    mixed = int(digest(["epoch", seed, epoch, *([rank] if rank else [])])[:16], 16)
    random.seed(mixed)
    np.random.seed(mixed % 2**32)
    torch.manual_seed(mixed)
