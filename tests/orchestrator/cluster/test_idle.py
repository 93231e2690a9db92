"""Nodes that nobody uses leave once, and run their command once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from agr_core.errors import InputError
from orchestrator.cluster import idle
from orchestrator.cluster import node as node_module
from orchestrator.cluster.gcs import Node
from orchestrator.cluster.idle import IdleRule, IdleWatch, is_free, leave_once, watch
from orchestrator.cluster.node import Started
from orchestrator.errors import ClusterError
from orchestrator.settings import Settings


def test_a_node_leaves_when_no_trial_has_held_it_for_so_long() -> None:
    watcher = IdleWatch(IdleRule(idle_s=60, on_idle="true"))
    assert watcher.look(0, free=True, sweeps={}) is None
    assert watcher.look(59, free=True, sweeps={}) is None
    assert watcher.look(61, free=False, sweeps={"s": False}) is None, "a trial runs"
    assert watcher.look(70, free=True, sweeps={"s": False}) is None
    assert watcher.look(129, free=True, sweeps={"s": False}) is None
    assert watcher.look(130, free=True, sweeps={"s": False}) == "idle", "also where the driver was killed"


def test_a_node_leaves_when_every_sweep_that_it_joined_for_is_over() -> None:
    watcher = IdleWatch(IdleRule(on_end="true"))
    assert watcher.look(0, free=True, sweeps={"before": True}) is None, "it was over before"
    assert watcher.look(5, free=False, sweeps={"before": True, "s": False}) is None
    assert watcher.look(9, free=True, sweeps={"before": True, "s": False, "t": False}) is None
    assert watcher.look(10, free=True, sweeps={"before": True, "s": True, "t": False}) is None
    assert watcher.look(15, free=False, sweeps={"s": True, "t": True}) is None, "the test part is read"
    assert watcher.look(20, free=True, sweeps={"s": True, "t": True}) == "end"


def test_without_a_rule_a_node_stays() -> None:
    watcher = IdleWatch(IdleRule())
    assert watcher.look(0, free=True, sweeps={"s": False}) is None
    assert watcher.look(10**9, free=True, sweeps={"s": True}) is None


def test_the_command_runs_once_after_the_node_has_left(tmp_path: Path) -> None:
    said = tmp_path / "said"
    rule = IdleRule(idle_s=1, on_idle=f"echo destroyed >> {said}", on_end="false")

    def leave() -> None:
        said.write_text("left\n", encoding="utf-8")

    assert leave_once(tmp_path, "m1", "idle", rule, leave)
    assert not leave_once(tmp_path, "m1", "idle", rule, leave), "a second watcher, or one after a restart"
    assert said.read_text(encoding="utf-8") == "left\ndestroyed\n"
    assert leave_once(tmp_path, "m2", "idle", rule, leave), "the machine joined again"


def test_a_head_is_free_only_when_it_is_alone() -> None:
    def node(node_id: str, *, alive: bool = True, free: float = 4.0) -> Node:
        resources = {"CPU": 4.0}
        return Node(node_id, "h", "n", alive, node_id == "head", False, {}, resources, {"CPU": free})

    def started(node_id: str) -> Started:
        return Started(address="h:1", host="h", port=1, is_head=node_id == "head", mark="m", node_id=node_id, warm=0)

    assert is_free(started("a"), [node("head"), node("a")])
    assert not is_free(started("a"), [node("head"), node("a", free=3.0)])
    assert not is_free(started("head"), [node("head"), node("a")])
    assert is_free(started("head"), [node("head"), node("a", alive=False)])


def test_a_command_without_a_time_is_refused() -> None:
    with pytest.raises(InputError, match="--on-idle needs --idle"):
        IdleRule(on_idle="true").check()


@pytest.fixture
def joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A machine that joined with a rule, and whose Ray ends at the watcher's second look, with its head."""
    monkeypatch.setenv("AGR_HOME", str(tmp_path))
    settings = Settings.from_environment()
    node = Started(address="h:1", host="n", port=1, is_head=False, mark="m", node_id="a", warm=0)
    folder = tmp_path / "cluster"
    folder.mkdir()
    (folder / "node.json").write_text(json.dumps(asdict(node)), encoding="utf-8")
    rule = IdleRule(idle_s=60, on_idle=f"echo destroyed >> {tmp_path}/said", on_end="false")
    (folder / "idle.json").write_text(json.dumps(asdict(rule)), encoding="utf-8")
    looks = iter([[object()], [object()]])
    monkeypatch.setattr(node_module, "_processes", lambda _: next(looks, []))

    def unreachable(address: str) -> None:
        raise ClusterError(f"nothing answers at {address}")

    monkeypatch.setattr(idle, "Gcs", unreachable)
    return settings


class Sleeper:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.at: dict[float, Callable[[], None]] = {}

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert self.now < 1000, "the watcher does not end"
        self.now += seconds
        for due in [due for due in self.at if due <= self.now]:
            self.at.pop(due)()


def test_a_node_whose_ray_ended_with_its_head_is_idle_and_runs_its_command(
    joined: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle, "time", sleeper := Sleeper())
    said: list[str] = []
    watch(joined, say=said.append)
    assert (joined.home / "said").read_text(encoding="utf-8") == "destroyed\n"
    assert 60 <= sleeper.now <= 70
    assert sum("without `agr cluster leave`" in line for line in said) == 1


@pytest.mark.parametrize("what", ["leaves", "joins again"])
def test_a_node_that_left_by_hand_or_joined_again_does_not_run_it(
    what: str, joined: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle, "time", sleeper := Sleeper())
    record = joined.home / "cluster" / "node.json"
    again = record.read_text(encoding="utf-8").replace('"m"', '"m2"')
    sleeper.at[30] = record.unlink if what == "leaves" else lambda: record.write_text(again, encoding="utf-8") and None
    watch(joined, say=lambda _: None)
    assert not (joined.home / "said").exists()
    assert sleeper.now <= 35
