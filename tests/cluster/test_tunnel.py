"""Machines behind NAT: refused as they are, and nodes through the overlay that `infra/cluster` ships.

Two rented machines are each behind a router of their own, with the same private address; the provider forwards a port
to their SSH, and nothing else reaches them. The recipe of infra/README.md is run as it is written: WireGuard (its
userspace program, where the kernel has none), `overlay.py`, and `remote.sh` over a real SSH server.
"""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

import pytest

from tests.cluster.conftest import BIN, Cluster
from tests.cluster.machines import ROOT, Machine, Router
from tests.cluster.ssh import make_key, with_packages, with_ssh

HUB = "10.88.0.1:7379"
BEHIND = ("10.88.0.2", "10.88.0.3")
PYTHON = str(BIN / "python")
OVERLAY = str(ROOT / "infra/cluster/vast/overlay.py")
SYNC = "wg syncconf agr <(wg-quick strip /tmp/home/overlay/hub.conf)"
REMOTE = str(ROOT / "infra/cluster/remote.sh")
SWEEP: dict[str, Any] = {
    "name": "tunnelled",
    "trial": {
        "data": {"source": "synthetic", "synthetic": {"images": 1200, "size": 32}},
        "tasks": ["age", "gender"],
        "image": {"size": 32},
        "batch_size": 60,
        "schedule": {"name": "cosine", "epochs": 4},
        "model": {"name": "basic_cnn", "conv_layers": 2, "base_features": 8, "hidden": 8},
    },
    "space": {"optimizer": [{"name": "nadam", "lr": {"loguniform": [1.0e-4, 1.0e-2]}}]},
    "search": {"algorithm": "random", "trials": 2, "seed": 7},
    "scheduler": "none",
    "objective": {"metric": "val/age_mae", "direction": "minimize"},
}


@pytest.fixture(scope="module")
def hub(cluster: Cluster) -> Machine:
    """The head, with a UDP port that all reach. It drives and does not train."""
    machine = with_wireguard(cluster.network.machine("hub"))
    cluster.give_token(machine)
    machine.run(PYTHON, OVERLAY, "init", "/tmp/home/overlay", f"{machine.address}:51820")
    machine.run("install", "-m", "600", "/tmp/home/overlay/hub.conf", "/etc/wireguard/agr.conf")
    machine.run("wg-quick", "up", "agr")
    cluster.wait_for_mlflow()
    command = (str(ROOT / "infra/cluster/node.sh"), "head", "10.88.0.1", "--cpus", "0")
    machine.run(*command, environment={**cluster.environment, "AGR": str(BIN / "agr")}, timeout_s=300)
    cluster.head_address = "10.88.0.1"
    return machine


@pytest.fixture(scope="module")
def rented(cluster: Cluster, hub: Machine) -> list[tuple[Router, Machine]]:
    """Two machines behind NAT, as their provider hands them over: one forwarded port, and SSH with the laptop's key."""
    key = make_key(cluster.laptop)
    show = ["git", "-C", str(ROOT), "show", "HEAD:pyproject.toml", "HEAD:constraints.txt"]
    sent = subprocess.run(show, check=True, capture_output=True).stdout
    found = []
    for name in ("vast-1", "vast-2"):
        router = cluster.network.router(f"router-of-{name}")
        machine = with_packages(with_wireguard(cluster.network.behind(router, name)), sent)
        router.forward(22)
        with_ssh(machine, key)
        found.append((router, machine))
    return found


def with_wireguard(machine: Machine) -> Machine:
    """Where WireGuard keeps its files and sockets, which must not be the other machines'."""
    machine.run("mkdir", "-p", "/run/wireguard", "/etc/wireguard", "/tmp/home/wireguard")
    machine.run("mount", "-t", "tmpfs", "tmpfs", "/run/wireguard")
    machine.run("mount", "--bind", "/tmp/home/wireguard", "/etc/wireguard")
    return machine


def let_in(cluster: Cluster, hub: Machine, name: str) -> str:
    """Give a machine a place in the overlay; its file, on the laptop."""
    hub.run(PYTHON, OVERLAY, "add", "/tmp/home/overlay", name)
    hub.run("bash", "-c", SYNC)
    file = cluster.laptop.folder / f"home/{name}.conf"
    file.touch(mode=0o600)
    file.write_text((hub.folder / f"home/overlay/{name}.conf").read_text())
    return f"/tmp/home/{name}.conf"


def remote(cluster: Cluster, *arguments: str) -> str:
    """What `remote.sh` says, on the laptop."""
    options = "-i /tmp/home/key -o UserKnownHostsFile=/tmp/home/known_hosts"
    done = cluster.laptop.run(REMOTE, *arguments, environment={"AGR_SSH_OPTIONS": options}, timeout_s=300)
    return done.stdout + done.stderr


def test_behind_nat_a_machine_is_refused_within_10_s_and_told_of_the_tunnel(
    cluster: Cluster, hub: Machine, rented: list[tuple[Router, Machine]]
) -> None:
    _, machine = rented[0]
    cluster.give_token(machine)
    begun = time.monotonic()
    said = cluster.agr(machine, "cluster", "join", f"{hub.address}:7379", "--cpus", "1", code=2)
    assert time.monotonic() - begun < 10
    assert f"cannot reach this machine: {machine.address}:6380" in said
    assert "joins through a tunnel" in said


def test_through_the_overlay_they_are_nodes_and_train_what_the_laptop_submits(
    cluster: Cluster, hub: Machine, rented: list[tuple[Router, Machine]]
) -> None:
    secrets = cluster.laptop.folder / "home/node.env"
    secrets.touch(mode=0o600)
    told = {**cluster.environment, "RAY_AUTH_TOKEN": cluster.token, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    secrets.write_text("".join(f"{name}={value}\n" for name, value in told.items()))
    for router, machine in rented:
        overlay = let_in(cluster, hub, machine.name)
        remote(cluster, "join", "/tmp/home/node.env", HUB, f"root@{router.address}:22", overlay)
    with_wireguard(cluster.laptop).run("wg-quick", "up", let_in(cluster, hub, "laptop"))

    sweep_id = cluster.submit(SWEEP)
    summary = cluster.wait(sweep_id, "completed", "failed")  # fails if one of them cannot write to the storage
    assert summary["trials"]["completed"] == SWEEP["search"]["trials"]
    assert {event["node"] for event in cluster.events(sweep_id) if event["kind"] == "attempt_started"} <= set(BEHIND)
    nodes = json.loads(cluster.agr(cluster.laptop, "cluster", "status", "--address", HUB, "--json"))["nodes"]
    assert {node["host"] for node in nodes if node["alive"]} == {"10.88.0.1", *BEHIND}


def test_who_leaves_has_no_secret_left_and_is_unknown_to_the_overlay(
    cluster: Cluster, hub: Machine, rented: list[tuple[Router, Machine]]
) -> None:
    for router, machine in rented:
        remote(cluster, "leave", f"root@{router.address}:22")
        hub.run(PYTHON, OVERLAY, "remove", "/tmp/home/overlay", machine.name)
        hub.run("bash", "-c", SYNC)
        home = machine.folder / "home"
        assert not (home / ".agr/node.env").exists()
        assert not (home / ".ray/auth_token").exists()
        assert list((home / "wireguard").iterdir()) == []
        assert machine.run("ip", "-brief", "address", "show").stdout.count("10.88.0.") == 0
    assert len(hub.run("wg", "show", "agr", "peers").stdout.split()) == 1, "the laptop is left"
