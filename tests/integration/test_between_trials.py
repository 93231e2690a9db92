"""Between one trial and the next, on real Ray: workers that die or hang then, and a driver that is busy then."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import cloudpickle

from agr_core.config import DataConfig
from orchestrator.assets.datasets import prepare_data
from orchestrator.catalog import control
from orchestrator.catalog.summary import read_summary
from orchestrator.cli.driving import started_of
from orchestrator.journal.events import AttemptFailed, DataRef, Event, TrialReported
from orchestrator.journal.segments import read_state
from orchestrator.journal.sweep_state import SweepState
from orchestrator.ray_tune.driver import Engine, start_sweep
from orchestrator.ray_tune.trainable import TrialTrainable
from orchestrator.settings import Settings
from orchestrator.spec.load import sweep_from_document
from orchestrator.storage import open_storage
from orchestrator.sweep import recorder
from orchestrator.sweep.node_health import QUARANTINE_AFTER
from orchestrator.worker.job import Job
from tests.parts.faults import DOCUMENT, Empty, ExtraNode, by_lr, extra_node, no_fault, trainable, wait_for

__all__ = ["extra_node"]  # a fixture

pytestmark = pytest.mark.slow
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test


def sweep_with(home: Path, worker: type, given: dict[str, Any] | None = None, **changes: Any) -> SweepState:
    """A sweep with such workers, to its end; ``given``: further fields of its engine."""
    sweep = sweep_from_document({**DOCUMENT, **changes})
    started, storage = started_of(sweep), open_storage(str(home / "storage"))
    settings = Settings.from_environment()
    engine = Engine(settings=settings, storage=storage, trainable=worker, read_sealed=False, **(given or {}))
    start_sweep(sweep, started, engine, on_begin=lambda: None)
    return read_state(storage, started.sweep_id)


def dying_on_reset(flag: Path) -> type[TrialTrainable]:
    """The first worker to take a second trial dies doing so."""

    class DyingOnReset(trainable(Empty, no_fault)):  # type: ignore[misc]
        def reset_config(self, new_config: dict[str, Any]) -> bool:
            if not flag.exists():
                flag.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return bool(super().reset_config(new_config))

    return DyingOnReset


def test_a_worker_that_dies_before_it_has_taken_its_next_trial_costs_that_trial_an_attempt(
    ray_address: str, tmp_path: Path
) -> None:
    state = sweep_with(tmp_path, dying_on_reset(tmp_path / "died"), concurrency=1)
    assert state.counts()["completed"] == 3
    first, second, third = state.trials.values()
    assert [len(trial.failures) for trial in (first, second, third)] == [0, 1, 0]
    (failure,) = second.failures
    assert (failure.cause, failure.charged, second.attempts) == ("worker_died", True, 2)


def hangs(job: Job, epoch: int) -> None:
    if epoch == 2 and job.config["optimizer"]["lr"] == 0.001:
        time.sleep(3600)


def test_killing_a_trial_that_hangs_ends_its_worker_and_the_sweep_continues(ray_address: str, tmp_path: Path) -> None:
    storage = open_storage(str(tmp_path / "storage"))

    def heard(event: Event) -> None:
        if isinstance(event, TrialReported) and event.value == 0.001:
            (sweep_id,) = storage.folders("sweeps")
            control.send(storage, sweep_id, "kill", {"trial_id": event.trial_id})

    state = sweep_with(tmp_path, trainable(Empty, hangs), {"listener": heard}, concurrency=1)
    assert {lr: trial.outcome for lr, trial in by_lr(state).items()} == {
        0.001: "interrupted",
        0.002: "completed",
        0.003: "completed",
    }
    assert not any(trial.failures for trial in state.trials.values())


def test_a_worker_takes_the_next_trial_after_one_that_was_pruned(ray_address: str, tmp_path: Path) -> None:
    (tmp_path / "workers").mkdir()

    def notes_its_worker(job: Job, epoch: int) -> None:
        (tmp_path / "workers" / str(os.getpid())).touch()

    state = sweep_with(
        tmp_path,
        trainable(Empty, notes_its_worker),
        scheduler={"name": "asha", "grace_epochs": 1, "reduction_factor": 2},
        concurrency=1,
    )
    assert state.counts()["pruned"] == 2
    assert len(list((tmp_path / "workers").iterdir())) == 1


def starting_nowhere_on(node_id: str, failures: Path) -> type[TrialTrainable]:
    """Workers do not start on that node; those elsewhere wait until enough attempts have failed."""

    def waits(job: Job, epoch: int) -> None:
        wait_for(lambda: failures.exists() and failures.stat().st_size >= QUARANTINE_AFTER)

    class StartingNowhere(trainable(Empty, waits)):  # type: ignore[misc]
        def setup(self, config: dict[str, Any]) -> None:
            if ray.get_runtime_context().get_node_id() == node_id:
                raise ImportError("No module named 'pydantic'")
            super().setup(config)

    return StartingNowhere


def test_a_node_on_which_no_worker_starts_is_quarantined_and_charged_to_no_trial(
    ray_address: str, extra_node: ExtraNode, tmp_path: Path
) -> None:
    failures = tmp_path / "failures"

    def heard(event: Event) -> None:
        if isinstance(event, AttemptFailed):
            with failures.open("a") as file:
                file.write("x")

    worker = starting_nowhere_on(extra_node.id, failures)
    lrs = [round(0.001 * i, 4) for i in range(1, 13)]
    state = sweep_with(tmp_path, worker, {"listener": heard}, space={"optimizer": {"name": "adam", "lr": lrs}})
    assert state.counts()["completed"] == 12
    (event,) = state.quarantined
    assert event.node_id == extra_node.id
    assert "No module named 'pydantic'" in event.error
    failed = [failure for trial in state.trials.values() for failure in trial.failures]
    assert 3 <= len(failed) <= 5


def test_a_driver_that_fetches_data_between_two_trials_is_heard_of_meanwhile(
    ray_address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It packs what a trial needs before it proposes the trial, which may take minutes."""
    monkeypatch.setattr(recorder, "HEARTBEAT_S", 0.2)
    storage, cache, beats = open_storage(str(tmp_path / "storage")), tmp_path / "cache", list[float]()

    def prepare(config: DataConfig) -> DataRef:
        if len(storage.folders("sweeps")) == 1 and not beats:
            (sweep_id,) = storage.folders("sweeps")

            def another() -> bool:
                beats.append(read_summary(storage, sweep_id).heartbeat)
                return len(set(beats)) > 3

            wait_for(another)
        return prepare_data(config, storage=storage, cache=cache)

    state = sweep_with(tmp_path, trainable(Empty, no_fault), {"prepare": prepare}, concurrency=1)
    assert state.counts()["completed"] == 3
    assert len(set(beats)) > 3
