"""A laptop that submits a sweep and is gone; then all machines of the cluster are gone; the storage is what is left."""

from __future__ import annotations

import time
from collections import Counter

from tests.cluster.conftest import Cluster, random_sweep
from tests.cluster.machines import Machine

EPOCHS = 10
TRIALS = 8
"""After two, and all that is killed, more than one must be left."""
SWEEP = random_sweep("gone", TRIALS, images=900, tasks=("age", "gender"), epochs=EPOCHS)


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
    waiting = workers(fresh, "IDLE", at_least=2)
    cluster.resume(sweep_id)
    working = workers(fresh, "TrialTrainable", at_least=2)
    summary = cluster.wait(sweep_id, "completed", "failed")

    assert summary["trials"] == {**dict.fromkeys(summary["trials"], 0), "completed": TRIALS}
    events = cluster.events(sweep_id)
    assert events[: len(before)] == before
    numbers = [event["number"] for event in events if event["kind"] == "trial_created"]
    assert sorted(numbers) == list(range(TRIALS)), "no trial is created again under another ID"
    trials = {event["trial_id"] for event in events if event["kind"] == "trial_created"}
    assert Counter(event["trial_id"] for event in events if event["kind"] == "trial_ended") == Counter(trials)
    epochs = Counter((event["trial_id"], event["epoch"]) for event in events if event["kind"] == "trial_reported")
    assert epochs == Counter((trial, epoch) for trial in trials for epoch in range(1, EPOCHS + 1))

    over = {event["trial_id"] for event in before if event["kind"] == "trial_ended"}
    later = [event for event in events[len(before) :] if event["kind"] == "attempt_started"]
    assert {event["node"] for event in later} == {fresh.address}
    assert not over & {event["trial_id"] for event in later}, "what had ended is not trained again"

    assert working <= waiting, "trials begin in processes that were there before"
    assert workers(fresh, "IDLE", at_least=2).isdisjoint(waiting), "others wait for the next sweep"
    cluster.agr(fresh, "cluster", "leave")
    assert not workers(fresh, "", at_least=0)


def workers(machine: Machine, what: str, *, at_least: int) -> set[str]:
    """PIDs of Ray's processes there that call themselves ``ray::`` and then ``what``, once there are so many."""
    until = time.monotonic() + 60
    while True:
        pids = set(machine.run("sh", "-c", f"pgrep -f '^ray::{what}' || true").stdout.split())
        if len(pids) >= at_least:
            return pids
        assert time.monotonic() < until, f"{len(pids)} of {at_least} processes ray::{what} on {machine.name}"
        time.sleep(0.1)
