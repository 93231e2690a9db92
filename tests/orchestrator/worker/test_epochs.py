"""An attempt in a worker, without Ray around it."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from agr_core.config import TrialConfig
from agr_core.data.packed.joined import open_data
from agr_core.data.splits.split_file import read_split
from agr_core.errors import PluginError
from agr_core.evaluation.names import is_of_the_machine
from agr_core.models import build_model
from agr_core.objective import Objective
from agr_core.reporting import EpochReport
from orchestrator.assets.datasets import prepare_data, stage
from orchestrator.assets.weights import resolve_weights
from orchestrator.journal.events import SweepStarted, TrialCreated
from orchestrator.settings import Settings
from orchestrator.storage import Storage, layout, open_storage
from orchestrator.worker.epochs import EpochSource
from orchestrator.worker.evaluate import evaluate
from orchestrator.worker.job import Job

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


def _job(config: TrialConfig, storage: Storage, settings: Settings, trial: str) -> Job:
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
    return Job.from_json(Job.of(created, SWEEP, storage=storage.uri).to_json())


def _first_epoch(config: TrialConfig, storage: Storage, settings: Settings, trial: str) -> EpochReport:
    source = EpochSource(_job(config, storage, settings, trial))
    try:
        report, _ = source.next_epoch()
    finally:
        source.close()
    return report


def _figures(report: EpochReport) -> dict[str, float]:
    return {name: value for name, value in report.metrics.items() if not is_of_the_machine(name)}


def test_the_baseline_of_the_split_comes_once_with_the_first_epoch(settings: Settings) -> None:
    storage = open_storage(settings.storage)
    job = _job(_config(), storage, settings, "aaaaaaaa")
    data = job.data
    table = open_data(stage(data, storage=storage, cache=settings.cache).packed).table
    split = read_split(stage(data, storage=storage, cache=settings.cache).split)
    majority = table["gender"].iloc[split.rows("train")].mode()[0]
    share = float((table["gender"].iloc[split.rows("val")] == majority).mean())

    with closing(EpochSource(job)) as source:
        assert source.baseline() is None  # no data yet
        source.next_epoch()
        measured = source.baseline()
        assert measured is not None
        assert measured["val/gender_acc"] == pytest.approx(share)
        source.next_epoch()
        assert source.baseline() is None


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


def _epochs(job: Job, *, most: int = 99) -> list[EpochReport]:
    """The reports of an attempt, to its end or to so many of them."""
    with closing(EpochSource(job)) as source:
        assert source.next_stage() is None
        reports: list[EpochReport] = []
        while len(reports) < most and not (reports and reports[-1].finished):
            reports.append(source.next_epoch()[0])
    return reports


def test_an_attempt_resumes_from_the_previous_attempt_s_checkpoint(settings: Settings) -> None:
    storage = open_storage(settings.storage)
    whole = _epochs(_job(_config(), storage, settings, "aaaaaaaa"))
    assert [report.epoch for report in whole] == [1, 2]
    assert whole[-1].finished

    job = _job(_config(), storage, settings, "bbbbbbbb")
    (first,) = _epochs(job, most=1)
    again = replace(job, attempt=1, resume=True, last_journalled_epoch=1)
    (second,) = _epochs(again)
    assert [_figures(first), _figures(second)] == [_figures(report) for report in whole]
    lines = storage.read(f"{layout.attempt(SWEEP.sweep_id, 'bbbbbbbb', 1)}/metrics.jsonl").splitlines()
    assert len(lines) == 2, "the second attempt has the first one's epoch too"


def test_epochs_that_the_journal_lacks_are_read_from_the_checkpoint(settings: Settings) -> None:
    storage = open_storage(settings.storage)
    job = _job(_config(), storage, settings, "aaaaaaaa")
    whole = _epochs(job)
    again = _epochs(replace(job, attempt=1, resume=True))
    assert [report.to_json() for report in again] == [report.to_json() for report in whole], "nothing is trained again"


def test_a_trial_that_is_to_stop_is_finished_then(settings: Settings) -> None:
    job = _job(_config(), open_storage(settings.storage), settings, "aaaaaaaa")
    (only,) = _epochs(replace(job, stop_after_epochs=1))
    assert (only.epoch, only.finished) == (1, True)


def test_the_kept_weights_are_evaluated_on_the_test_part(settings: Settings) -> None:
    storage = open_storage(settings.storage)
    job = _job(_config(), storage, settings, "aaaaaaaa")
    best = max(_epochs(job), key=lambda report: report.metrics["val/gender_acc"]).epoch
    attempt = layout.attempt(SWEEP.sweep_id, "aaaaaaaa", 0)
    found, baseline = evaluate(job.to_json(), attempt, best, str(settings.cache))
    assert found is not None
    assert 0.0 <= found["metrics"]["test/gender_acc"] <= 1.0
    assert baseline["val/gender_acc"] >= 0.5
    assert storage.exists(layout.predictions(attempt, "test", best))


def test_an_attempt_is_refused_where_a_plug_in_of_its_sweep_is_missing(settings: Settings) -> None:
    storage = open_storage(settings.storage)
    job = replace(_job(_config(), storage, settings, "plugged"), packages={"agr-plugin-template": "0.1.0"})
    with pytest.raises(PluginError, match=r"on this node agr-plugin-template is not installed"):
        EpochSource(Job.from_json(job.to_json()))
