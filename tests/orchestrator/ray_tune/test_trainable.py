"""An attempt in a worker, without Ray around it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from agr_core.config import TrialConfig
from agr_core.evaluation.names import is_of_the_machine
from agr_core.models import build_model
from agr_core.objective import Objective
from agr_core.reporting import EpochReport
from orchestrator.datasets import prepare_data
from orchestrator.ray_tune.trainable import EpochSource, Job
from orchestrator.records import SweepStarted, TrialCreated
from orchestrator.settings import Settings
from orchestrator.storage import Storage, layout, open_storage
from orchestrator.weights import resolve_weights

MODEL: dict[str, Any] = {"name": "basic_cnn", "conv_layers": 1, "base_features": 2, "hidden": 4}
SWEEP = SweepStarted(
    time=0.0,
    sweep_id="small-20260101-000000-abcd",
    name="small",
    experiment="small",
    objective=Objective(metric="val/gender_acc", direction="maximize"),
    document={},
    provenance={},
)


def _config(**model: Any) -> TrialConfig:
    return TrialConfig.from_document(
        {
            "data": {"synthetic": {"images": 60, "size": 16}, "split": {"strategy": "random"}},
            "image": {"size": 16},
            "tasks": ["gender"],
            "model": MODEL | model,
            "schedule": {"name": "constant", "epochs": 2},
        }
    )


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("AGR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AGR_STORAGE", str(tmp_path / "storage"))
    return Settings.from_environment()


def _first_epoch(config: TrialConfig, storage: Storage, settings: Settings, trial: str) -> EpochReport:
    data = prepare_data(config.data, storage=storage, cache=settings.cache)
    created = TrialCreated(
        time=0.0,
        trial_id=trial,
        number=0,
        configuration=0,
        config=config.to_document(),
        params={},
        proposal={},
        config_digest="c" * 64,
        data_digest=data.data_digest,
        split_digest=data.split_digest,
        data_uri=data.data_uri,
        weights_sha256=resolve_weights(config.model, storage=storage, settings=settings),
    )
    job = Job.from_json(Job.of(created, SWEEP, storage=storage.uri).to_json())
    source = EpochSource(job)
    try:
        report, _ = source.next_epoch()
    finally:
        source.close()
    return report


def _figures(report: EpochReport) -> dict[str, float]:
    return {name: value for name, value in report.metrics.items() if not is_of_the_machine(name)}


def test_a_trial_starts_from_the_weights_the_driver_found_wherever_they_lay(tmp_path: Path, settings: Settings) -> None:
    storage = open_storage(settings.storage)
    other = TrialConfig.from_document({**_config().to_document(), "seed": 5})
    file = tmp_path / "pretrained.safetensors"
    save_file(build_model(other, age_outputs=7, num_genders=2, num_races=5).state_dict(), file)
    config = _config(weights=str(file), weights_heads="keep")

    first = _first_epoch(config, storage, settings, "aaaaaaaa")
    log = storage.read(f"{layout.attempt(SWEEP.sweep_id, 'aaaaaaaa', 0)}/log.txt").decode()
    assert "taken: backbone, heads.gender; left out of the file: nothing" in log

    (tmp_path / "elsewhere").mkdir()
    moved = file.rename(tmp_path / "elsewhere" / "weights.safetensors")
    again = _first_epoch(_config(weights=str(moved), weights_heads="keep"), storage, settings, "bbbbbbbb")
    random = _first_epoch(_config(), storage, settings, "cccccccc")
    assert _figures(first) == _figures(again)
    assert _figures(first) != _figures(random)
    record = json.loads(storage.read(f"{layout.attempt(SWEEP.sweep_id, 'aaaaaaaa', 0)}/trial.json"))
    assert record["config"]["model"]["weights"] == str(file)
