"""Memory and speed of one configuration: the figures of a few steps, and a process that may not take more memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agr_core.config import DataConfig, TrialConfig
from orchestrator.assets.datasets import prepare_data
from orchestrator.settings import Settings
from orchestrator.storage import open_storage
from orchestrator.worker.job import Job
from orchestrator.worker.measure import FewSteps, measure_apart


class _Epoch:
    """Data whose batches take a known time."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def train_batches(self, epoch: int) -> Iterator[Any]:
        for number in range(1000):
            self.now += 10.0 if number == 0 else 0.5  # the first waits for what is initialised at its first use
            yield SimpleNamespace(images_of_all=100)


def test_an_epoch_ends_after_the_steps_and_the_seconds_and_its_later_half_counts() -> None:
    data = _Epoch()
    few = FewSteps(data, batches=3, at_least_s=2.0, now=data.clock)  # type: ignore[arg-type]
    for _ in few.train_batches(0):
        data.now += 0.5  # the training
    assert len(few.images) == 4, "three steps, and until two seconds of the later ones are measured"
    assert few.images_per_s() == pytest.approx(200 / 1.5)
    few = FewSteps(_Epoch(), batches=1, at_least_s=0.0, now=data.clock)  # type: ignore[arg-type]
    assert len(list(few.train_batches(0))) == 1, "a single batch counts"


@pytest.mark.parametrize("slower", [1.0, 7.0])
def test_the_processes_of_a_team_end_at_the_step_that_the_first_one_computes(slower: float) -> None:
    said: list[int] = []

    def agree(mine: int) -> int:
        said.append(mine)
        return said[0]

    for pace in (1.0, slower):
        data = _Epoch()
        few = FewSteps(data, batches=3, at_least_s=2.0, agree=agree, now=data.clock)  # type: ignore[arg-type]
        for _ in few.train_batches(0):
            data.now += 0.5 * pace
        assert len(few.images) == 6, "the first takes a second a step: two seconds, after the first step, by threes"
    assert len(said) == 2, "each is asked once"


@pytest.mark.slow
def test_a_process_has_its_limit_of_memory_and_says_what_it_lacks(tmp_path: Path) -> None:
    config: dict[str, Any] = {
        "data": {"source": "synthetic", "synthetic": {"images": 200, "size": 32}},
        "tasks": ["age"],
        "image": {"size": 32},
        "batch_size": 32,
        "schedule": {"name": "constant", "epochs": 3},
        "model": {"name": "basic_cnn", "conv_layers": 1, "base_features": 8, "hidden": 8192},
    }
    storage = open_storage(str(tmp_path / "storage"))
    data = prepare_data(
        DataConfig.model_validate(config["data"]), storage=storage, cache=Settings.from_environment().cache
    )
    job = Job(
        sweep_id="check",
        trial_id="check",
        attempt=0,
        storage=storage.uri,
        config=TrialConfig.from_document(config).to_document(),
        objective={"metric": "val/age_mae", "direction": "minimize"},
        keep={},
        data=data,
    )
    # Weights of 8 * 16 * 16 * 8192 numbers, their gradients and Adam's two averages: 268 MB.
    with pytest.raises(MemoryError):
        measure_apart(job, memory_bytes=200e6, gpu_share=0)
    measured = measure_apart(job, memory_bytes=4e9, gpu_share=0)
    assert measured.main_gb is not None
    assert 0.3 < measured.main_gb < 2
    assert measured.images_per_s > 0
    assert measured.epoch_s > 160 / measured.images_per_s
    assert not list((tmp_path / "storage").glob("sweeps/*")), "there is no trial"
