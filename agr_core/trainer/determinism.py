"""What makes the same configuration give the same bits.

All randomness of the training (dropout, stochastic depth) comes from torch's generators, which every epoch seeds anew
from (seed, epoch): no generator state is kept in checkpoints, and nothing that ran before in the process matters.
"""

from __future__ import annotations

import os
import random

import numpy as np
import torch

from agr_core.config import ComputeConfig
from agr_core.identity import digest


def use_deterministic_algorithms(compute: ComputeConfig) -> None:
    """Set this process up for a trial: its threads, deterministic algorithms only, no benchmarking of kernels.

    An operation for which torch has no deterministic algorithm on the device raises RuntimeError when it is used.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it when CUDA is first used
    torch.set_num_threads(compute.threads)
    # As use_deterministic_algorithms(True), which would also tell torch's compiler, and import it for that.
    torch.set_deterministic_debug_mode("error")
    # It would fill every new tensor with NaN, to make reads before writes repeatable; we do none, and it costs a pass.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False


def seed_everything(seed: int, epoch: int, rank: int = 0) -> None:
    """Seed the generators of Python, NumPy and torch (all devices) from (seed, epoch), and from the process's rank."""
    mixed = int(digest(["epoch", seed, epoch, *([rank] if rank else [])])[:16], 16)
    random.seed(mixed)
    np.random.seed(mixed % 2**32)
    torch.manual_seed(mixed)
