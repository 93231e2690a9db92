"""`ray up` on machines reached by SSH, and its teardown: what the first lines of `infra/cluster/ray-up.yaml` tell."""

from __future__ import annotations

import json
import re
import secrets
import time
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.cluster.conftest import BIN
from tests.cluster.machines import ROOT, Machine, Network
from tests.cluster.ssh import make_key, with_packages, with_ssh

RECIPE = ROOT / "infra/cluster/ray-up.yaml"
TOKEN = secrets.token_hex(32)
LAUNCHER = "ray.autoscaler._private.monitor"


@pytest.fixture(scope="module")
def laptop(network: Network) -> Machine:
    return network.machine("laptop")


@pytest.fixture(scope="module")
def head_and_node(network: Network, laptop: Machine) -> tuple[Machine, Machine]:
    """Two machines that let the laptop in, with the packages and without `agr` itself."""
    key = make_key(laptop)
    asked = (ROOT / "pyproject.toml").read_bytes() + (ROOT / "constraints.txt").read_bytes()
    head, node = (with_ssh(with_packages(network.machine(name), asked), key) for name in ("head", "node"))
    return head, node


@pytest.fixture(scope="module")
def started(laptop: Machine, head_and_node: tuple[Machine, Machine]) -> set[str]:
    """Addresses of the nodes that are up after `ray up` and what follows it."""
    node_env = laptop.folder / "home/node.env"
    node_env.touch(mode=0o600)
    # What was brought there is what runs: the packages' own `agr` is the one of this checkout.
    node_env.write_text(f"RAY_AUTH_TOKEN={TOKEN}\nPYTHONPATH=/tmp/home/agr\nOMP_NUM_THREADS=1\n")
    fill_in(laptop.folder / "home/ray-up.yaml", *head_and_node)
    head, _ = head_and_node
    options = ("--yes", "--disable-usage-stats", "/tmp/home/ray-up.yaml")
    said = laptop.run("env", "-C", str(ROOT), str(BIN / "ray"), "up", *options, timeout_s=300).stdout
    until = time.monotonic() + 120
    while len(found := nodes(laptop, head)) < 2:
        assert time.monotonic() < until, f"{found} after:\n{said}\n{launcher_said(head)}"
        time.sleep(2)
    return found


def fill_in(path: Path, head: Machine, node: Machine) -> None:
    """The recipe with one's own addresses, user and key."""
    recipe: dict[str, Any] = YAML(typ="safe").load(RECIPE)
    recipe["provider"] |= {"head_ip": head.address, "worker_ips": [node.address]}
    recipe |= {"min_workers": 1, "max_workers": 1, "auth": {"ssh_user": "root", "ssh_private_key": "/tmp/home/key"}}
    recipe["file_mounts"]["~/.agr/node.env"] = "/tmp/home/node.env"
    YAML(typ="safe").dump(recipe, path)


def nodes(laptop: Machine, head: Machine) -> set[str]:
    command = (str(BIN / "agr"), "cluster", "status", "--address", f"{head.address}:7379", "--json")
    summary = json.loads(laptop.run(*command, environment={"RAY_AUTH_TOKEN": TOKEN}).stdout)
    return {node["host"] for node in summary["nodes"] if node["alive"]}


def launcher_said(head: Machine) -> str:
    return head.run("bash", "-c", "cat /tmp/ray/session_*/logs/agr-launcher.log").stdout


def running(machine: Machine) -> list[str]:
    """Command lines of what Ray runs there, or `agr`."""
    lines = machine.run("ps", "-eo", "args").stdout.splitlines()
    return [line for line in lines if line.startswith("ray") or re.search(r"\bray[./]|/bin/agr", line)]


def remote(laptop: Machine, *arguments: str) -> None:
    options = "-i /tmp/home/key -o UserKnownHostsFile=/tmp/home/known_hosts"
    script = str(ROOT / "infra/cluster/remote.sh")
    laptop.run(script, *arguments, environment={"AGR_SSH_OPTIONS": options}, timeout_s=120)


def test_the_head_is_set_up_from_here_and_the_node_from_the_head(
    started: set[str], head_and_node: tuple[Machine, Machine]
) -> None:
    assert started == {machine.address for machine in head_and_node}
    assert sum(LAUNCHER in line for line in running(head_and_node[0])) == 1
    for machine in head_and_node:
        assert (machine.folder / "home/.agr/node.env").stat().st_mode & 0o777 == 0o600
        assert not (machine.folder / "home/agr/tests").exists(), "only what is installed is brought there"


def test_torn_down_nothing_runs_and_no_secret_is_left(
    started: set[str], laptop: Machine, head_and_node: tuple[Machine, Machine]
) -> None:
    head, node = head_and_node
    for machine in (node, head):
        remote(laptop, "leave", f"root@{machine.address}")
        assert running(machine) == []
        assert machine.run("grep", "-rlF", TOKEN, "/tmp", code=1).stdout == "", "neither in a file nor in a log"
    left = {path.name for path in (head.folder / "home").iterdir()}
    assert not {"ray_bootstrap_key.pem", "ray_bootstrap_config.yaml"} & left
