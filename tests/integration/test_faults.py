"""Workers and nodes that fail under real trials, on real Ray: what it costs, and that no figure changes.

The driver runs in this process, on the session's Ray. Workers are those of the product but for one thing: before some
epoch of some attempt they do what a fault does.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import ray
from ray import cloudpickle

from orchestrator.errors import StorageFullError
from orchestrator.journal.events import AttemptStarted, Event, TrialEnded, TrialReported, TrialResumed
from orchestrator.journal.segments import read_events
from orchestrator.journal.sweep_state import SweepState, TrialState
from orchestrator.ray_tune.driver import resume_sweep
from orchestrator.storage import open_storage
from orchestrator.sweep.node_health import QUARANTINE_AFTER
from orchestrator.worker.job import Job
from tests.parts.faults import (
    Empty,
    ExtraNode,
    Fault,
    Faulty,
    by_lr,
    engine,
    extra_node,
    figures,
    no_fault,
    run,
    wait_for,
)

if TYPE_CHECKING:
    from tests.parts.small_disk import SmallDisk

__all__ = ["extra_node"]  # a fixture

pytestmark = pytest.mark.cluster
cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers cannot import a test


def worker_faults(job: Job, epoch: int) -> None:
    """By learning rate: killed before its third epoch; a batch that does not fit; no batch that fits."""
    import torch

    lr, batch_size = job.config["optimizer"]["lr"], job.config["batch_size"]
    if job.attempt == 0 and epoch == 3 and lr == 0.001:
        os.kill(os.getpid(), signal.SIGKILL)
    if epoch == 1 and ((lr == 0.002 and batch_size > 30) or lr == 0.003):
        torch.empty(2**46)


@pytest.fixture(scope="module")
def calm(ray_address: str, tmp_path_factory: pytest.TempPathFactory) -> dict[float, TrialState]:
    _, state = run(tmp_path_factory.mktemp("calm"), no_fault)
    return by_lr(state)


@pytest.fixture(scope="module")
def faulty(ray_address: str, tmp_path_factory: pytest.TempPathFactory) -> dict[float, TrialState]:
    result, state = run(tmp_path_factory.mktemp("faulty"), worker_faults)
    assert (result.status, result.counts["completed"], result.counts["failed"]) == ("completed", 2, 1)
    return by_lr(state)


def test_a_killed_worker_costs_a_retry_from_the_checkpoint_and_no_figure(
    calm: dict[float, TrialState], faulty: dict[float, TrialState]
) -> None:
    trial = faulty[0.001]
    (failure,) = trial.failures
    assert (failure.cause, failure.charged, failure.attempt) == ("worker_died", True, 0)
    assert [report.attempt for report in trial.reports] == [0, 0, 1, 1], "epochs 1 and 2 were not trained again"
    assert figures(trial) == figures(calm[0.001])


def test_out_of_memory_trains_half_the_batch_from_the_start(
    calm: dict[float, TrialState], faulty: dict[float, TrialState]
) -> None:
    trial = faulty[0.002]
    (failure,) = trial.failures
    assert (failure.cause, failure.charged) == ("out_of_memory", False)
    assert trial.created.config["batch_size"] == 30
    assert [report.attempt for report in trial.reports] == [1, 1, 1, 1]
    assert figures(trial) != figures(calm[0.002])


def test_a_trial_that_does_not_fit_with_half_the_batch_is_infeasible(faulty: dict[float, TrialState]) -> None:
    trial = faulty[0.003]
    assert [failure.cause for failure in trial.failures] == ["out_of_memory"] * 2
    assert trial.ended is not None
    assert trial.ended.error is not None
    assert trial.ended.error.startswith("infeasible: RuntimeError")


def crowded(seen: Path) -> Fault:
    """By learning rate: ended by the memory monitor once, and each time; notes the memory each attempt was given."""

    def fault(job: Job, epoch: int) -> None:
        lr = job.config["optimizer"]["lr"]
        given = ray.get_runtime_context().get_assigned_resources()["memory"]
        with (seen / str(lr)).open("a") as file:
            file.write(f"{given:.0f}\n")
        if (lr == 0.002 and job.attempt == 0) or lr == 0.003:
            raise ray.exceptions.OutOfMemoryError("the node was running low on memory")

    return fault


def test_a_trial_whose_node_was_too_full_is_given_twice_the_memory_until_it_has_a_node_to_itself(
    ray_address: str, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    seen.mkdir()
    result, state = run(tmp_path, crowded(seen), Empty, out_of_memory="infeasible")
    assert (result.counts["completed"], result.counts["failed"]) == (2, 1)
    given = {float(path.name): [int(line) / 1e9 for line in path.read_text().split()] for path in seen.iterdir()}
    assert given[0.001] == [1, 1], "two epochs"
    assert given[0.002] == [1, 2, 2]
    (node,) = ray.nodes()
    all_of_it = node["Resources"]["memory"] / 1e9
    assert given[0.003] == [*(2**step for step in range(20) if 2**step < all_of_it), pytest.approx(all_of_it)]
    trials = by_lr(state)
    assert {failure.charged for trial in trials.values() for failure in trial.failures} == {False}
    assert trials[0.003].ended is not None
    assert (trials[0.003].ended.error or "").startswith("infeasible: WorkerOutOfMemoryError")


def hangs_once(job: Job, epoch: int) -> None:
    if job.attempt == 0 and epoch == 2 and job.config["optimizer"]["lr"] == 0.001:
        time.sleep(3600)


def test_a_hung_worker_is_ended_and_its_trial_retried(ray_address: str, tmp_path: Path) -> None:
    result, state = run(tmp_path, hangs_once, Empty, limits={"report": 3})
    assert result.counts["completed"] == 3
    trial = by_lr(state)[0.001]
    (failure,) = trial.failures
    assert (failure.cause, failure.charged, failure.error) == ("hung", True, "no report for 3 s")
    assert [report.attempt for report in trial.reports] == [0, 1]


# ---- nodes


def test_a_node_that_fails_every_trial_is_quarantined_and_the_others_continue(
    ray_address: str, extra_node: ExtraNode, tmp_path: Path
) -> None:
    broken, seen = extra_node.id, tmp_path / "failures"

    def breaks(job: Job, epoch: int) -> None:
        if ray.get_runtime_context().get_node_id() == broken:
            with seen.open("a") as file:
                file.write("x")
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        wait_for(lambda: seen.exists() and seen.stat().st_size >= QUARANTINE_AFTER)

    lrs = [round(0.001 * i, 4) for i in range(1, 13)]
    result, state = run(tmp_path, breaks, Empty, space={"optimizer": {"name": "adam", "lr": lrs}})
    assert (result.status, result.counts["completed"]) == ("completed", 12)
    (event,) = state.quarantined
    assert event.node_id == broken
    assert "illegal memory access" in event.error
    failed = [failure for trial in state.trials.values() for failure in trial.failures]
    assert 3 <= len(failed) <= 5, "after the third one no trial was placed there, but for those that were queued"


def test_a_killed_node_costs_its_trials_no_retry(ray_address: str, extra_node: ExtraNode, tmp_path: Path) -> None:
    taken, arrived = extra_node.id, tmp_path / "arrived"

    def waits(job: Job, epoch: int) -> None:
        if ray.get_runtime_context().get_node_id() != taken:
            wait_for(arrived.exists)
        elif epoch == 2:
            time.sleep(3600)
        else:
            arrived.touch()

    killed = threading.Event()

    def heard(event: Event) -> None:
        if isinstance(event, TrialReported) and event.trial_id in on_node and not killed.is_set():
            killed.set()
            extra_node.kill()
        if isinstance(event, AttemptStarted) and event.node_id == taken:
            on_node.add(event.trial_id)

    on_node: set[str] = set()
    result, state = run(tmp_path, waits, Empty, heard, retries=0)
    assert killed.is_set(), "no trial was placed there"
    assert (result.status, result.counts["completed"]) == ("completed", 3)
    failed = [failure for trial in state.trials.values() for failure in trial.failures]
    assert [(failure.cause, failure.charged) for failure in failed] == [("node_lost", False)]


# ---- full disks


def test_a_node_with_a_full_disk_gets_no_more_trials_and_its_trial_resumes_on_another(
    ray_address: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    small_disk: SmallDisk,
    calm: dict[float, TrialState],
) -> None:
    """The node's ``AGR_HOME`` and ``TMPDIR`` lie on the disk, which is filled while it trains its first trial."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    disk = str(small_disk.folder)
    node = ExtraNode(ray_address, environment={"AGR_HOME": f"{disk}/home", "TMPDIR": disk})
    taken, arrived, full = node.id, tmp_path / "arrived", tmp_path / "full"

    def waits(job: Job, epoch: int) -> None:
        if ray.get_runtime_context().get_node_id() != taken:
            wait_for(arrived.exists)
        elif epoch == 2:
            wait_for(full.exists)
        else:
            arrived.touch()

    on_node: set[str] = set()

    def heard(event: Event) -> None:
        if isinstance(event, AttemptStarted) and event.node_id == taken:
            on_node.add(event.trial_id)
        if isinstance(event, TrialReported) and event.trial_id in on_node and not full.exists():
            small_disk.fill()
            full.touch()

    try:
        result, state = run(tmp_path, waits, Faulty, heard, retries=0)
    finally:
        node.kill()
    assert full.exists(), "no trial was placed there"
    assert (result.status, result.counts["completed"]) == ("completed", 3)
    (failure,) = [failure for trial in state.trials.values() for failure in trial.failures]
    assert (failure.cause, failure.charged) == ("disk_full", False)
    assert f"{disk}/" in failure.error
    assert "No space left on device" in failure.error
    assert "set TMPDIR to a larger one" in failure.error
    assert [event.node_id for event in state.quarantined] == [taken]
    assert [report.attempt for report in state.trials[failure.trial_id].reports] == [0, 1, 1, 1]
    assert {lr: figures(trial) for lr, trial in by_lr(state).items()} == {lr: figures(calm[lr]) for lr in calm}


def test_a_storage_that_fills_up_ends_the_sweep_with_the_way_out_and_with_room_it_is_resumed(
    ray_address: str,
    small_disk: SmallDisk,
    tmp_path: Path,
    calm: dict[float, TrialState],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home, full = small_disk.folder, tmp_path / "full"

    def waits(job: Job, epoch: int) -> None:
        if epoch == 3:
            wait_for(full.exists)

    def heard(event: Event) -> None:
        if isinstance(event, TrialReported) and not full.exists():
            small_disk.fill()
            full.touch()

    with pytest.raises(StorageFullError, match=f"The disk of {home}/storage is full: free some of it, or set AGR_STOR"):
        run(home, waits, Faulty, heard, retries=0, concurrency=1)
    small_disk.make_room()
    (sweep_id,) = (path.name for path in (home / "storage" / "sweeps").iterdir())
    # The full disk kept the driver from releasing the sweep. The command would end with it; here the process goes on.
    monkeypatch.setattr("orchestrator.catalog.ownership._process_lives", lambda driver: driver.pid != os.getpid())
    result = resume_sweep(sweep_id, engine(home, no_fault), on_begin=lambda: None)

    assert (result.status, result.counts["completed"], result.counts["failed"]) == ("completed", 3, 0)
    events, _ = read_events(open_storage(f"{home}/storage"), sweep_id)
    assert Counter(type(event).__name__ for event in events)["TrialCreated"] == 3
    ends = Counter(event.trial_id for event in events if isinstance(event, TrialEnded))
    resumed = Counter(event.trial_id for event in events if isinstance(event, TrialResumed))
    assert set((ends - resumed).values()) == {1}
    epochs = Counter((event.trial_id, event.epoch) for event in events if isinstance(event, TrialReported))
    assert set(epochs.values()) == {1}
    state = SweepState.from_events(events)
    assert {lr: figures(trial) for lr, trial in by_lr(state).items()} == {lr: figures(calm[lr]) for lr in calm}
