"""Surroundings of a simulated sweep: credentials in the environment, and no pictures, which take half of the time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from orchestrator.report import pictures
from orchestrator.simulation.faults import SECRET

_CREDENTIALS = ("AWS_SECRET_ACCESS_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AGR_NOTIFY")


def _none(figures: Mapping[str, Any]) -> dict[str, bytes]:  # noqa: ARG001 - it stands for one that draws
    return {}


@contextmanager
def surroundings() -> Iterator[None]:
    """Put the canary where a process of a sweep has its credentials, and draw no pictures of the report."""
    before = {name: os.environ.get(name) for name in _CREDENTIALS}
    draw = pictures.pictures
    os.environ.update(dict.fromkeys(_CREDENTIALS, SECRET))
    pictures.pictures = _none
    try:
        yield
    finally:
        pictures.pictures = draw
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
