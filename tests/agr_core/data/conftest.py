"""Small data sets in the formats of the real ones, and where the real ones lie."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from agr_core.config import SyntheticConfig
from agr_core.data.pack import Packed, pack
from agr_core.data.readers import RawImage, Skipped, find_reader, read_images
from agr_core.data.readers.files import open_files

SHARED_DATA = Path(os.environ.get("AGR_SHARED_DATA", Path(__file__).parents[4] / "shared" / "data"))


@pytest.fixture(scope="session")
def utkface_tar() -> Path:
    """8,003 real files of UTKFace."""
    return shared_data("utkface", "UTKFace_8k.tar")


def shared_data(*parts: str) -> Path:
    """A file or folder of the real data; skips the test where it is not at hand."""
    path = SHARED_DATA.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"the real data is not at hand: {path} is absent; set AGR_SHARED_DATA to the folder that holds it")
    return path


def read_all(source: Path, reader: str | None = None) -> tuple[list[RawImage], dict[str, str]]:
    """Images of a raw data set, and the reason for each file that is skipped."""
    with open_files(source) as files:
        items = list(read_images(find_reader(files, reader), files))
    images = [item for item in items if isinstance(item, RawImage)]
    return images, {item.file: item.reason for item in items if isinstance(item, Skipped)}


def encode(pixels: np.ndarray, format_: str = "JPEG") -> bytes:
    """Image bytes of (H, W, 3) or (H, W) pixels."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format_, quality=95)
    return buffer.getvalue()


def picture(seed: int, height: int = 20, width: int = 20) -> bytes:
    """A JPEG of its own for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 255, (height // 4, width // 4, 3), dtype=np.uint8)
    return encode(np.kron(pixels, np.ones((4, 4, 1), dtype=np.uint8)))


@pytest.fixture
def utkface_files() -> dict[str, bytes]:
    """Names and bytes of a small data set in UTKFace's format."""
    names = [f"{1 + 7 * n}_{n % 2}_{n % 5}_2017011622022{n:04d}.jpg.chip.jpg" for n in range(12)]
    return {name: picture(number) for number, name in enumerate(names)}


@pytest.fixture
def write_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes files below a new folder."""

    def write(files: dict[str, bytes], name: str = "raw") -> Path:
        for path, data in files.items():
            target = tmp_path / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """203 drawn faces, packed in several shards. Shared: read only."""
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
    """A sample table without images; ``contents`` are stand-ins of the image bytes, by default all different."""
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
    """Images whose ages are known as ranges, without race."""
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
