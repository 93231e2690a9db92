"""Sweeps copied to another storage: whole, verified, begun again where it stopped, and never over another history."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agr_core.errors import IntegrityError
from orchestrator.catalog.copying import copy_sweep
from orchestrator.catalog.ownership import boot_id
from orchestrator.errors import AlreadyExistsError, NotFoundError, SweepOwnedError
from orchestrator.journal.events import DriverStarted, StageRef
from orchestrator.journal.segments import read_state
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.storage.local import LocalStorage

Recorder = Callable[..., Any]
DATA, SPLIT = "d" * 64, "5" * 64  # what a recorded trial refers to
SWEEP = "faces-20260102-030405-abcd"


@pytest.fixture
def source(record_sweep: Recorder) -> Storage:
    """A finished sweep with data, split, stage and weights, and a data set that it does not use."""
    sweep = record_sweep()
    stage = StageRef(
        id="first",
        key="a" * 64,
        data_uri=f"{sweep.storage.uri}/datasets/{DATA}",
        data_digest=DATA,
        split_digest=SPLIT,
        weights_sha256=None,
    )
    trial = sweep.trial(0, [5.0, 4.0], stages=(stage,))
    sweep.write_files(trial, [5.0, 4.0])
    sweep.end()
    storage: Storage = sweep.storage
    for data in (DATA, "1" * 64):
        for name in ("part-0000.parquet", "manifest.json"):
            storage.write(f"{layout.dataset(data)}/{name}", data.encode())
    storage.write(layout.split(SPLIT), b"split")
    storage.write(layout.stage_claim("a" * 64, 1), b"{}")
    done = {"outcome": "completed", "owner": "s/t", "epochs": 2, "best_epoch": 1, "value": 1.0}
    storage.write(layout.stage_done("a" * 64), json.dumps({**done, "weights_sha256": "b" * 64}).encode())
    storage.write(layout.weights("b" * 64), b"weights")
    storage.write(layout.weights("9" * 64), b"of no sweep")
    storage.write(f"{layout.control(SWEEP)}/1-aa.json", b"{}")
    return storage


@pytest.fixture
def target(tmp_path: Path) -> Storage:
    return LocalStorage(tmp_path / "target")


def contents(storage: Storage) -> dict[str, bytes]:
    return {info.key: storage.read(info.key) for info in storage.list("")}


def test_a_sweep_arrives_with_all_that_it_uses_and_nothing_else(source: Storage, target: Storage) -> None:
    copied = copy_sweep(SWEEP, source, target)

    expected = {
        key: data
        for key, data in contents(source).items()
        if "1" * 64 not in key and "9" * 64 not in key and "/control/" not in key
    }
    assert contents(target) == expected
    assert (copied.objects, copied.unchanged) == (len(expected) - 1, 0)  # the summary is written each time
    assert read_state(target, SWEEP) == read_state(source, SWEEP)


def test_a_second_copy_transfers_nothing_and_an_interrupted_copy_resumes(source: Storage, target: Storage) -> None:
    first = copy_sweep(SWEEP, source, target)
    segments = sorted(info.key for info in target.list(layout.journal(SWEEP)))

    again = copy_sweep(SWEEP, source, target)
    target.delete(segments[-1])
    target.write(layout.split(SPLIT), b"half")
    rest = copy_sweep(SWEEP, source, target)

    assert (again.objects, again.unchanged) == (0, first.objects)
    assert (rest.objects, rest.unchanged) == (2, first.objects - 2)
    assert target.read(layout.split(SPLIT)) == b"split"


class _Recording(LocalStorage):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.written: list[str] = []

    def upload(self, path: Path, key: str) -> None:
        self.written.append(key)
        super().upload(path, key)


def test_the_journal_comes_last_and_a_manifest_after_its_shards(source: Storage, tmp_path: Path) -> None:
    target = _Recording(tmp_path / "target")

    copy_sweep(SWEEP, source, target)

    order = target.written
    first_segment = order.index(layout.segment(SWEEP, 1))
    assert all("/journal/" in key for key in order[first_segment:])
    assert order[first_segment:] == sorted(order[first_segment:])
    data = [key for key in order if key.startswith("datasets/")]
    assert [Path(key).name for key in data] == ["part-0000.parquet", "manifest.json"]


class _Damaging(LocalStorage):
    def upload(self, path: Path, key: str) -> None:
        self.write(key, path.read_bytes()[:-1])


def test_an_object_that_arrives_changed_is_named_and_the_sweep_is_not_listed(source: Storage, tmp_path: Path) -> None:
    target = _Damaging(tmp_path / "target")

    with pytest.raises(IntegrityError, match="after the copy"):
        copy_sweep(SWEEP, source, target)

    assert target.folders(layout.SWEEPS) == ()


def test_a_sweep_that_went_on_in_the_target_is_not_overwritten(source: Storage, target: Storage) -> None:
    copy_sweep(SWEEP, source, target)
    last = max(info.key for info in target.list(layout.journal(SWEEP)))
    target.write(last.replace(".jsonl", "").rstrip("0123456789") + "000099.jsonl", b"{}")
    before = contents(target)

    with pytest.raises(AlreadyExistsError, match=r"another history, from .*000099\.jsonl on"):
        copy_sweep(SWEEP, source, target)

    assert contents(target) == before


def test_another_journal_of_the_same_id_is_not_overwritten(source: Storage, target: Storage) -> None:
    target.write(layout.segment(SWEEP, 1), b"other")

    with pytest.raises(AlreadyExistsError, match=r"000001\.jsonl"):
        copy_sweep(SWEEP, source, target)

    assert target.read(layout.segment(SWEEP, 1)) == b"other"


def test_a_running_sweep_is_refused(record_sweep: Recorder, target: Storage) -> None:
    sweep = record_sweep()
    sweep.record(
        DriverStarted(
            time=time.time() + 1,
            driver_id="d",
            host=socket.gethostname(),
            pid=os.getpid(),
            boot=boot_id(),
            resumed=True,
        )
    )

    with pytest.raises(SweepOwnedError):
        copy_sweep(SWEEP, sweep.storage, target)

    assert contents(target) == {}


def test_a_sweep_that_is_not_there_is_named(source: Storage, target: Storage) -> None:
    with pytest.raises(NotFoundError, match="no sweep 'none'"):
        copy_sweep("none", source, target)
