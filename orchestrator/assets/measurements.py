"""Measured memory and speed of configurations, kept in the storage by configuration and hardware."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field

from agr_core.config import StrictModel
from agr_core.identity import digest
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.storage.documents import read_model


class Measurement(StrictModel):
    """Memory and speed of one configuration on one kind of machine; the newest replaces an older one."""

    load: dict[str, Any] = Field(description="What decides memory and speed of the configuration (`load_of`).")
    hardware: str = Field(description="The kind of machine: its GPUs, or its CPU.")
    images_per_s: float = Field(gt=0, description="Training images a second.")
    epoch_s: float = Field(gt=0, description="Seconds of a whole epoch, with evaluation and checkpoint.")
    start_s: float = Field(ge=0, description="Seconds to the first step in a new process.")
    build_s: float = Field(ge=0, description="Seconds to the first step in a process that trained before.")
    main_gb: float | None = Field(description="Peak of the main memory; null if unknown.")
    gpu_gb: float | None = Field(description="Peak of the GPU's memory; null without one.")
    gpu_total_gb: float | None = Field(default=None, description="Memory of the GPU; null without one.")
    time: float = Field(description="When it was measured, seconds since the epoch.")
    trials: int = Field(default=0, ge=0, description="Trials of a sweep that it is the median of; 0: `agr check`.")


def keep(storage: Storage, measurement: Measurement) -> None:
    """Store a measurement."""
    key = layout.measurement(digest(measurement.hardware)[:16], digest(measurement.load))
    document: Mapping[str, Any] = measurement.model_dump(mode="json")
    storage.write(key, json.dumps(document, indent=1).encode())


def kept(storage: Storage) -> Iterator[Measurement]:
    """Yield all measurements of a storage.

    Raises:
        DamagedError: If one cannot be read.
    """
    for info in sorted(storage.list(layout.MEASUREMENTS), key=lambda info: info.key):
        yield read_model(storage, info.key, Measurement)
