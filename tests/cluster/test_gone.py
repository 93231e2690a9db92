"""A laptop that submits a sweep and is gone; then all machines of the cluster are gone; the storage is what is left."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.cluster.conftest import Cluster

EPOCHS = 5
SWEEP: dict[str, Any] = {
    "name": "gone",
    "trial": {
        "data": {"source": "synthetic", "synthetic": {"images": 900, "size": 32}},
        "tasks": ["age", "gender"],
        "image": {"size": 32},
        "batch_size": 60,
        "schedule": {"name": "cosine", "epochs": EPOCHS},
        "model": {"name": "basic_cnn", "conv_layers": 2, "base_features": 8, "hidden": 8},
    },
    "space": {"optimizer": [{"name": "nadam", "lr": {"loguniform": [1.0e-4, 1.0e-2]}}]},
    "search": {"algorithm": "random", "trials": 5, "seed": 7},
    "scheduler": "none",
    "objective": {"metric": "val/age_mae", "direction": "minimize"},
}


def test_a_sweep_outlives_its_laptop_and_all_its_nodes_and_ends_on_a_new_cluster(cluster: Cluster) -> None:
    machines = [cluster.head("head", cpus=1), *cluster.join("node", cpus=1)]
    sweep_id = cluster.submit(SWEEP)
    cluster.laptop.kill()
    cluster.laptop = cluster.network.machine("other-laptop")  # with the token and the credentials, and no files
    cluster.give_token(cluster.laptop)
    cluster.wait_for(sweep_id, "trial_ended", 2)
    for machine in machines:
        machine.kill()
    before = cluster.events(sweep_id)

    fresh = cluster.head("new-head", cpus=2)
    cluster.wait(sweep_id, "lost")
    cluster.resume(sweep_id)
    summary = cluster.wait(sweep_id, "completed", "failed")

    assert summary["trials"] == {**dict.fromkeys(summary["trials"], 0), "completed": 5}
    events = cluster.events(sweep_id)
    assert events[: len(before)] == before
    numbers = [event["number"] for event in events if event["kind"] == "trial_created"]
    assert sorted(numbers) == list(range(5)), "no trial is created again under another ID"
    trials = {event["trial_id"] for event in events if event["kind"] == "trial_created"}
    assert Counter(event["trial_id"] for event in events if event["kind"] == "trial_ended") == Counter(trials)
    epochs = Counter((event["trial_id"], event["epoch"]) for event in events if event["kind"] == "trial_reported")
    assert epochs == Counter((trial, epoch) for trial in trials for epoch in range(1, EPOCHS + 1))

    over = {event["trial_id"] for event in before if event["kind"] == "trial_ended"}
    later = [event for event in events[len(before) :] if event["kind"] == "attempt_started"]
    assert {event["node"] for event in later} == {fresh.address}
    assert not over & {event["trial_id"] for event in later}, "what had ended is not trained again"
