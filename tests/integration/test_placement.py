"""Where Ray puts a sweep's trials, on several nodes; CPUs and GPUs are declared, so neither need be there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.cluster

# A cluster of Ray nodes, each with a cache of its own, and a sweep on it whose trials only write down when they were
# where. None ends before as many as are asked for have run at once, or a minute has passed; later ones note how many
# that were.
SWEEP = """
import json, os, sys, time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from agr_core.config import TrialConfig
from agr_core.reporting import EpochReport
from orchestrator.cli.driving import started_of
from orchestrator.assets.datasets import prepare_data
from orchestrator.ray_tune.driver import Engine, start_sweep
from orchestrator.ray_tune.trainable import TrialTrainable
from orchestrator.settings import Settings
from orchestrator.spec.load import sweep_from_document
from orchestrator.storage import open_storage

seen = Path(sys.argv[1])
nodes, changes, at_once, later, metrics = map(json.loads, sys.argv[2:])


def running():
    return len(list(seen.glob("*.begun"))) - len(list(seen.glob("*.over")))


class Watched:
    def __init__(self, job):
        self._mine = seen / job.trial_id

    def next_stage(self):
        return None

    def stored_files(self) -> dict[str, str]:
        return {}

    def data_staged(self):
        return None

    def baseline(self):
        return None

    def next_epoch(self):
        node = ray.get_runtime_context().get_node_id()
        self._mine.with_suffix(".begun").write_text(node)
        until = time.time() + 60
        if (seen / "all").exists():
            while running() < later and time.time() < until:
                time.sleep(0.1)
            time.sleep(2)
            self._mine.with_suffix(".later").write_text(str(running()))
        while not (seen / "all").exists() and time.time() < until:
            if running() >= at_once:
                busy = {p.stem: p.read_text() for p in seen.glob("*.begun")}
                (seen / "all").write_text(" ".join(busy.values()))
            time.sleep(0.1)
        self._mine.with_suffix(".over").touch()
        return EpochReport(epoch=1, metrics={"val/loss": 1.0, **metrics}, finished=True), 1.0

    def close(self):
        pass


class NoTraining(TrialTrainable):
    def epochs(self, job):
        return Watched(job)


settings = Settings.from_environment()
storage = open_storage(settings.storage)
sweep = sweep_from_document({
    "name": "shares",
    "trial": {"data": {"source": "synthetic", "synthetic": {"images": 60, "size": 16}}},
    "space": {"optimizer": {"name": "adam", "lr": {"loguniform": [1e-4, 1e-1]}}},
    "search": {"algorithm": "random", "trials": 6},
    "objective": {"metric": "val/loss", "direction": "minimize"},
    **changes,
})
data = prepare_data(TrialConfig.from_document(sweep.document["trial"]).data, storage=storage, cache=settings.cache)
cluster = Cluster()
for number, node in enumerate(nodes):
    home = Path(settings.home, f"node-{number}")
    os.environ["AGR_HOME"] = str(home)
    if node.pop("has the data", False):
        Path(Settings.from_environment().cache, "datasets", data.data_digest).mkdir(parents=True)
    first = {"include_dashboard": False} if number == 0 else {}
    added = cluster.add_node(**node, **first, object_store_memory=100 * 2**20)
    (seen / f"node-{number}").write_text(added.node_id)
ray.init(address=cluster.address, log_to_driver=False)
engine = Engine(settings=settings, storage=storage, trainable=NoTraining, read_sealed=False)
result = start_sweep(sweep, started_of(sweep), engine, on_begin=lambda: None)
assert result.counts["completed"] == sweep.spec.search.trials, result
ray.shutdown()
cluster.shutdown()
"""


def run(
    folder: Path,
    nodes: list[dict[str, Any]],
    changes: dict[str, Any],
    *,
    at_once: int,
    later: int = 0,
    metrics: dict[str, float] | None = None,
) -> tuple[Path, list[str]]:
    """Run a sweep; returns where trials wrote, and the nodes of those that ran when ``at_once`` did.

    Trials that begin after that end when ``later`` of them run at once, and report these metrics.
    """
    seen = folder / "seen"
    seen.mkdir()
    environment = {**os.environ, "AGR_HOME": str(folder / "home"), "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run(
        [sys.executable, "-c", SWEEP, str(seen), *map(json.dumps, [nodes, changes, at_once, later, metrics or {}])],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert process.returncode == 0, process.stderr[-3000:]
    numbers = {(seen / f"node-{number}").read_text(): f"node-{number}" for number in range(len(nodes))}
    return seen, [numbers[node_id] for node_id in (seen / "all").read_text().split()]


def test_every_slot_of_two_unequal_nodes_is_used_and_no_gpu_by_more_than_its_share(tmp_path: Path) -> None:
    """One core with one GPU holds one trial; eight cores with one GPU hold three trials of 0.3."""
    nodes = [{"num_cpus": 1, "num_gpus": 1}, {"num_cpus": 8, "num_gpus": 1}]
    _, busy = run(tmp_path, nodes, {"resources": {"cpus": 1, "gpus": 0.3, "memory": "100MB"}}, at_once=4)
    assert Counter(busy) == {"node-0": 1, "node-1": 3}


TWO_WITHOUT_AND_ONE_WITH_THE_DATA = [{"num_cpus": 2}, {"num_cpus": 2}, {"num_cpus": 2, "has the data": True}]


def test_a_sweep_that_needs_two_slots_of_six_takes_those_of_the_node_that_has_its_data(tmp_path: Path) -> None:
    seen, busy = run(tmp_path, TWO_WITHOUT_AND_ONE_WITH_THE_DATA, {"concurrency": 2}, at_once=2)
    assert busy == ["node-2", "node-2"]
    with_data = (seen / "node-2").read_text()
    assert [path.read_text() for path in seen.glob("*.begun")] == [with_data] * 6


def test_a_sweep_that_needs_all_slots_has_them_wherever_its_data_is(tmp_path: Path) -> None:
    _, busy = run(tmp_path, TWO_WITHOUT_AND_ONE_WITH_THE_DATA, {}, at_once=6)
    assert Counter(busy) == {"node-0": 2, "node-1": 2, "node-2": 2}


def test_a_node_gets_no_more_trials_than_its_memory_holds_once_they_were_seen_to_hold_more(tmp_path: Path) -> None:
    """Of the sweep's silence about memory 1 GB a trial is made; each holds 1.9 GB, of 4."""
    eight = {"search": {"algorithm": "random", "trials": 8}}
    node = {"num_cpus": 4, "memory": 4 * 10**9}
    seen, _ = run(tmp_path, [node], eight, at_once=4, later=2, metrics={"memory/main_gb": 1.9})
    later = [int(path.read_text()) for path in seen.glob("*.later")]
    assert len(later) == 4
    assert max(later) == 2


# What Ray makes of a wanted node; its argument for that is private.
WANTED = """
import json
import ray
from ray.cluster_utils import Cluster
from ray.util import placement_group_table
from orchestrator.ray_tune.placement import Placement

cluster = Cluster()
names = {cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20).node_id: name for name in ("first", "second")}
first, second = names
ray.init(address=cluster.address, log_to_driver=False)

def where(*arguments):
    group = Placement({"CPU": 1}, *arguments).to_placement_group()
    ray.get(group.ready(), timeout=60)
    (node_id,) = placement_group_table(group)["bundles_to_node_id"].values()
    return group, names[node_id]

taken, free = where((), lambda: second)
full_group, full = where((), lambda: second)
ray.util.remove_placement_group(full_group)
ray.util.remove_placement_group(taken)
avoided_group, avoided = where({second}, lambda: second)
ray.util.remove_placement_group(avoided_group)
_, unknown = where((), lambda: "0" * 55 + "1")
print(json.dumps({"free": free, "full": full, "avoided": avoided, "gone": bool(unknown)}))
"""


def test_a_wanted_node_that_is_full_avoided_or_gone_keeps_no_worker_waiting() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run(
        [sys.executable, "-c", WANTED], env=environment, capture_output=True, text=True, timeout=280
    )
    assert process.returncode == 0, process.stderr[-3000:]
    found = json.loads(process.stdout.splitlines()[-1])
    assert found == {"free": "second", "full": "first", "avoided": "first", "gone": True}
