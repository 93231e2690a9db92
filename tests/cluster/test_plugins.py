"""Components and a reader of another package, on nodes that have it and beside one that lacks it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.cluster.conftest import Cluster
from tests.cluster.machines import PACKAGES, Machine
from tests.parts.plugin_template import NAME, VERSION, install_template

FACES, TRIALS = 120, 16
SOURCE = "s3://agr/quarters"
SWEEP: dict[str, Any] = {
    "name": "plugins",
    "trial": {
        "data": {"source": SOURCE},
        "tasks": ["age", "gender"],
        "image": {"size": 32},
        "batch_size": 16,
        "schedule": {"name": "constant", "epochs": 40},
        "model": {"name": "tiny_face", "widths": [8]},
        "age": {"encoding": "brier", "bins": [0, 13, 20, 60]},
    },
    "space": {"optimizer": [{"name": "nadam", "lr": {"loguniform": [1.0e-4, 1.0e-2]}}]},
    "search": {"algorithm": "random", "trials": TRIALS, "seed": 7},
    "scheduler": "none",
    "objective": {"metric": "val/gender_acc", "direction": "maximize"},
}


def write_quarters(folder: Path) -> None:
    """Write faces with names that only the package's reader can read."""
    folder.mkdir()
    random = np.random.default_rng(7)
    for number in range(FACES):
        image = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
        assert cv2.imwrite(str(folder / f"q{number}_{number % 90}_{'mf'[number % 2]}.png"), image)


def site(machine: Machine) -> Path:
    """The folder of the machine's own packages, seen from outside."""
    return machine.folder / Path(PACKAGES).relative_to("/tmp")


def test_a_sweep_of_a_package_runs_on_nodes_that_have_it_and_is_refused_by_name_where_one_lacks_it(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    def install(machine: Machine) -> None:
        install_template(tmp_path_factory.mktemp("template"), site(machine))

    install(cluster.laptop)
    write_quarters(cluster.laptop.folder / "home" / "quarters")
    packed = cluster.agr(cluster.laptop, "data", "pack", "/tmp/home/quarters", "-o", SOURCE, "--json")
    assert json.loads(packed)["images"] == FACES
    head = cluster.head("head", cpus=1, before=install)
    (node,) = cluster.join("node", cpus=1, before=install)

    without = cluster.network.machine("without")
    cluster.give_token(without)
    joining = ("cluster", "join", f"{cluster.head_address}:6379", "--cpus", "1")
    assert f"plug-in {NAME} is unknown here and {VERSION} on the head" in cluster.agr(without, *joining, code=2)

    shutil.rmtree(site(node))
    refused = cluster.agr(cluster.laptop, "submit", cluster.write(SWEEP), "--address", cluster.url, code=1)
    assert f"plug-ins of {NAME} {VERSION}" in refused
    assert f"on {node.address}" in refused
    assert f"on {head.address}" not in refused
    assert "Traceback" not in refused
    assert "Install there what is installed here" in refused

    cluster.agr(node, "cluster", "leave")
    (node,) = cluster.join("mended", cpus=1, before=install)
    sweep_id = cluster.submit(SWEEP)
    summary = cluster.wait(sweep_id, "completed", "failed")

    assert summary["trials"] == {**dict.fromkeys(summary["trials"], 0), "completed": TRIALS}
    events = cluster.events(sweep_id)
    nodes = {event["node"] for event in events if event["kind"] == "attempt_started"}
    assert nodes == {head.address, node.address}
    (configured,) = {event["config"]["model"]["name"] for event in events if event["kind"] == "trial_created"}
    assert configured == "tiny_face"
