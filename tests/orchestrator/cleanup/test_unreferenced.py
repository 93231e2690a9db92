"""Data sets, splits, stages and weights that no sweep refers to, and races between their removal and a sweep."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agr_core.data.packed.joined import Join, Member
from orchestrator.catalog.ownership import boot_id
from orchestrator.catalog.references import starting
from orchestrator.cleanup.unreferenced import Shared, remove_unreferenced, unreferenced
from orchestrator.errors import SweepOwnedError
from orchestrator.journal.events import DriverStarted, StageRef
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.storage.local import LocalStorage

Recorder = Callable[..., Any]
DATA, SPLIT = "d" * 64, "5" * 64  # what a recorded trial refers to


def digest(character: str) -> str:
    return character * 64


def put_data(storage: Storage, data: str) -> None:
    for name in ("part-0000.parquet", "manifest.json"):
        storage.write(f"{layout.dataset(data)}/{name}", b"x" * 100)


def put_stage(storage: Storage, key: str, weights: str) -> None:
    storage.write(layout.stage_claim(key, 1), b"{}")
    done = {
        "outcome": "completed",
        "owner": "s/t",
        "weights_sha256": weights,
        "epochs": 2,
        "best_epoch": 1,
        "value": 1.0,
    }
    storage.write(layout.stage_done(key), json.dumps(done).encode())
    storage.write(layout.weights(weights), b"w" * 10)


def named(found: list[Shared]) -> set[tuple[str, str]]:
    return {(each.kind, each.digest[0]) for each in found}


def shared_keys(storage: Storage) -> set[str]:
    return {info.key for info in storage.list("") if not info.key.startswith("sweeps/")}


@pytest.fixture
def storage(record_sweep: Recorder) -> Storage:
    """A finished sweep with its data, split, weights and stage, and others to which nothing refers."""
    sweep = record_sweep()
    stage = StageRef(
        id="first",
        key=digest("a"),
        data_uri=f"{sweep.storage.uri}/datasets/{digest('e')}",
        data_digest=digest("e"),
        split_digest=digest("6"),
        weights_sha256=digest("b"),
    )
    sweep.trial(0, [5.0], weights_sha256=digest("c"), stages=(stage,))
    sweep.end()
    store: Storage = sweep.storage
    for data in (DATA, digest("e"), digest("1")):
        put_data(store, data)
    for split in (SPLIT, digest("6"), digest("2")):
        store.write(layout.split(split), b"s")
    for weights in ("b", "c", "3"):
        store.write(layout.weights(digest(weights)), b"w")
    put_stage(store, digest("a"), weights=digest("f"))  # never journalled: its driver died before
    put_stage(store, digest("4"), weights=digest("7"))
    return store


UNREFERENCED = {("datasets", "1"), ("splits", "2"), ("weights", "3"), ("stages", "4"), ("weights", "7")}


def test_what_no_journal_refers_to_is_removed_and_all_else_stays(storage: Storage) -> None:
    before = shared_keys(storage)

    assert named(unreferenced(storage)) == UNREFERENCED
    assert shared_keys(storage) == before
    gone = remove_unreferenced(storage)

    assert named(gone) == UNREFERENCED
    assert shared_keys(storage) == before - {info.key for each in gone for info in each.objects}
    assert unreferenced(storage) == []


def test_the_members_of_a_join_that_a_trial_was_trained_on_stay(record_sweep: Recorder) -> None:
    sweep = record_sweep()
    member = Member("faces", f"{sweep.storage.uri}/{layout.dataset(digest('1'))}", digest("1"))
    join, other = Join((member,), None), Join((Member("others", "x", digest("2")),), None)
    for each in (join, other):
        sweep.storage.write(layout.join(each.digest), each.to_bytes())
        put_data(sweep.storage, each.members[0].digest)
    sweep.trial(0, [5.0], data_digest=join.digest)
    sweep.end()

    found = unreferenced(sweep.storage)

    assert {(each.kind, each.digest) for each in found} == {("joins", other.digest), ("datasets", digest("2"))}


def test_what_people_put_there_under_names_of_their_own_stays(storage: Storage) -> None:
    put_data(storage, "utkface-8k")
    storage.write("weights/efficientnet-lite0.safetensors", b"w")
    assert named(unreferenced(storage)) == UNREFERENCED


def test_nothing_is_removed_while_a_sweep_runs(storage: Storage, record_sweep: Recorder) -> None:
    running = record_sweep("running-20260102-030405-abcd")
    driver = {"driver_id": "1", "host": socket.gethostname(), "boot": boot_id(), "pid": os.getpid()}
    running.record(DriverStarted(time=time.time(), resumed=True, **driver))
    before = shared_keys(storage)
    with pytest.raises(SweepOwnedError, match="is being run by process"):
        remove_unreferenced(storage)
    assert shared_keys(storage) == before


def test_nothing_is_removed_while_a_sweep_starts(storage: Storage) -> None:
    with starting(storage, "next-20260102-030405-abcd"):
        before = shared_keys(storage)
        with pytest.raises(SweepOwnedError, match="next-20260102-030405-abcd is about to start"):
            remove_unreferenced(storage)
        assert shared_keys(storage) == before
    assert named(remove_unreferenced(storage)) == UNREFERENCED


def test_nothing_is_removed_while_a_submission_waits_for_its_driver(storage: Storage, record_sweep: Recorder) -> None:
    storage.write(layout.submission("next-20260102-030405-abcd"), b"{}")
    with pytest.raises(SweepOwnedError, match="is about to start"):
        remove_unreferenced(storage)

    record_sweep("next-20260102-030405-abcd").end()

    assert named(remove_unreferenced(storage)) == UNREFERENCED


class Disturbed(LocalStorage):
    """Lets somebody act once, just before or after an object is removed."""

    def __init__(self, root: str, act: Callable[[], None], *, before: bool) -> None:
        super().__init__(Path(root))
        self.act: Callable[[], None] | None = act
        self.before = before

    def delete(self, key: str) -> None:
        act, self.act = self.act, None
        if act is not None and self.before:
            act()
        super().delete(key)
        if act is not None and not self.before:
            act()


@pytest.mark.parametrize("before", [True, False], ids=["finds it there", "finds it gone"])
def test_what_a_sweep_takes_up_in_the_middle_of_a_removal_is_there_afterwards(storage: Storage, before: bool) -> None:
    """It says that it starts, then looks; the removal had looked before that."""
    seen: list[bool] = []

    def begin() -> None:
        storage.write(layout.start("next-20260102-030405-abcd"), b"{}")
        seen.append(storage.exists(f"{layout.dataset(digest('1'))}/manifest.json"))

    before_it = shared_keys(storage)
    with pytest.raises(SweepOwnedError, match="is about to start"):
        remove_unreferenced(Disturbed(storage.uri, begin, before=before))

    assert seen == [before]
    assert shared_keys(storage) == before_it | {layout.start("next-20260102-030405-abcd")}
    assert storage.read(f"{layout.dataset(digest('1'))}/manifest.json") == b"x" * 100


def test_a_sweep_that_begins_and_ends_in_the_middle_of_a_removal_keeps_its_data(
    storage: Storage, record_sweep: Recorder
) -> None:
    def whole_sweep() -> None:
        sweep = record_sweep("quick-20260102-030405-abcd")
        sweep.trial(0, [5.0], data_digest=digest("1"), split_digest=digest("2"))
        sweep.end()

    before = shared_keys(storage)
    with pytest.raises(SweepOwnedError, match="began meanwhile"):
        remove_unreferenced(Disturbed(storage.uri, whole_sweep, before=True))

    assert shared_keys(storage) == before
    assert ("datasets", "1") not in named(unreferenced(storage))
