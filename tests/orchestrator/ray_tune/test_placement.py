"""How many trials fit, and how fast free slots get theirs."""

from __future__ import annotations

import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ray.tune import CheckpointConfig, PlacementGroupFactory
from ray.tune.experiment import Trial

sys.path.insert(0, str(Path(__file__).parents[1]))
from orchestrator.ray_tune.adapters import SweepSearch
from orchestrator.ray_tune.needs import Needs
from orchestrator.ray_tune.placement import NearData, Placement, Placements, Slots
from orchestrator.spec.model import ResourcesSpec
from orchestrator.sweep.run import LiveTrial
from orchestrator.worker.job import Job
from tests.parts.sweeps import local, make_run, small_sweep

GB = 10**9


def nodes_with(*resources: dict[str, float], alive: int | None = None) -> list[dict[str, Any]]:
    """What Ray says of nodes with these resources and 64 GB each, of which so many are alive."""
    return [
        {
            "NodeID": str(number),
            "Alive": alive is None or number < alive,
            "NodeManagerAddress": f"10.0.0.{number}",
            "Resources": {"memory": 64.0 * GB, **each},
        }
        for number, each in enumerate(resources)
    ]


def test_nodes_of_different_size_are_counted_each_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    resources = ({"CPU": 3.0, "GPU": 1.0}, {"CPU": 16.0, "GPU": 3.0}, {"CPU": 16.0}, {"CPU": 16.0, "GPU": 8.0})
    monkeypatch.setattr("ray.nodes", lambda: nodes_with(*resources, alive=3))
    assert Slots(Needs(ResourcesSpec(cpus=2, gpus=0.5))).count() == 1 + 6
    assert Slots(Needs(ResourcesSpec(cpus=2))).count() == 1 + 8 + 8
    assert Slots(Needs(ResourcesSpec(cpus=2)), leaving=lambda: {"10.0.0.1"}).count() == 1 + 8
    slots = Slots(Needs(ResourcesSpec(cpus=2)), avoided={"2"})
    assert slots.count() == 1 + 8
    assert slots.fits_elsewhere("0")
    assert not Slots(Needs(ResourcesSpec(cpus=8)), avoided={"2"}).fits_elsewhere("1")


def test_memory_that_keeps_trials_off_a_node_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = nodes_with({"CPU": 8.0, "memory": 5.2 * GB}, {"CPU": 8.0})
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    monkeypatch.setattr("orchestrator.ray_tune.placement.SLOTS_S", -1.0)
    held = [0.0]
    slots = Slots(Needs(ResourcesSpec(), held=lambda: held[0]))
    assert [slots.count() for _ in range(2)] == [5 + 8] * 2
    held[0] = 2.3 * GB
    assert [slots.count() for _ in range(2)] == [2 + 8] * 2
    assert [record.getMessage().split(" To change")[0] for record in caplog.records] == [
        "Concurrent trials on 10.0.0.0: 5 instead of 8. It has 5.2 GB of memory, and each trial requests 1.0 GB.",
        "Concurrent trials on 10.0.0.0: 2 instead of 8. It has 5.2 GB of memory, and each trial requests 2.5 GB.",
    ]
    caplog.clear()
    assert Slots(Needs(ResourcesSpec()), at_most=4).count() == 5 + 8
    assert not caplog.records, "not that many run in any case"


def test_the_absence_of_nodes_is_logged_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    nodes: list[dict[str, Any]] = []
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    monkeypatch.setattr("orchestrator.ray_tune.placement.SLOTS_S", -1.0)
    avoided: set[str] = set()
    slots = Slots(Needs(ResourcesSpec()), avoided=avoided)
    assert slots.count() == 0
    assert not caplog.records, "there was none: the sweep is refused"
    nodes += nodes_with({"CPU": 2.0}, {"CPU": 2.0})
    assert slots.count() == 4
    nodes.pop()
    assert slots.count() == 2
    avoided.add("0")
    assert [slots.count() for _ in range(2)] == [0, 0]
    assert [record.getMessage().split(".")[0] for record in caplog.records] == ["No node can run a trial"]


def test_trials_ask_alike_wherever_they_are_wanted() -> None:
    """Else Tune would not give one the worker of the other, and would start a new one."""
    here, there = Placement({"CPU": 1}, wanted=lambda: "a"), Placement({"CPU": 1}, wanted=lambda: "b")
    assert here == there
    assert hash(here) == hash(there)
    assert here != Placement({"CPU": 1}, avoided={"a"})
    assert pickle.loads(pickle.dumps(here)) == here  # without the lambda, which cannot be pickled


def test_trials_that_ask_for_the_same_share_one_placement() -> None:
    avoided = set[str]()
    placements = Placements(avoided, lambda: None)
    first = placements.of({"CPU": 1.0, "memory": 1e9})
    assert placements.of({"memory": 1e9, "CPU": 1.0}) is first
    assert placements.of({"CPU": 2.0, "memory": 1e9}) != first
    avoided.add("a")
    other = placements.of({"CPU": 1.0, "memory": 1e9})
    assert other == Placement({"CPU": 1.0, "memory": 1e9}, {"a"}) != first
    avoided.clear()
    assert placements.of({"CPU": 1.0, "memory": 1e9}) is first


@pytest.fixture
def three_nodes(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, float]]:
    """Nodes a, b and c with two CPUs each; what is returned is what they have free."""
    free = {node_id: {"CPU": 2.0, "memory": 64.0 * GB} for node_id in "abc"}
    nodes = [
        {"NodeID": node_id, "Alive": True, "NodeManagerAddress": node_id, "Resources": dict(each)}
        for node_id, each in free.items()
    ]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    monkeypatch.setattr("orchestrator.ray_tune.placement.free_resources", lambda: free)
    return free


def near(held: dict[str, set[str]], *needed: str, avoided: set[str] | None = None) -> NearData:
    slots = Slots(Needs(ResourcesSpec()), avoided=avoided or set())
    return NearData(slots, needed=lambda: needed, held=lambda node_id: held.get(node_id, set()))


def test_a_node_that_holds_the_data_is_taken_until_it_is_full(three_nodes: dict[str, dict[str, float]]) -> None:
    found = near({"b": {"faces"}, "c": {"others"}}, "faces")
    assert [found.node() for _ in range(3)] == ["b", "b", None]


def test_the_node_that_holds_most_comes_first(three_nodes: dict[str, dict[str, float]]) -> None:
    found = near({"a": {"faces"}, "c": {"faces", "others"}}, "faces", "others")
    assert [found.node() for _ in range(5)] == ["c", "c", "a", "a", None]


def test_what_others_take_of_a_node_is_not_there(three_nodes: dict[str, dict[str, float]]) -> None:
    three_nodes["b"]["CPU"] = 1.0
    found = near({"b": {"faces"}}, "faces")
    assert [found.node() for _ in range(2)] == ["b", None]


def test_an_avoided_node_is_not_wanted_for_its_data(three_nodes: dict[str, dict[str, float]]) -> None:
    assert near({"b": {"faces"}}, "faces", avoided={"b"}).node() is None


class Cluster:
    """64 slots."""

    def __init__(self) -> None:
        self.slots, self.memory = 64, 1

    def count(self) -> int:
        return self.slots

    def terms(self) -> int:
        return self.memory


def search(tmp_path: Path, *, in_teams: bool = False, cluster: Cluster | None = None) -> SweepSearch:
    sweep = small_sweep(search={"algorithm": "tpe", "trials": 1000, "seed": 1})
    run = make_run(local(tmp_path), sweep)
    run.begin()

    def job(live: LiveTrial) -> Job:
        return Job.of(live.created, run.started, storage="")

    found = SweepSearch(run, cast(Slots, cluster or Cluster()), job, lambda _: Placement({"CPU": 1}), in_teams=in_teams)
    spec: dict[str, Any] = {
        "run": "trainable",
        "resources_per_trial": PlacementGroupFactory([{"CPU": 1}]),
        "checkpoint_config": CheckpointConfig(),
    }
    found.add_configurations(SimpleNamespace(spec=spec, storage=None))
    return found


@pytest.fixture
def no_tune(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials of Tune without a storage and a registered trainable."""
    monkeypatch.setattr("orchestrator.ray_tune.adapters.Trial", lambda run, **given: SimpleNamespace(**given))


def drain(next_trial: Callable[[], Trial | None]) -> int:
    given = 0
    while next_trial() is not None:
        given += 1
    return given


def test_64_free_slots_have_their_trials_within_seconds(tmp_path: Path, no_tune: None) -> None:
    begin = time.monotonic()
    assert drain(search(tmp_path).next_trial) == 128, "twice as many, until all have started once"
    assert time.monotonic() - begin < 20  # about 2 s on an idle machine


def test_trials_are_given_ahead_again_while_workers_of_a_new_node_or_of_another_size_start(
    tmp_path: Path, no_tune: None
) -> None:
    cluster = Cluster()
    cluster.slots = 4
    found = search(tmp_path, cluster=cluster)
    assert drain(found.next_trial) == 8
    found.started(4)
    assert drain(found.next_trial) == 0

    def end(trials: int) -> None:
        for trial_id in list(found._run.live)[:trials]:
            found._run.decisions.end_trial(trial_id, "completed", "")
            found._run.trial_over(trial_id)

    end(5)
    assert drain(found.next_trial) == 1, "four run"
    cluster.slots = 6
    assert drain(found.next_trial) == 8, "a node has joined"
    found.started(6)
    end(7)
    assert drain(found.next_trial) == 1
    cluster.slots, cluster.memory = 3, 2
    end(4)
    assert drain(found.next_trial) == 4, "six of the old size can run beside them for a while"


def test_teams_are_not_given_ahead(tmp_path: Path, no_tune: None) -> None:
    assert drain(search(tmp_path, in_teams=True).next_trial) == 64
