"""How many measurements of ``agr check`` run at once, and which are repeated; Ray itself is replaced."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import OutOfMemoryError

from orchestrator.ray_tune import check as checking
from orchestrator.ray_tune.check import Kind, check, request
from orchestrator.spec.model import ResourcesSpec

NODE = Kind("4 cores, 9 GB", "node-1", {"CPU": 4.0, "memory": 9e9}, 1)
OTHER = Kind("2 cores, 9 GB", "node-2", {"CPU": 2.0, "memory": 9e9}, 1)


class FakeRay:
    """Ends measurements in the order in which they were started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.running: dict[int, Any] = {}
        self.started: list[Any] = []
        self.most: dict[str, int] = {}
        self.crowded: set[tuple[int, bool]] = set()
        self.speeds = [10.0] * 20
        monkeypatch.setattr(checking, "_start", self.start)
        monkeypatch.setattr(checking, "ray", self)

    def start(self, _: Any, __: Any, each: Any) -> int:
        self.started.append(each)
        self.running[len(self.started)] = each
        at_once = sum(other.kind is each.kind for other in self.running.values())
        self.most[each.kind.name] = max(at_once, self.most.get(each.kind.name, 0))
        return len(self.started)

    def wait(self, waiting: list[int], *, num_returns: int) -> tuple[list[int], list[int]]:
        assert num_returns == 1
        del self.running[min(self.running)]
        return [min(waiting)], waiting

    def get(self, number: int) -> Any:
        each = self.started[number - 1]
        if (each.index, each.alone) in self.crowded:
            raise OutOfMemoryError("Task was killed due to the node running low on memory.")
        return SimpleNamespace(main_gb=1.0, images_per_s=self.speeds[number - 1])


def jobs(number: int, *, processes: int) -> Any:
    return [SimpleNamespace(config={"compute": {"processes": processes}})] * number


def test_no_more_teams_are_started_than_fit_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(monkeypatch)
    results = check(jobs(5, processes=2), ResourcesSpec(cpus=2), [NODE, OTHER], done=lambda _: None)
    assert ray.most == {NODE.name: 2, OTHER.name: 1}
    assert [(result.kind.name, result.index) for result in results] == [
        (kind.name, index) for kind in (NODE, OTHER) for index in range(5)
    ]


def test_as_many_run_beside_each_other_as_trials_of_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(monkeypatch)
    check(jobs(5, processes=1), ResourcesSpec(cpus=2), [NODE], done=lambda _: None)
    assert ray.most == {NODE.name: 2}
    for concurrency in (1, "25%"):
        ray = FakeRay(monkeypatch)
        check(jobs(5, processes=1), ResourcesSpec(cpus=1), [NODE], concurrency=concurrency, done=lambda _: None)
        assert ray.most == {NODE.name: 1}


def test_copies_fill_a_node_and_the_median_of_them_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = FakeRay(monkeypatch)
    ray.speeds = [30.0, 9.0, 10.0, 20.0]
    told: list[Any] = []
    results = check(jobs(2, processes=1), ResourcesSpec(cpus=0.66), [OTHER], done=told.append)
    assert [each.index for each in ray.started] == [0, 1, 0], "three trials of two thirds of a core share two cores"
    assert [result.measured.images_per_s for result in results if result.measured] == [10.0, 9.0]
    assert [result.index for result in told] == [1, 0], "each is told once, with its last copy"

    ray = FakeRay(monkeypatch)
    ray.speeds = [30.0, 10.0, 20.0]
    (only,) = check(jobs(1, processes=1), ResourcesSpec(cpus=0.66), [OTHER], done=lambda _: None)
    assert only.measured is not None
    assert only.measured.images_per_s == 20.0

    ray = FakeRay(monkeypatch)
    ray.crowded = {(0, False), (0, True)}
    (only,) = check(jobs(1, processes=1), ResourcesSpec(cpus=1), [OTHER], done=lambda _: None)
    assert only.lacks == "main memory"


@pytest.mark.parametrize("processes", [1, 2])
def test_one_that_others_crowd_out_is_measured_again_alone_and_once(
    processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = FakeRay(monkeypatch)
    ray.crowded = {(0, False), (1, False), (1, True)}
    results = check(jobs(3, processes=processes), ResourcesSpec(cpus=2), [NODE], done=lambda _: None)
    assert sorted((each.index, each.alone) for each in ray.started) == [
        (0, False), (0, True), (1, False), (1, True), (2, False),
    ]  # fmt: skip
    assert [result.lacks for result in results] == ["", "main memory", ""], "alone, the node is too small for it"


def test_a_team_asks_for_the_memory_of_all_its_processes() -> None:
    assert request(ResourcesSpec(cpus=2), 3) == {"CPU": 2.0, "memory": 3e9}
    assert request(ResourcesSpec(cpus=2, memory=5 * 10**8), 3)["memory"] == 5e8
