"""Fixtures: folders of drawn faces in UTKFace's naming scheme, with planted faults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from agr_core.config import SyntheticConfig
from agr_core.data.audit.examine import Examined, examine
from agr_core.data.audit.images import open_raw
from agr_core.data.drawn.synthetic import draw_faces


def jpeg(pixels: NDArray[np.uint8], quality: int = 90) -> bytes:
    return bytes(cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, quality))[1])


def pixels_of(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), dtype=np.uint8)


@pytest.fixture(scope="session")
def drawn() -> list[bytes]:
    """Return 60 different faces of 128 x 128 pixels."""
    return [face.data for face in draw_faces(SyntheticConfig(images=60, size=128, seed=3))]


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    def write(images: dict[str, bytes], name: str = "raw") -> Path:
        for file, data in images.items():
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return tmp_path / name

    return write


def named(faces: Sequence[bytes]) -> dict[str, bytes]:
    """Return files whose names cover every combination of three ages, two genders and two races."""
    return {f"{(20, 40, 60)[n % 3]}_{n // 3 % 2}_{n // 6 % 2}_{n:017d}.jpg": data for n, data in enumerate(faces)}


def examined(source: Path) -> Examined:
    with open_raw(source) as images:
        return examine(images)
