"""Nodes that nobody uses leave and run their command, once, whatever happens to the driver."""

from __future__ import annotations

import json
import signal
import time

from orchestrator.cluster.idle import LOOK_S
from tests.cluster.conftest import Cluster, random_sweep
from tests.cluster.machines import Machine
from tests.cluster.test_disturbed import kill_driver

SAID = "/tmp/home/said"
TRIALS = 6
SWEEP = random_sweep("idle", TRIALS, images=900)


def said(machine: Machine) -> str:
    """What the machine's commands have written."""
    path = machine.folder / "home" / "said"
    return path.read_text() if path.exists() else ""


def wait_until_said(machine: Machine, timeout_s: float) -> float:
    """Wait for the machine's command; return when it was seen."""
    until = time.monotonic() + timeout_s
    while not said(machine):
        log = machine.folder / "home" / "agr" / "cluster" / "idle.log"
        assert time.monotonic() < until, f"{machine.name} stays: {log.read_text() if log.exists() else 'no watcher'}"
        time.sleep(0.5)
    return time.monotonic()


def kill_driver_for_good(head: Machine) -> None:
    """Kill -9 the process that would start the driver again, and the driver."""
    (pid,) = head.run("pgrep", "-f", "orchestrator.cli.main (drive|resume)").stdout.split()
    keeper = head.run("ps", "-o", "ppid=", "-p", pid).stdout.strip()
    head.run("kill", f"-{int(signal.SIGKILL)}", keeper, pid)


def test_a_node_leaves_when_its_sweep_is_over_and_the_head_when_it_is_alone_and_idle(cluster: Cluster) -> None:
    head = cluster.head("head", "--idle", "20s", "--on-idle", f"echo idle >> {SAID}", cpus=1)
    (node,) = cluster.join("node", cpus=1, options=("--on-end", f"echo end >> {SAID}"))
    sweep_id = cluster.submit(SWEEP)
    cluster.wait_for(sweep_id, "trial_ended", 2)
    kill_driver(head)
    summary = cluster.wait(sweep_id, "completed", "failed", "stopped", timeout_s=300)
    node_left = wait_until_said(node, 60)
    listed = json.loads(cluster.agr(head, "cluster", "status", "--json"))
    assert [each["name"] for each in listed["nodes"] if each["alive"]] == ["head"], (
        "the node has left when its command runs"
    )
    head_left = wait_until_said(head, 90)

    assert summary["trials"] == {**dict.fromkeys(summary["trials"], 0), "completed": TRIALS}
    events = cluster.events(sweep_id)
    assert [event["restart"] for event in events if event["kind"] == "driver_started"] == [0, 1]
    assert not [event for event in events if event["kind"] == "node_left"], "both stay while the sweep runs"
    assert head_left - node_left > 20 - 2 * LOOK_S
    time.sleep(3 * LOOK_S)
    assert (said(node), said(head)) == ("end\n", "idle\n")


def test_a_node_whose_driver_is_killed_for_good_leaves_as_idle_and_not_as_done(cluster: Cluster) -> None:
    head = cluster.head("second-head", cpus=1)
    rules = ("--idle", "60s", "--on-idle", f"echo idle >> {SAID}", "--on-end", f"echo end >> {SAID}")
    (node,) = cluster.join("second-node", cpus=1, options=rules)
    sweep_id = cluster.submit({**SWEEP, "name": "killed", "search": {**SWEEP["search"], "trials": 100}})
    cluster.wait_for(sweep_id, "trial_ended", 2)
    assert said(node) == ""
    kill_driver_for_good(head)
    killed = time.monotonic()
    assert wait_until_said(node, 180) - killed > 60 - 2 * LOOK_S
    assert cluster.status(sweep_id)["status"] == "lost"
    time.sleep(3 * LOOK_S)
    assert said(node) == "idle\n"
