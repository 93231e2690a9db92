"""A budget in dollars on two nodes with prices: where it ends, what is shown, and how it goes on.

What was spent is computed here from the times at which nodes joined and left and from their prices alone.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.conftest import Cluster, random_sweep
from tests.cluster.test_disturbed import kill_driver

PRICES = {"head": 0.36, "node": 0.18}
"""Dollars an hour; a cent lasts 67 seconds."""
BUDGET = 0.01
TRIALS = 80
SWEEP = random_sweep("price", TRIALS, budget={"usd": BUDGET})


def by_hand(events: list[dict[str, Any]]) -> float:
    """Dollars of the seconds from each node's first join to its leave, or to the sweep's last end."""
    joined: dict[str, tuple[float, float]] = {}
    left: dict[str, float] = {}
    for event in events:
        if event["kind"] == "node_joined":
            joined.setdefault(event["node_id"], (event["time"], event["usd_per_hour"]))
        elif event["kind"] == "node_left":
            left[event["node_id"]] = event["time"]
    (end,) = (event["time"] for event in events if event["kind"] == "sweep_ended")
    return sum((left.get(node, end) - since) * price / 3600 for node, (since, price) in joined.items())


@pytest.fixture(scope="module")
def sweep_id(cluster: Cluster) -> str:
    """The sweep, with its driver killed in between, at the end of its money."""
    head = cluster.head("head", "--usd-per-hour", str(PRICES["head"]), cpus=1)
    cluster.join("node", cpus=1, options=("--usd-per-hour", str(PRICES["node"])))
    sweep_id = cluster.submit(SWEEP)
    cluster.wait_for(sweep_id, "trial_ended", 2)
    kill_driver(head)
    cluster.wait(sweep_id, "completed", "failed", "stopped", timeout_s=300)
    return sweep_id


def test_it_ends_within_a_tenth_of_its_budget_and_says_what_it_spent(cluster: Cluster, sweep_id: str) -> None:
    events = cluster.events(sweep_id)
    assert [event["restart"] for event in events if event["kind"] == "driver_started"] == [0, 1]
    assert sorted({event["usd_per_hour"] for event in events if event["kind"] == "node_joined"}) == sorted(
        PRICES.values()
    )
    summary = cluster.status(sweep_id)
    assert summary["status"] == "completed"
    assert summary["spent"]["usd"] == pytest.approx(by_hand(events), rel=0.01)
    assert summary["spent"]["usd"] == pytest.approx(BUDGET, rel=0.1)
    assert summary["trials"]["completed"] < TRIALS
    assert summary["trials"]["failed"] == 0


def test_with_more_money_it_goes_on_to_its_last_trial(cluster: Cluster, sweep_id: str) -> None:
    before = cluster.status(sweep_id)
    cluster.agr(cluster.laptop, "extend", sweep_id, "--usd", "1", "--address", cluster.url, "--detach")
    cluster.wait_for(sweep_id, "trial_ended", TRIALS, timeout_s=300)
    summary = cluster.wait(sweep_id, "completed", "failed")

    assert summary["trials"] == {**dict.fromkeys(summary["trials"], 0), "completed": TRIALS}
    spent = summary["spent"]["usd"]
    assert before["spent"]["usd"] < spent < BUDGET + 1
    events = cluster.events(sweep_id)
    created = [event["trial_id"] for event in events if event["kind"] == "trial_created"]
    assert len(set(created)) == len(created) == TRIALS
