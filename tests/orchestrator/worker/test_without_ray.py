"""What trains a trial needs no Ray: another engine may call it, and a trial trains in a plain process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

IMPORTS = """
import importlib, pkgutil, sys
import orchestrator.sweep, orchestrator.worker

for package in (orchestrator.worker, orchestrator.sweep):
    names = [module.name for module in pkgutil.iter_modules(package.__path__, package.__name__ + ".")]
    assert names
    for name in names:
        importlib.import_module(name)
print(sorted(name for name in sys.modules if name.partition(".")[0] == "ray"))
"""


def test_worker_and_sweep_import_no_ray() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", IMPORTS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["[]"]


TRAINS = """
import sys
from importlib.abc import MetaPathFinder

class NoRay(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ray":
            raise ImportError("Ray is not to be had here")

sys.meta_path.insert(0, NoRay())
from agr_core.config import TrialConfig
from agr_core.objective import Objective
from orchestrator.assets.datasets import prepare_data
from orchestrator.journal.events import SweepStarted, TrialCreated
from orchestrator.settings import Settings
from orchestrator.storage import open_storage
from orchestrator.worker.epochs import EpochSource
from orchestrator.worker.job import Job

settings = Settings.from_environment()
storage = open_storage(settings.storage)
config = TrialConfig.from_document({
    "data": {"synthetic": {"images": 60, "size": 16}, "split": {"strategy": "random"}},
    "image": {"size": 16},
    "tasks": ["gender"],
    "model": {"name": "basic_cnn", "conv_layers": 1, "base_features": 2, "hidden": 4},
    "schedule": {"name": "constant", "epochs": 1},
})
data = prepare_data(config.data, storage=storage, cache=settings.cache)
sweep = SweepStarted(
    time=0.0, sweep_id="small-20260101-000000-abcd", name="small", experiment="small", document={}, provenance={},
    objective=Objective(metric="val/gender_acc", direction="maximize"),
)
created = TrialCreated(
    time=0.0, trial_id="aaaaaaaa", number=0, configuration=0, config=config.to_document(), params={}, proposal={},
    config_digest="c" * 64, data_uri=data.data_uri, data_digest=data.data_digest, split_digest=data.split_digest,
)
source = EpochSource(Job.of(created, sweep, storage=storage.uri))
report, value = source.next_epoch()
source.close()
print(report.epoch, report.finished, value == report.metrics["val/gender_acc"])
"""


def test_an_attempt_trains_where_ray_is_not_installed(tmp_path: Path) -> None:
    folders = {"AGR_HOME": str(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", TRAINS]
    done = subprocess.run(command, env=os.environ | folders, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["1", "True", "True"], done.stderr
