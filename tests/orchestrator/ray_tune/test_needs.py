"""What trials ask of Ray, and how much memory of which the sweep does not speak."""

from __future__ import annotations

import pytest

from orchestrator.ray_tune.needs import Needs, fitting, step_above
from orchestrator.spec.model import ResourcesSpec

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


def node(cpus: float, memory: float, gpus: float = 0) -> dict[str, float]:
    return {"CPU": cpus, "memory": memory * GB, "GPU": gpus}


class Sweep:
    """Trials of a sweep that is silent about memory, and what they were seen to hold (GB)."""

    def __init__(self, *, processes: int = 1, **resources: float) -> None:
        self.held = 0.0
        spec = ResourcesSpec.model_validate(resources)
        self.needs = Needs(spec, processes=processes, held=lambda: self.held * GB)

    def asks(self, *nodes: dict[str, float]) -> float:
        """Memory (GB) that trials ask for on these nodes."""
        self.needs.learn(nodes)
        return self.needs.of_any()["memory"] / GB


def test_what_the_sweep_says_is_what_trials_ask_for_whatever_they_hold() -> None:
    sweep = Sweep(cpus=2, gpus=0.5, memory=2 * GB)
    sweep.held = 5
    assert sweep.asks(node(64, 8, 1)) == 2
    assert sweep.needs.of("any") == {"CPU": 2, "GPU": 0.5, "memory": 2 * GB}
    assert not sweep.needs.give_more("any")
    assert sweep.needs.kept_off(node(64, 2, 4)) == 0, "it is the user who keeps them off"


def test_a_process_is_given_a_gigabyte_until_more_is_known() -> None:
    assert Sweep().asks(node(8, 64)) == 1
    assert Sweep(processes=4).asks(node(8, 64)) == 4


@pytest.mark.parametrize(("held", "asked"), [(0.4, 1), (1, 1), (1.1, 1.25), (1.6, 1.75), (2.9, 3), (3.6, 4), (5.5, 6)])
def test_trials_ask_for_what_they_hold_where_a_node_would_run_too_many(held: float, asked: float) -> None:
    sweep = Sweep()
    assert sweep.asks(node(16, 16)) == 1
    sweep.held = held
    assert sweep.asks(node(16, 16)) == asked
    assert fitting(sweep.needs.of_any(), node(16, 16)) * held <= 16


def test_trials_keep_their_workers_where_there_is_memory_enough() -> None:
    sweep = Sweep(gpus=1)
    sweep.held = 5
    assert sweep.asks(node(32, 200, 8)) == 1, "eight trials of 5 GB fit"
    assert sweep.asks(node(32, 200, 8), node(32, 24, 8)) == 5, "a smaller node has joined"


def test_one_trial_runs_on_a_node_that_has_less_than_it_holds_and_no_node_has_more() -> None:
    sweep = Sweep(gpus=1)
    head = node(8, 64)  # no trial can run there, so its memory does not matter
    assert sweep.asks(head, node(8, 0.6, 2)) == 0.6
    sweep.held = 30
    assert sweep.asks(head, node(8, 16, 2)) == 16
    assert fitting(sweep.needs.of_any(), node(8, 16, 2)) == 1
    assert sweep.asks(head, node(8, 16, 2), node(8, 40, 2)) == 32  # 30 and up to a quarter more
    assert sweep.asks(head, node(8, 16, 2)) == 16, "the larger one has left"
    assert sweep.asks() == 16, "all have left: nothing is known of the next one"


def test_a_trial_that_ran_out_of_memory_asks_for_twice_as_much_until_it_has_a_node_to_itself() -> None:
    sweep = Sweep()
    sweep.asks(node(8, 5))
    asked = []
    while sweep.needs.give_more("a"):
        asked.append(sweep.needs.of("a")["memory"] / GB)
    assert asked == [2, 4, 5]
    assert sweep.needs.of("b")["memory"] == GB, "other trials may be smaller"
    sweep.held = 3
    assert sweep.asks(node(8, 5)) == 3
    assert sweep.needs.of("a")["memory"] == 5 * GB


def test_a_node_tells_how_many_trials_memory_keeps_off() -> None:
    sweep = Sweep(cpus=2)
    sweep.asks(node(16, 5))
    assert sweep.needs.kept_off(node(16, 5)) == 3
    assert sweep.needs.kept_off(node(16, 9)) == 0


def test_there_are_four_steps_to_each_doubling() -> None:
    steps = sorted({step_above(hundredth * GB / 100) / GB for hundredth in range(1601)})
    assert steps == [1, 1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 10, 12, 14, 16]
    assert all(step_above(step * GB) == step * GB for step in steps)
