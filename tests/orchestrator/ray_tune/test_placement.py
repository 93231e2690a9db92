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
from orchestrator.ray_tune.placement import NearData, Placement, Slots, bundle, crowded, fitting
from orchestrator.ray_tune.trainable import Job
from orchestrator.spec.model import ResourcesSpec
from orchestrator.sweep_run import LiveTrial
from sweeps import local, make_run, small_sweep

GB = 10**9


@pytest.mark.parametrize(
    ("trial", "node", "fit"),
    [
        ({"CPU": 1}, {"CPU": 4}, 4),
        ({"CPU": 0.5}, {"CPU": 1}, 2),
        ({"CPU": 1}, {}, 0),
        ({"CPU": 1, "GPU": 0.25}, {"CPU": 64, "GPU": 2}, 8),
        ({"CPU": 1, "GPU": 0.4}, {"CPU": 64, "GPU": 2}, 4),  # not 5: a trial does not use two GPUs
        ({"CPU": 1, "GPU": 2}, {"CPU": 64, "GPU": 5}, 2),
        ({"CPU": 4, "GPU": 1}, {"CPU": 8, "GPU": 4}, 2),
        ({"CPU": 1, "memory": 6 * GB}, {"CPU": 8, "memory": 20 * GB}, 3),
        ({"CPU": 1, "memory": 6 * GB}, {"CPU": 2, "memory": 20 * GB}, 2),
        ({"CPU": 1, "memory": 6 * GB}, {"CPU": 8, "memory": 5 * GB}, 0),
    ],
)
def test_a_node_holds_what_fits_every_resource(trial: dict[str, float], node: dict[str, float], fit: int) -> None:
    assert fitting(trial, node) == fit


def test_nodes_are_crowded_where_trials_have_less_than_one_takes_and_do_not_say_what_that_is() -> None:
    def node(address: str, cpus: float, memory: float, *, alive: bool = True) -> dict[str, Any]:
        resources = {"CPU": cpus, "memory": memory}
        return {"NodeManagerAddress": address, "Alive": alive, "Resources": resources}

    nodes = [node("a", 64, 20 * GB), node("b", 2, 1.5 * GB), node("c", 4, 16 * GB), node("d", 64, GB, alive=False)]

    assert list(crowded({"CPU": 1}, nodes, at_most=None)) == [("a", 64, 20 * GB / 64), ("b", 2, 0.75 * GB)]
    assert list(crowded({"CPU": 1}, nodes, at_most=10)) == [("b", 2, 0.75 * GB)]
    assert list(crowded({"CPU": 1, "memory": 2 * GB}, nodes, at_most=None)) == []


def test_nodes_of_different_size_are_counted_each_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    resources = ({"CPU": 3.0, "GPU": 1.0}, {"CPU": 16.0, "GPU": 3.0}, {"CPU": 16.0}, {"CPU": 16.0, "GPU": 8.0})
    nodes = [
        {"NodeID": str(number), "Alive": number < 3, "NodeManagerAddress": f"10.0.0.{number}", "Resources": each}
        for number, each in enumerate(resources)
    ]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    assert Slots(bundle(ResourcesSpec(cpus=2, gpus=0.5))).count() == 1 + 6
    assert Slots(bundle(ResourcesSpec(cpus=2))).count() == 1 + 8 + 8
    assert Slots(bundle(ResourcesSpec(cpus=2)), leaving=lambda: {"10.0.0.1"}).count() == 1 + 8
    slots = Slots(bundle(ResourcesSpec(cpus=2)), avoided={"2"})
    assert slots.count() == 1 + 8
    assert slots.fits_elsewhere("0")
    assert not Slots(bundle(ResourcesSpec(cpus=8)), avoided={"2"}).fits_elsewhere("1")
    assert bundle(ResourcesSpec(cpus=2, memory=GB)) == {"CPU": 2, "memory": GB}


def test_trials_ask_alike_wherever_they_are_wanted() -> None:
    """Else Tune would not give one the worker of the other, and would start a new one."""
    here, there = Placement({"CPU": 1}, wanted=lambda: "a"), Placement({"CPU": 1}, wanted=lambda: "b")
    assert here == there
    assert hash(here) == hash(there)
    assert here != Placement({"CPU": 1}, avoided={"a"})
    assert pickle.loads(pickle.dumps(here)) == here  # without the lambda, which cannot be pickled


@pytest.fixture
def three_nodes(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, float]]:
    """Nodes a, b and c with two CPUs each; what is returned is what they have free."""
    free = {node_id: {"CPU": 2.0} for node_id in "abc"}
    nodes = [
        {"NodeID": node_id, "Alive": True, "NodeManagerAddress": node_id, "Resources": {"CPU": 2.0}} for node_id in free
    ]
    monkeypatch.setattr("ray.nodes", lambda: nodes)
    state = SimpleNamespace(available_resources_per_node=lambda: free)
    monkeypatch.setattr("orchestrator.ray_tune.placement._state", state)
    return free


def near(held: dict[str, set[str]], *needed: str, avoided: set[str] | None = None) -> NearData:
    slots = Slots({"CPU": 1}, avoided=avoided or set())
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

    def count(self) -> int:
        return 64


def search(tmp_path: Path, *, in_teams: bool = False) -> SweepSearch:
    sweep = small_sweep(search={"algorithm": "tpe", "trials": 1000, "seed": 1})
    run = make_run(local(tmp_path), sweep)
    run.begin()

    def job(live: LiveTrial) -> Job:
        return Job.of(live.created, run.started, storage="")

    found = SweepSearch(run, cast(Slots, Cluster()), job, lambda: Placement({"CPU": 1}), in_teams=in_teams)
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


def test_teams_are_not_given_ahead(tmp_path: Path, no_tune: None) -> None:
    assert drain(search(tmp_path, in_teams=True).next_trial) == 64
