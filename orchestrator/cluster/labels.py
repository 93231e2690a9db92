"""What a node says of itself: provider, GPU, price, data it has; as Ray's node labels."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from agr_core.errors import InputError
from orchestrator.storage.staging import held

PROVIDER = "agr-provider"
GPU = "agr-gpu"
USD_PER_HOUR = "agr-usd-per-hour"
DATA = "agr-data-"
"""Beginning of the label of a data set that the node had in its cache when it started; its digest follows, cut."""

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_DIGEST_CHARACTERS = 32
_NVIDIA_TIMEOUT_S = 10


def node_labels(*, provider: str | None, usd_per_hour: float | None, cache: Path) -> dict[str, str]:
    """Labels of this machine.

    Args:
        provider: Whose machine it is.
        usd_per_hour: What it costs.
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
    """The label of a cached data set."""
    return DATA + data_digest[:_DIGEST_CHARACTERS]


def usd_per_hour(labels: Mapping[str, str]) -> float | None:
    """What a node costs by its labels (dollars an hour)."""
    text = labels.get(USD_PER_HOUR)
    return None if text is None else float(text)


def _gpu_model() -> str:
    """Name of the machine's first GPU as a label's value; empty without one."""
    if shutil.which("nvidia-smi") is None:
        return ""
    try:
        found = subprocess.run(
            ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"),
            capture_output=True, text=True, timeout=_NVIDIA_TIMEOUT_S, check=True,
        )  # fmt: skip
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return ""
    name = next(iter(found.stdout.splitlines()), "").removeprefix("NVIDIA ").removeprefix("GeForce ")
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("_.-")[:63]
