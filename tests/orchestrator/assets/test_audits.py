"""What is found in a split before a sweep trains on it, and what is remembered of it."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from agr_core.config import DataConfig, SplitConfig, SyntheticConfig
from agr_core.data.drawn.synthetic import draw_faces
from agr_core.data.packed.pack import Packed, pack
from agr_core.errors import DataError
from orchestrator.assets.audits import audit_packed, audit_split
from orchestrator.assets.datasets import prepare_data
from orchestrator.journal.events import DataRef
from orchestrator.storage import open_storage
from orchestrator.storage.base import Storage


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Thirty faces, three of them twice: one with its own label, two with another age."""
    folder = tmp_path / "raw"
    folder.mkdir()
    faces = [face.data for face in draw_faces(SyntheticConfig(images=30, size=64, seed=8))]
    for number, data in enumerate(faces):
        (folder / f"{(20, 40)[number % 2]}_0_0_{number}.jpg").write_bytes(data)
    for number, age in ((0, 20), (1, 41), (3, 41)):
        (folder / f"{age}_0_0_again{number}.jpg").write_bytes(faces[number])
    return folder


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return open_storage(str(tmp_path / "storage"))


def _prepared(raw: Path, tmp_path: Path, storage: Storage, *, leaks: str = "keep") -> DataRef:
    names = sorted(file.name for file in raw.iterdir())
    parts = {name: "val" if "again" in name else "train" for name in names}
    (tmp_path / "split.csv").write_text("file,split\n" + "".join(f"{name},{part}\n" for name, part in parts.items()))
    split = SplitConfig.model_validate({"strategy": "file", "path": str(tmp_path / "split.csv"), "leaks": leaks})
    return prepare_data(DataConfig(source=str(raw), split=split), storage=storage, cache=tmp_path / "cache")


def test_leaks_and_conflicts_are_counted_and_told(
    raw: Path, tmp_path: Path, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    ref = _prepared(raw, tmp_path, storage)
    with caplog.at_level(logging.WARNING):
        assert audit_split(ref, storage=storage, cache=tmp_path / "cache", strict=False) == (3, 2)
    assert "3 groups of one picture or one subject are in several parts of the split" in caplog.text
    assert "2 groups have contradicting labels" in caplog.text


def test_a_strict_sweep_is_refused_a_leaking_split_also_when_it_is_known(
    raw: Path, tmp_path: Path, storage: Storage
) -> None:
    ref = _prepared(raw, tmp_path, storage)
    for _ in range(2):
        with pytest.raises(DataError, match=r"3 groups of one picture or one subject .* the sweep is strict"):
            audit_split(ref, storage=storage, cache=tmp_path / "cache", strict=True)


def test_a_known_split_is_not_looked_through_again(raw: Path, tmp_path: Path, storage: Storage) -> None:
    ref = _prepared(raw, tmp_path, storage)
    cache = tmp_path / "cache"
    known = audit_split(ref, storage=storage, cache=cache, strict=False)
    shutil.rmtree(tmp_path / "storage")
    assert audit_split(ref, storage=storage, cache=cache, strict=False) == known


def test_a_split_that_moves_what_leaks_passes_strictly(raw: Path, tmp_path: Path, storage: Storage) -> None:
    for name in ("40_0_0_1.jpg", "40_0_0_3.jpg"):
        (raw / name).unlink()
    (raw / "20_0_0_29.jpg").write_bytes((raw / "20_0_0_0.jpg").read_bytes())
    parts = {file.name: "val" if file.name.startswith("40") else "train" for file in raw.iterdir()}
    parts["20_0_0_29.jpg"] = "val"
    (tmp_path / "split.csv").write_text("file,split\n" + "".join(f"{name},{part}\n" for name, part in parts.items()))
    split = SplitConfig(strategy="file", path=str(tmp_path / "split.csv"))
    ref = prepare_data(DataConfig(source=str(raw), split=split), storage=storage, cache=tmp_path / "cache")
    assert audit_split(ref, storage=storage, cache=tmp_path / "cache", strict=True) == (0, 0)


def test_copies_of_a_packed_data_set_are_remembered_by_its_digest(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestrator.assets import audits

    pack(str(raw), tmp_path / "packed")
    first = audit_packed(Packed.open(tmp_path / "packed"), cache=tmp_path / "cache")
    shutil.copytree(tmp_path / "packed", tmp_path / "elsewhere")
    monkeypatch.delattr(audits, "examine")
    again = audit_packed(Packed.open(tmp_path / "elsewhere"), cache=tmp_path / "cache")
    assert (len(first.duplicates), first.conflicts) == (len(again.duplicates), again.conflicts) == (3, 2)
