"""Files of a node's cache, and tables of a storage, damaged at random: fetched or made again, or named."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from agr_core.config import DataConfig
from agr_core.data.packed.pack import Packed, verify
from agr_core.data.splits.splits import read_split
from agr_core.errors import AgrError
from agr_core.evaluation.predictions import Predictions
from orchestrator.assets.datasets import prepare_data, stage
from orchestrator.journal.events import DataRef
from orchestrator.storage import layout
from orchestrator.storage.local import LocalStorage
from tests.damage.damage import DAMAGES
from tests.parts.trained_sweep import train_sweep

CASES = 150
DATA = DataConfig.model_validate({"source": "synthetic", "synthetic": {"images": 60, "size": 16}})


def damaged(chance: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """A file that is still there and is another one."""
    while True:
        found = DAMAGES[chance.choice(list(DAMAGES))](chance, data, others)
        if found is not None and found != data:
            return found


@pytest.fixture
def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[LocalStorage, Path, DataRef]:
    """A storage with a data set and a split, and a node's cache that has what it learned of them."""
    monkeypatch.setenv("AGR_HOME", str(tmp_path / "home"))
    storage, cache = LocalStorage(tmp_path / "storage"), tmp_path / "cache"
    ref = prepare_data(DATA, storage=storage, cache=cache)
    stage(ref, storage=storage, cache=cache)
    return storage, cache, ref


def test_a_cache_whose_notes_and_splits_are_damaged_gives_the_same_data(
    staged: tuple[LocalStorage, Path, DataRef],
) -> None:
    storage, cache, ref = staged
    chance = random.Random(1)
    notes = [path for kind in ("verified", "prepared", "splits") for path in (cache / kind).rglob("[!.]*.*")]
    assert len(notes) >= 3
    contents = {path: path.read_bytes() for path in notes}
    for _ in range(CASES):
        path = chance.choice(notes)
        path.write_bytes(damaged(chance, contents[path], list(contents.values())))
        assert prepare_data(DATA, storage=storage, cache=cache) == ref
        found = stage(ref, storage=storage, cache=cache)
        assert read_split(found.split).digest == ref.split_digest
        verify(found.packed)


Read = Callable[[bytes, Path], object]


def _split(data: bytes, path: Path) -> object:
    path.write_bytes(data)
    return read_split(path)


@pytest.mark.parametrize("kind", ["split", "predictions"])
def test_a_damaged_table_is_refused_in_words_or_was_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("AGR_HOME", str(tmp_path / "home"))
    sweep = "finished-20260101-000000-aaaa"
    train_sweep(str(tmp_path / "storage"), sweep, interrupted=False)
    storage = LocalStorage(tmp_path / "storage")
    keys = [info.key for info in storage.list("") if info.key.endswith(".parquet")]
    folder = layout.SPLITS if kind == "split" else "predictions"
    key = next(key for key in keys if folder in key)
    data, others = storage.read(key), [storage.read(key) for key in keys]
    chance = random.Random(2)
    for number in range(CASES):
        changed = damaged(chance, data, others)
        with suppress(AgrError):
            if kind == "split":
                _split(changed, tmp_path / f"{number}.parquet")
            else:
                Predictions.from_parquet(changed, source="predictions")


def test_a_damaged_shard_of_a_data_set_used_where_it_is_is_refused_in_words(packed: Packed, tmp_path: Path) -> None:
    chance = random.Random(3)
    for number in range(CASES):
        copy = shutil.copytree(packed.folder, tmp_path / str(number))
        path = chance.choice(sorted(copy.iterdir()))
        data = path.read_bytes()
        place = chance.randrange(len(data))
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :])
        with suppress(AgrError):
            found = Packed.open(copy)
            found.image_bytes(range(len(found)))
        try:
            verify(copy)
        except AgrError:
            continue
        assert path.name == "manifest.json", "a shard's every bit is hashed"
