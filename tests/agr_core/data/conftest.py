"""Fixtures: small data sets in the formats of published ones, and paths of the published ones."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from agr_core.config import SyntheticConfig
from agr_core.data.packed.pack import Packed, pack
from agr_core.data.readers import RawImage, Skipped, find_reader, read_images
from agr_core.data.readers.files import open_files
from tests.parts.real_data import real_data


@pytest.fixture(scope="session")
def utkface_tar() -> Path:
    """Return an archive of 8,003 real files of UTKFace."""
    return real_data("utkface/UTKFace_8k.tar")


def read_all(source: Path, reader: str | None = None) -> tuple[list[RawImage], dict[str, str]]:
    """Return the images of a raw data set, and the reason for each skipped file."""
    with open_files(source) as files:
        items = list(read_images(find_reader(files, reader), files))
    images = [item for item in items if isinstance(item, RawImage)]
    return images, {item.file: item.reason for item in items if isinstance(item, Skipped)}


def encode(pixels: np.ndarray, format_: str = "JPEG") -> bytes:
    """Return image bytes of (H, W, 3) or (H, W) pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format_, quality=95)
    return buffer.getvalue()


def picture(seed: int, height: int = 20, width: int = 20) -> bytes:
    """Return a JPEG that is unique to the seed."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height // 4, width // 4, 3), dtype=np.uint8)
    return encode(np.kron(pixels, np.ones((4, 4, 1), dtype=np.uint8)))


@pytest.fixture
def utkface_files() -> dict[str, bytes]:
    """Return names and bytes of a small data set in UTKFace's format."""
    names = [f"{1 + 7 * n}_{n % 2}_{n % 5}_2017011622022{n:04d}.jpg.chip.jpg" for n in range(12)]
    return {name: picture(number) for number, name in enumerate(names)}


@pytest.fixture
def write_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write files below a new folder."""

    def write(files: dict[str, bytes], name: str = "raw") -> Path:
        for path, data in files.items():
            target = tmp_path / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """Return 203 drawn faces, packed in several shards. Shared; read-only."""
    folder = tmp_path_factory.mktemp("faces") / "packed"
    pack("synthetic", folder, synthetic=SyntheticConfig(images=203, size=32, seed=5), shard_bytes=40_000)
    return Packed.open(folder)


def sample_table(
    ages: Sequence[float],
    *,
    genders: Sequence[str | None] | None = None,
    races: Sequence[str | None] | None = None,
    subjects: Sequence[str | None] | None = None,
    contents: Sequence[str] | None = None,
    partitions: Sequence[str | None] | None = None,
) -> pd.DataFrame:
    """Return a sample table without images; ``contents`` replace the image bytes, by default all different."""
    count = len(ages)
    sha256 = list(contents) if contents is not None else [f"{number:064x}" for number in range(count)]
    return pd.DataFrame(
        {
            "sample_id": [f"s{number:05d}" for number in range(count)],
            "path": [f"{number}.jpg" for number in range(count)],
            "age": np.array(ages, dtype=np.float64),
            "age_low": np.array(ages, dtype=np.float64),
            "age_high": np.array(ages, dtype=np.float64),
            "gender": pd.Series(genders if genders is not None else ["male"] * count, dtype="str"),
            "race": pd.Series(races if races is not None else ["White"] * count, dtype="str"),
            "subject": pd.Series(subjects if subjects is not None else [None] * count, dtype="str"),
            "partition": pd.Series(partitions if partitions is not None else [None] * count, dtype="str"),
            "attributes": pd.Series([None] * count, dtype=object),
            "source": "test",
            "sha256": sha256,
        }
    )


def range_images(count: int, ranges: Sequence[tuple[float, float]]) -> list[RawImage]:
    """Return images with age ranges and without race."""
    return [
        RawImage(
            path=f"{number:03d}.jpg",
            data=picture(number),
            age=sum(ranges[number % len(ranges)]) / 2,
            age_low=ranges[number % len(ranges)][0],
            age_high=ranges[number % len(ranges)][1],
            gender=("male", "female")[number // 2 % 2],
        )
        for number in range(count)
    ]
