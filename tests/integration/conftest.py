"""Fixtures: ``agr`` as real processes with a separate home, real Ray, and MLflow on SQLite.

Sweeps join one Ray cluster, but for those of ``Agr.embedded()``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import ray
from ruamel.yaml import YAML

from agr_core.evaluation.names import is_of_the_machine
from orchestrator.ray_tune.session import start_ray

SWEEP: dict[str, Any] = {
    "name": "tiny",
    "trial": {
        "data": {"source": "synthetic", "synthetic": {"images": 300, "size": 32}},
        "tasks": ["age", "gender"],
        "image": {"size": 32},
        "batch_size": 60,
        "schedule": {"name": "cosine", "epochs": 5},
        "model": {"name": "basic_cnn", "conv_layers": 2, "base_features": 4, "hidden": 8},
    },
    "space": {
        "optimizer": [
            {"name": "nadam", "lr": {"loguniform": [1.0e-4, 1.0e-2]}},
            {"name": "sgd", "lr": {"loguniform": [1.0e-3, 1.0e-1]}},
        ],
        "age": [{"encoding": "regression"}, {"encoding": ["onehot", "ordinal"], "bins": "utk7"}],
    },
    "search": {"algorithm": "tpe", "trials": 14, "seed": 7},
    "scheduler": {"name": "asha", "grace_epochs": 1, "reduction_factor": 2},
    "objective": {"metric": "val/age_mae", "direction": "minimize"},
    "concurrency": 1,
}


@dataclass
class Agr:
    """``agr`` with a separate home."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    def embedded(self) -> Agr:
        """Return ``agr`` with the same home and an embedded Ray for each sweep."""
        return replace(self, environment={k: v for k, v in self.environment.items() if k != "RAY_ADDRESS"})

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "AGR_HOME": str(self.home), "COLUMNS": "160", **self.environment}

    def start(self, *arguments: str, stderr: Path | None = None) -> subprocess.Popen[str]:
        """Start a command with its output in a pipe or a file."""
        with contextlib.ExitStack() as stack:
            stderr_target = subprocess.PIPE if stderr is None else stack.enter_context(stderr.open("w"))
            return subprocess.Popen(
                [sys.executable, "-m", "orchestrator.cli.main", *arguments],
                env=self._environment(),
                stdout=subprocess.PIPE,
                stderr=stderr_target,
                text=True,
            )

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; fail with its output if its exit code is not ``code``."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=280)
        assert process.returncode == code, f"agr {' '.join(arguments)} ended with {process.returncode}:\n{out}\n{err}"
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def json(self, *arguments: str, code: int = 0) -> Any:
        """Run a command; return the JSON that it prints."""
        return json.loads(self.run(*arguments, "--json", code=code).stdout)

    def sweep_file(self, **changes: Any) -> str:
        """Write the tiny sweep file with top-level parts replaced (None: removed)."""
        document = {key: value for key, value in {**SWEEP, **changes}.items() if value is not None}
        self.home.mkdir(parents=True, exist_ok=True)
        path = self.home / f"{document['name']}.yaml"
        YAML(typ="safe").dump(document, path)
        return str(path)

    def summaries(self) -> list[dict[str, Any]]:
        """Return the summaries printed by ``agr list``, newest first."""
        listed: list[dict[str, Any]] = self.json("list")
        return listed

    def events(self, sweep_id: str) -> list[dict[str, Any]]:
        """Return the events of a sweep's journal, read from the files of the local storage."""
        folder = self.home / "storage" / "sweeps" / sweep_id / "journal"
        lines = [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]
        return [line for line in lines if line["kind"] != "segment"]  # a segment's first line is its link in the chain


def histories(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return configuration, value of each epoch and outcome of each trial, in order of creation; no IDs, no times."""
    trials: dict[str, dict[str, Any]] = {}
    for event in events:
        if event["kind"] == "trial_created":
            trials[event["trial_id"]] = {"config": event["config"], "values": {}, "metrics": {}, "ends": []}
        elif event["kind"] == "trial_reported":
            trial = trials[event["trial_id"]]
            trial["values"][event["epoch"]] = event["value"]
            trial["metrics"][event["epoch"]] = {k: v for k, v in event["metrics"].items() if not is_of_the_machine(k)}
        elif event["kind"] == "trial_ended":
            trials[event["trial_id"]]["ends"].append((event["outcome"], event["value"], event["epochs"]))
        elif event["kind"] == "trial_resumed":
            trials[event["trial_id"]]["ends"].clear()
    return list(trials.values())


def wait_for_ends(agr: Agr, number: int, *, sweep: str = "", timeout_s: float = 120) -> str:
    """Wait until a sweep whose ID starts with ``sweep`` has ``number`` ended trials; return its ID."""
    folder = agr.home / "storage" / "sweeps"
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        for path in sorted(folder.glob(f"{sweep}*")):
            ends = [event for event in agr.events(path.name) if event["kind"] == "trial_ended"]
            if len(ends) >= number:
                return path.name
        time.sleep(0.05)
    raise TimeoutError(f"{number} trials did not end in {timeout_s} s")


def wait_for_a_half_trained_trial(agr: Agr, ended: int, *, sweep: str, timeout_s: float = 120) -> str:
    """Wait until a number of trials have ended and the next has passed its first rungs; return the sweep's ID."""
    sweep_id = wait_for_ends(agr, ended, sweep=sweep, timeout_s=timeout_s)
    folder = agr.home / "storage" / "sweeps" / sweep_id / "trials"
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        # The rungs are 1, 2 and 4: after epoch 3 no trial ends.
        over = {event["trial_id"] for event in agr.events(sweep_id) if event["kind"] == "trial_ended"}
        for trial in folder.iterdir():
            reports = [path.read_text().splitlines() for path in trial.glob("attempt-*/metrics.jsonl")]
            if trial.name not in over and max(map(len, reports), default=0) == 3:
                return sweep_id
        time.sleep(0.01)
    raise TimeoutError(f"no trial was seen half trained in {timeout_s} s")


@pytest.fixture(scope="session")
def ray_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a one-node Ray cluster shared by all sweeps; one per sweep would cost seven seconds of two cores each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGR_HOME", str(tmp_path_factory.mktemp("node") / "home"))  # workers have their node's environment
        start_ray(num_cpus=2, loopback=False)  # commands in other processes join it
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()


@pytest.fixture(scope="session")
def furnished(ray_address: str, empty_mlflow_database: Path) -> Callable[[Path], Agr]:
    """Return a function that prepares a home with MLflow's tables (five seconds of a core to create) for ``agr``."""

    def furnish(home: Path) -> Agr:
        home.mkdir(mode=0o700)
        shutil.copy(empty_mlflow_database, home / "mlflow.db")
        return Agr(home, {"RAY_ADDRESS": ray_address, "RAY_AUTH_MODE": "token"})

    return furnish


@pytest.fixture
def agr(tmp_path: Path, furnished: Callable[[Path], Agr]) -> Agr:
    return furnished(tmp_path / "home")


@pytest.fixture(scope="module")
def shared_agr(tmp_path_factory: pytest.TempPathFactory, furnished: Callable[[Path], Agr]) -> Agr:
    return furnished(tmp_path_factory.mktemp("shared") / "home")


@pytest.fixture(scope="session")
def read_histories() -> Callable[[list[dict[str, Any]]], list[dict[str, Any]]]:
    return histories


@pytest.fixture(scope="session")
def wait_until_ended() -> Callable[..., str]:
    return wait_for_ends


@pytest.fixture(scope="session")
def wait_until_half_trained() -> Callable[..., str]:
    return wait_for_a_half_trained_trial
