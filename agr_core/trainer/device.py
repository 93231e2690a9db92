"""Device and precision of the computation."""

from __future__ import annotations

import torch

from agr_core.config import ComputeConfig
from agr_core.errors import ConfigError

_AMP_DTYPES = {"none": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(compute: ComputeConfig) -> torch.device:
    """Return the device of a trial; ``auto`` is a GPU if this process sees one.

    Raises:
        ConfigError: If a GPU is requested and there is none, or float16 is requested on the CPU.
    """
    if compute.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "compute.device=cuda, but no GPU is visible to this trial; give it one (resources.gpus) or use auto or cpu."
        )
    device = torch.device("cuda" if compute.device != "cpu" and torch.cuda.is_available() else "cpu")
    if compute.amp == "fp16" and device.type == "cpu":
        raise ConfigError("compute.amp=fp16 needs a GPU; on the CPU use bf16 or none.")
    return device


def autocast(compute: ComputeConfig, device: torch.device) -> torch.autocast:
    """Return the context of the forward pass; it has no effect with ``amp: none``.

    Low-precision copies of weights are not reused between training and evaluation of an epoch: torch clears its cache
    when the context ends.
    """
    return torch.autocast(device.type, dtype=_AMP_DTYPES[compute.amp], enabled=compute.amp != "none")


def grad_scaler(compute: ComputeConfig, device: torch.device) -> torch.amp.GradScaler:
    """Return the loss scaler for float16, whose small gradients underflow; disabled for other precisions."""
    return torch.amp.GradScaler(device.type, enabled=compute.amp == "fp16")
