"""Sweeps on real Ray whose workers or nodes fail as a test tells them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import cloudpickle

from agr_core.evaluation.names import is_of_the_machine
from agr_core.reporting import EpochReport
from orchestrator.cli.driving import started_of
from orchestrator.journal.events import Event
from orchestrator.journal.segments import read_state
from orchestrator.journal.sweep_state import SweepState, TrialState
from orchestrator.ray_tune.driver import Engine, SweepResult, start_sweep
from orchestrator.ray_tune.trainable import TrialTrainable
from orchestrator.settings import Settings
from orchestrator.spec.load import sweep_from_document
from orchestrator.storage import open_storage
from orchestrator.worker.epochs import EpochSource
from orchestrator.worker.job import Job

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # so that workers need not import it

Fault = Callable[[Job, int], None]


class Faulty(EpochSource):
    """A real training that a fault comes between."""

    def __init__(self, job: Job, fault: Fault) -> None:
        super().__init__(job)
        self._fault = fault
        self._next = 1

    def next_epoch(self) -> tuple[EpochReport, float]:
        self._fault(self._job, self._next)
        report, value = super().next_epoch()
        self._next = report.epoch + 1
        return report, value


class Empty:
    """Two epochs in which nothing is trained, so that they take no time, and a fault between them."""

    def __init__(self, job: Job, fault: Fault) -> None:
        self._job = job
        self._fault = fault
        self._epoch = job.last_journalled_epoch

    def next_stage(self) -> None:
        """There is none."""

    def stored_files(self) -> dict[str, str]:
        return {}

    def data_staged(self) -> None:
        """There is none."""

    def baseline(self) -> None:
        """There is none."""

    def next_epoch(self) -> tuple[EpochReport, float]:
        self._epoch += 1
        self._fault(self._job, self._epoch)
        value = self._job.config["optimizer"]["lr"]
        return EpochReport(epoch=self._epoch, metrics={"val/age_mae": value}, finished=self._epoch == 2), value

    def close(self) -> None:
        """Nothing is held."""


def trainable(source: type, fault: Fault) -> type[TrialTrainable]:
    class FaultyTrainable(TrialTrainable):
        def epochs(self, job: Job) -> Any:
            return source(job, fault)

    return FaultyTrainable


def no_fault(job: Job, epoch: int) -> None:
    """Nothing happens."""


DOCUMENT: dict[str, Any] = {
    "name": "faulty",
    "trial": {
        "data": {"source": "synthetic", "synthetic": {"images": 200, "size": 16}},
        "tasks": ["age"],
        "image": {"size": 16},
        "batch_size": 60,
        "schedule": {"name": "constant", "epochs": 4},
        "model": {"name": "basic_cnn", "conv_layers": 2, "base_features": 4, "hidden": 8},
    },
    "space": {"optimizer": {"name": "adam", "lr": [0.001, 0.002, 0.003]}},
    "search": {"algorithm": "grid"},
    "objective": {"metric": "val/age_mae", "direction": "minimize"},
    "out_of_memory": "halve_batch",
}


def engine(
    home: Path, fault: Fault, source: type | None = Faulty, listener: Callable[[Event], None] = lambda _: None
) -> Engine:
    return Engine(
        settings=Settings.from_environment(),
        storage=open_storage(str(home / "storage")),
        listener=listener,
        trainable=None if source is None else trainable(source, fault),
        read_sealed=False,
    )


def run(
    home: Path,
    fault: Fault = no_fault,
    source: type | None = Faulty,
    listener: Callable[[Event], None] = lambda _: None,
    **changes: Any,
) -> tuple[SweepResult, SweepState]:
    sweep = sweep_from_document({**DOCUMENT, **changes})
    started = started_of(sweep)
    result = start_sweep(sweep, started, engine(home, fault, source, listener), on_begin=lambda: None)
    return result, read_state(open_storage(str(home / "storage")), started.sweep_id)


def by_lr(state: SweepState) -> dict[float, TrialState]:
    return {trial.created.config["optimizer"]["lr"]: trial for trial in state.trials.values()}


def figures(trial: TrialState) -> list[dict[str, float]]:
    return [{k: v for k, v in report.metrics.items() if not is_of_the_machine(k)} for report in trial.reports]


class ExtraNode:
    """One more node of the session's cluster: a raylet of its own, with one CPU."""

    def __init__(
        self,
        address: str,
        *,
        num_cpus: int = 1,
        memory: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        from tests.parts.ray_internals import Node, RayParams

        before = {node["NodeID"] for node in ray.nodes()}
        parameters = RayParams(
            gcs_address=address,
            num_cpus=num_cpus,
            memory=memory,
            env_vars=dict(environment or {}),
            object_store_memory=80 * 2**20,
            node_ip_address=ray.util.get_node_ip_address(),
            include_log_monitor=False,
        )
        self._node = Node(parameters, head=False, shutdown_at_exit=False, spawn_reaper=False)
        until = time.monotonic() + 60
        while not (new := {node["NodeID"] for node in ray.nodes() if node["Alive"]} - before):
            assert time.monotonic() < until, "the node did not join"
            time.sleep(0.1)
        (self.id,) = new

    def kill(self) -> None:
        """As ``kill -9`` of all that runs there."""
        self._node.kill_all_processes(check_alive=False, allow_graceful=False)


def wait_for(condition: Callable[[], bool]) -> None:
    """So that the other node has its share, however slowly its workers start."""
    until = time.monotonic() + 90
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)


@pytest.fixture
def extra_node(ray_address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExtraNode]:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")  # as the session's cluster has it
    node = ExtraNode(ray_address)
    try:
        yield node
    finally:
        node.kill()
