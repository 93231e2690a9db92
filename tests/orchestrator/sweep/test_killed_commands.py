"""After a command, the driver is killed before each of its next writes in turn: the histories stay the same.

What a killed driver leaves behind is its storage, so two kills between which nothing is written are one case.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.catalog import control
from orchestrator.simulation.memory_storage import MemoryStorage
from orchestrator.simulation.world import Killed
from tests.parts.one_worker import ORDERS, SWEEP, Worker, a_sweep, histories

EPOCHS_AFTER = 9
"""Epochs after the command in which the driver may be killed: the running trial ends, and another begins."""


class Store(MemoryStorage):
    """A store that counts writes, and whose driver is killed instead of one of them."""

    writes = 0
    last: int | None = None
    """Number of writes after which the driver is killed."""

    def write(self, key: str, data: bytes) -> None:
        if self.writes == self.last:
            raise Killed(key)
        self.writes += 1
        super().write(key, data)


def commanded(path: Path, order: Callable[[Worker], tuple[str, dict[str, Any]]]) -> tuple[Worker, Store]:
    """Return a sweep in mid-trial that has been sent a command at which no driver has looked."""
    stores: list[Store] = []

    def client(clock: Callable[[], float]) -> Store:
        stores[:] = stores or [Store(clock)]
        return stores[0]

    worker = Worker(path, a_sweep(), client=client)
    worker.train_into_a_trial()
    name, arguments = order(worker)
    control.send(stores[0], SWEEP, name, arguments)
    return worker, stores[0]


def go_on(worker: Worker) -> None:
    """Let the driver obey, and train until the running trial has ended and another has begun."""
    worker.look()
    for _ in range(EPOCHS_AFTER):
        worker.train(1)
        worker.look()


def to_the_end(worker: Worker, store: Store) -> list[Any]:
    """Train the rest, and return the histories of all trials."""
    worker.look()
    worker.train()
    assert worker.run.starting.over
    assert worker.run.end("completed").status == "completed"
    return histories(store)


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_driver_killed_between_any_two_writes_after_a_command_changes_nothing(
    tmp_path: Path, order: Callable[[Worker], tuple[str, dict[str, Any]]]
) -> None:
    worker, store = commanded(tmp_path, order)
    before = store.writes
    go_on(worker)
    after = store.writes
    if worker.run.standing.steering.paused:
        control.send(store, SWEEP, "resume")
    undisturbed = to_the_end(worker, store)
    assert after - before >= 4, "the command, the end of a trial, and the summary after each"

    for last in range(before, after):
        worker, store = commanded(tmp_path, order)
        store.last = last
        with pytest.raises(Killed):
            go_on(worker)
        store.last = None
        worker.killed()
        assert to_the_end(worker, store) == undisturbed, f"killed after {last - before} of {after - before} writes"
