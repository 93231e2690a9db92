"""Labels of a node as Ray node labels: provider, GPU, price, cached data."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from agr_core.errors import InputError
from orchestrator.assets.node_cache import held
from orchestrator.ray_tune.labels import USD_PER_HOUR as USD_PER_HOUR
from orchestrator.ray_tune.labels import usd_per_hour as usd_per_hour

PROVIDER = "agr-provider"
GPU = "agr-gpu"
DATA = "agr-data-"
"""Prefix of the label of a data set that was in the node's cache at its start; a part of the digest follows."""

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_DIGEST_CHARACTERS = 32
_NVIDIA_TIMEOUT_S = 10


def node_labels(*, provider: str | None, usd_per_hour: float | None, cache: Path) -> dict[str, str]:
    """Return the labels of this machine.

    Args:
        provider: Provider of the machine.
        usd_per_hour: Price, in dollars per hour.
        cache: The node's cache of data sets, ``Settings.cache``.

    Raises:
        InputError: If ``provider`` cannot be a label.
    """
    labels = {}
    if provider is not None:
        if not _NAME.fullmatch(provider):
            raise InputError(
                f"--provider {provider!r} must be 1 to 63 letters, digits, '-', '_' and '.', such as vast.ai."
            )
        labels[PROVIDER] = provider
    if usd_per_hour is not None:
        labels[USD_PER_HOUR] = f"{usd_per_hour:.6f}".rstrip("0").rstrip(".")
    model = _gpu_model()
    if model:
        labels[GPU] = model
    return labels | {data_label(data_digest): "cached" for data_digest in sorted(held(cache))}


def data_label(data_digest: str) -> str:
    """Return the label of a cached data set."""
    return DATA + data_digest[:_DIGEST_CHARACTERS]


def _gpu_model() -> str:
    """Return the name of the machine's first GPU as a label's value; empty without one."""
    if shutil.which("nvidia-smi") is None:
        return ""
    try:
        output = subprocess.run(
            ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"),
            capture_output=True, text=True, timeout=_NVIDIA_TIMEOUT_S, check=True,
        )  # fmt: skip
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return ""
    name = next(iter(output.stdout.splitlines()), "").removeprefix("NVIDIA ").removeprefix("GeForce ")
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("_.-")[:63]
