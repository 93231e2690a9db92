"""Memory, cores, GPUs and processes of a trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import SpecError
from orchestrator.spec.load import Sweep, sweep_from_document

SWEEPS = Path(__file__).parents[3] / "sweeps"
OBJECTIVE = {"metric": "val/age_mae", "direction": "minimize"}


def sweep(**more: Any) -> Sweep:
    return sweep_from_document({"name": "test", "objective": OBJECTIVE, **more})


def problems(**more: Any) -> list[str]:
    with pytest.raises(SpecError) as caught:
        sweep(**more)
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "sweep.yaml"
    file.write_text(text, encoding="utf-8")
    return file


MINIMAL = "name: minimal\nobjective: {metric: val/age_mae, direction: minimize}\n"


@pytest.mark.parametrize(("cpus", "threads"), [(1, 1), (0.5, 1), (2, 2), (3.7, 3)])
def test_threads_are_the_cores_of_a_trial(cpus: float, threads: int) -> None:
    assert sweep(resources={"cpus": cpus}).space.build(lambda *_: None).config.compute.threads == threads


@pytest.mark.parametrize("part", ["trial", "space"])
def test_threads_that_are_given_stay(part: str) -> None:
    loaded = sweep(**{"resources": {"cpus": 4}, part: {"compute": {"threads": 2}}})
    assert loaded.space.build(lambda *_: None).config.compute.threads == 2


@pytest.mark.parametrize(
    ("given", "memory"),
    [("6GB", 6 * 10**9), ("1.5 GiB", 3 * 2**29), ("512MiB", 2**29), ("800K", 800_000), (10**9, 10**9)],
)
def test_memory_is_given_in_words_or_bytes(given: Any, memory: int) -> None:
    assert sweep(resources={"memory": given}).spec.resources.memory == memory


def test_an_invalid_amount_of_memory_is_refused() -> None:
    with pytest.raises(SpecError, match="'plenty' is not an amount of memory; write it as 6GB"):
        sweep(resources={"memory": "plenty"})


def test_several_gpus_mean_a_process_on_each_and_the_cores_shared() -> None:
    compute = sweep(resources={"cpus": 10, "gpus": 4}).space.build(lambda *_: None).config.compute
    assert (compute.processes, compute.threads) == (4, 2)


def test_processes_without_gpus_share_the_cores() -> None:
    loaded = sweep(resources={"cpus": 4}, trial={"compute": {"processes": 2}})
    assert loaded.space.build(lambda *_: None).config.compute.threads == 2


@pytest.mark.parametrize(
    ("resources", "processes", "message"),
    [
        ({"gpus": 3}, 2, r"gpus=3 for compute\.processes=2: each process needs its own GPU; give gpus: 2"),
        ({"gpus": 0.5}, 2, r"gpus=0\.5 for compute\.processes=2"),
        ({"gpus": 2}, 1, r"gpus=2 for compute\.processes=1: one process uses one GPU"),
    ],
)
def test_processes_that_are_not_one_a_gpu_are_refused(resources: Any, processes: int, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        sweep(resources=resources, trial={"compute": {"processes": processes}})


def test_processes_may_not_vary() -> None:
    with pytest.raises(SpecError, match=r"compute\.processes is 1 and 2 in different trials"):
        sweep(space={"compute": {"processes": [1, 2]}})
