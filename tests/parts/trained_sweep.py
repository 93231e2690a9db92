"""Tiny sweeps trained without Ray, with weights, predictions, data set, split and test part."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any

from orchestrator.journal.events import SweepStarted
from orchestrator.journal.segments import read_state
from orchestrator.journal.sweep_state import TrialState
from orchestrator.ray_tune.driver import Engine, build_run
from orchestrator.settings import Settings
from orchestrator.spec.load import sweep_from_document
from orchestrator.storage import layout, open_storage
from orchestrator.sweep.run import SweepRun
from orchestrator.worker.epochs import EpochSource
from orchestrator.worker.evaluate import evaluate
from orchestrator.worker.job import Job

DOCUMENT: dict[str, Any] = {
    "name": "trained",
    "trial": {
        "data": {"source": "synthetic", "synthetic": {"images": 80, "size": 16}, "split": {"strategy": "random"}},
        "image": {"size": 16},
        "tasks": ["age", "gender"],
        "model": {"name": "basic_cnn", "conv_layers": 1, "base_features": 2, "hidden": 4},
        "schedule": {"name": "constant", "epochs": 2},
    },
    "space": {"optimizer": {"name": "nadam", "lr": {"loguniform": [1.0e-4, 1.0e-2]}}},
    "search": {"algorithm": "random", "trials": 3, "seed": 7},
    "scheduler": "none",
    "objective": {"metric": "val/age_mae", "direction": "minimize"},
}


def train_sweep(storage_uri: str, sweep_id: str, *, interrupted: bool) -> None:
    """Train a sweep of three trials; with ``interrupted``, its driver ends in the middle of the third."""
    settings = Settings.from_environment()
    storage = open_storage(storage_uri)
    sweep = sweep_from_document({**DOCUMENT, "name": sweep_id.split("-")[0]})
    started = SweepStarted.of(sweep, time=time.time(), sweep_id=sweep_id, provenance={})
    run = build_run(sweep, started, Engine(settings=settings, storage=storage), next_segment=1)
    run.begin()
    for number in range(3):
        created = run.next_trial(1)
        assert created is not None
        job = Job.of(created, run.started, storage=storage_uri)
        run.attempt_started(created.trial_id, "127.0.0.1")
        _train(run, job, epochs=1 if interrupted and number == 2 else 2)
        if interrupted and number == 2:
            run.flush()
            run.end("interrupted", "by a signal")
            return
        run.trial_over(created.trial_id)
    _read_test(run, storage_uri, settings)
    run.end("completed")


def _train(run: SweepRun, job: Job, *, epochs: int) -> None:
    with closing(EpochSource(job)) as source:
        for _ in range(epochs):
            report, _ = source.next_epoch()
            run.epoch_reported(job.trial_id, report, source.stored_files())
            run.flush()


def train_all(storage_uri: str, sweep_id: str, document: dict[str, Any]) -> None:
    """Train all trials of a sweep with one epoch each, and read the test part of each."""
    settings = Settings.from_environment()
    storage = open_storage(storage_uri)
    sweep = sweep_from_document(document)
    started = SweepStarted.of(sweep, time=time.time(), sweep_id=sweep_id, provenance={})
    run = build_run(sweep, started, Engine(settings=settings, storage=storage), next_segment=1)
    run.begin()
    while (created := run.next_trial(100)) is not None:
        run.attempt_started(created.trial_id, "127.0.0.1")
        _train(run, Job.of(created, run.started, storage=storage_uri), epochs=1)
        run.trial_over(created.trial_id)
        run.flush()
    for trial in read_state(storage, sweep_id).trials.values():
        _read_test_of(trial, run, storage_uri, settings)
    run.end("completed")


def _read_test(run: SweepRun, storage_uri: str, settings: Settings) -> None:
    trial = read_state(run.storage, run.sweep_id).best()
    assert trial is not None
    _read_test_of(trial, run, storage_uri, settings)


def _read_test_of(trial: TrialState, run: SweepRun, storage_uri: str, settings: Settings) -> None:
    assert trial.ended is not None
    epoch = trial.ended.best_epoch
    assert epoch is not None
    run.test_opened(trial.trial_id, epoch, ["best"])
    run.flush()
    attempt = layout.attempt(run.sweep_id, trial.trial_id, 0)
    sha256 = trial.recorded_sha256(layout.best_weights(attempt, epoch))
    assert sha256 is not None, "the journal lists the weights"
    job = Job.of(trial.created, run.started, storage=storage_uri).to_json()
    test, baseline = evaluate(job, attempt, epoch, str(Path(settings.cache)), sha256)
    assert test is not None
    run.baseline_measured(trial.created.split_digest, baseline)
    run.test_read(trial.trial_id, "best", test["metrics"], test["tables"], test["files"])
