"""Trials that share GPUs, on two nodes of different size; the GPUs are declared, so no CUDA is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

# A cluster of two Ray nodes, and a sweep on it whose trials only write down when they were where. Nothing ends before
# all four slots have been busy at once, or a minute has passed.
SWEEP = """
import os, sys, time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from agr_core.reporting import EpochReport
from orchestrator.cli.driving import started_of
from orchestrator.ray_tune.driver import Engine, start_sweep
from orchestrator.ray_tune.trainable import TrialTrainable
from orchestrator.settings import Settings
from orchestrator.spec.load import sweep_from_document
from orchestrator.storage import open_storage

seen = Path(sys.argv[1])


class Watched:
    def __init__(self, job):
        self._mine = seen / job.trial_id

    def next_stage(self):
        return None

    def data_staged(self):
        return None

    def next_epoch(self):
        node = ray.get_runtime_context().get_node_id()
        self._mine.with_suffix(".begun").write_text(node)
        until = time.time() + 60
        while not (seen / "all").exists() and time.time() < until:
            if len(list(seen.glob("*.begun"))) - len(list(seen.glob("*.over"))) >= 4:
                busy = {p.stem: p.read_text() for p in seen.glob("*.begun")}
                (seen / "all").write_text(" ".join(busy.values()))
            time.sleep(0.1)
        self._mine.with_suffix(".over").touch()
        return EpochReport(epoch=1, metrics={"val/loss": 1.0}, finished=True), 1.0

    def close(self):
        pass


class NoTraining(TrialTrainable):
    def epochs(self, job):
        return Watched(job)


small = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 100 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
cluster.add_node(**{**small, "num_cpus": 8})
ray.init(address=cluster.address, log_to_driver=False)
settings = Settings.from_environment()
sweep = sweep_from_document({
    "name": "shares",
    "trial": {"data": {"source": "synthetic", "synthetic": {"images": 60, "size": 16}}},
    "space": {"optimizer": {"name": "adam", "lr": {"loguniform": [1e-4, 1e-1]}}},
    "search": {"algorithm": "random", "trials": 6},
    "objective": {"metric": "val/loss", "direction": "minimize"},
    "resources": {"cpus": 1, "gpus": 0.3, "memory": "100MB"},
})
engine = Engine(settings=settings, storage=open_storage(settings.storage), trainable=NoTraining, read_sealed=False)
result = start_sweep(sweep, started_of(sweep), engine, on_begin=lambda: None)
assert result.counts["completed"] == 6, result
ray.shutdown()
cluster.shutdown()
"""


def test_every_slot_of_two_unequal_nodes_is_used_and_no_gpu_by_more_than_its_share(tmp_path: Path) -> None:
    """One core with one GPU holds one trial; eight cores with one GPU hold three trials of 0.3."""
    seen = tmp_path / "seen"
    seen.mkdir()
    environment = {**os.environ, "AGR_HOME": str(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.run(
        [sys.executable, "-c", SWEEP, str(seen)], env=environment, capture_output=True, text=True, timeout=280
    )
    assert process.returncode == 0, process.stderr[-3000:]

    busy = Counter((seen / "all").read_text().split())
    assert sorted(busy.values()) == [1, 3], json.dumps(busy)
    assert len(list(seen.glob("*.over"))) == 6
