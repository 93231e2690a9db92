"""What it costs to run a trial that trains nothing: this project against plain Ray Tune, in one run.

    python tests/benchmarks/orchestration.py [--trials 1000] [--plain 20] [--reused 100] [--algorithm random]

Ours: the real driver, journal, storage and MLflow writer (SQLite), with a trainable whose epochs are empty. Against it,
trials of ``tune.run`` with ``MLflowLoggerCallback`` (SQLite): function trials in fresh actors, and class trials with
``reuse_actors=True``. Fresh actors import torch and timm, as a real trial does. Reports seconds a trial, how many times
ours the others take, and the memory of the driver: at most, and by how much it grows from a fifth of the trials on.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measured
import psutil
from measured import Figure

DRIVER_S, MLFLOW_S = 0.15, 0.5
DRIVER_MB, GROWTH_MB = 350.0, 18.0
REUSED_TIMES, FRESH_TIMES = 3.0, 30.0
"""Goals, on two busy cores; memory at 1,000 trials."""

ONE_EPOCH = {"val/age_mae": 5.0, "val/loss": 1.0, "train/loss": 1.0}


@dataclass(frozen=True)
class Ours:
    """What a trial of ours costs: seconds until the sweep has ended, and until MLflow has it; bytes of the driver."""

    ended_s: float
    delivered_s: float
    most_bytes: int
    grown_bytes: float
    """A trial."""


def ours(trials: int, algorithm: str, home: Path, *, deliver: bool = True) -> Ours:
    """A sweep of trials that train nothing; without ``deliver`` MLflow is left out."""
    from agr_core.reporting import EpochReport
    from orchestrator.cli.driving import started_of
    from orchestrator.journal.events import Event, TrialEnded
    from orchestrator.ray_tune.driver import Engine, start_sweep
    from orchestrator.ray_tune.trainable import TrialTrainable
    from orchestrator.settings import Settings
    from orchestrator.spec.load import sweep_from_document
    from orchestrator.storage import open_storage
    from orchestrator.tracking.writer_process import MlflowWriter
    from orchestrator.worker.job import Job

    class Empty:
        """One epoch with nothing in it."""

        def __init__(self, job: Job) -> None:
            self._value = job.config["optimizer"]["lr"]

        def next_stage(self) -> None:
            """There is none."""

        def stored_files(self) -> dict[str, str]:
            return {}

        def data_staged(self) -> None:
            """There is none."""

        def baseline(self) -> None:
            """There is none."""

        def next_epoch(self) -> tuple[EpochReport, float]:
            metrics = {**ONE_EPOCH, "val/age_mae": self._value}
            return EpochReport(epoch=1, metrics=metrics, finished=True), self._value

        def close(self) -> None:
            """Nothing is held."""

    class NoTraining(TrialTrainable):
        def epochs(self, job: Job) -> Any:
            return Empty(job)

    os.environ["AGR_HOME"] = str(home)
    settings = Settings.from_environment()
    sweep = sweep_from_document(
        {
            "name": "empty",
            "trial": {"data": {"source": "synthetic", "synthetic": {"images": 100, "size": 16}}},
            "space": {"optimizer": {"name": "adam", "lr": {"loguniform": [1e-4, 1e-1]}}, "batch_size": [16, 32, 64]},
            "search": {"algorithm": algorithm, "trials": trials, "seed": 0},
            "scheduler": "none",
            "objective": {"metric": "val/age_mae", "direction": "minimize"},
        }
    )
    storage = open_storage(settings.storage)
    started = started_of(sweep)
    writers: list[MlflowWriter] = []
    driver, held = psutil.Process(), list[int]()

    def hear(event: Event) -> None:
        if isinstance(event, TrialEnded):
            held.append(driver.memory_info().rss)

    engine = Engine(settings=settings, storage=storage, trainable=NoTraining, read_sealed=False, listener=hear)
    begin = time.perf_counter()
    result = start_sweep(
        sweep,
        started,
        engine,
        on_begin=lambda: writers.append(MlflowWriter(storage, started.sweep_id, settings)) if deliver else None,
    )
    ended = time.perf_counter() - begin
    assert result.counts["completed"] == trials, result
    most = max(*held, driver.memory_info().rss)
    assert all(writer.finish(3600) for writer in writers)
    first = len(held) // 5
    grown = (held[-1] - held[first]) / max(len(held) - 1 - first, 1)
    return Ours(ended / trials, (time.perf_counter() - begin) / trials, most, grown)


def plain(trials: int, *, reuse: bool, home: Path) -> float:
    """Seconds a trial of plain Ray Tune."""
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    def function(config: dict[str, Any]) -> None:
        import timm  # noqa: F401 - what a real trial imports
        import torch  # noqa: F401

        tune.report({**ONE_EPOCH, "val/age_mae": config["lr"]})

    class Reused(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            import timm  # noqa: F401
            import torch  # noqa: F401

            self.lr = config["lr"]

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.lr = new_config["lr"]
            return True

        def step(self) -> dict[str, Any]:
            return {**ONE_EPOCH, "val/age_mae": self.lr, "done": True}

    begin = time.perf_counter()
    tune.run(
        Reused if reuse else function,
        num_samples=trials,
        config={"lr": tune.loguniform(1e-4, 1e-1)},
        resources_per_trial={"cpu": 1},
        reuse_actors=reuse,
        storage_path=str(home),
        callbacks=[MLflowLoggerCallback(tracking_uri=f"sqlite:///{home}/plain.db", experiment_name="plain")],
        checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        verbose=0,
    )
    return (time.perf_counter() - begin) / trials


def main() -> None:
    """Run all and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--plain", type=int, default=20)
    parser.add_argument("--reused", type=int, default=100)
    parser.add_argument("--algorithm", default="random", choices=["random", "tpe"])
    arguments = measured.parse(parser, tiny={"trials": 4, "plain": 1, "reused": 2})
    import ray

    with tempfile.TemporaryDirectory(prefix="agr-benchmark-") as folder:
        ray.init(address="local", include_dashboard=False, log_to_driver=False)
        try:
            found = ours(arguments.trials, arguments.algorithm, Path(folder, "home"))
            reused = plain(arguments.reused, reuse=True, home=Path(folder)) if arguments.reused else None
            fresh = plain(arguments.plain, reuse=False, home=Path(folder)) if arguments.plain else None
        finally:
            ray.shutdown()
    figures = [
        Figure(name="a trial in the driver", value=found.ended_s, unit="s", at_most=DRIVER_S),
        Figure(name="a trial until MLflow has it", value=found.delivered_s, unit="s", at_most=MLFLOW_S),
        Figure(name="the driver's memory", value=found.most_bytes / 1e6, unit="MB", at_most=DRIVER_MB),
        Figure(name="growth in 1,000 trials", value=found.grown_bytes / 1e3, unit="MB", at_most=GROWTH_MB),
    ]
    for name, seconds, least in (("reused actors", reused, REUSED_TIMES), ("fresh actors", fresh, FRESH_TIMES)):
        if seconds is not None:
            figures.append(Figure(name=f"plain Tune, {name}", value=seconds, unit="s"))
            figures.append(
                Figure(name=f"over ours, {name}", value=seconds / found.ended_s, unit="times", at_least=least)
            )
    sys.exit(measured.report(figures, arguments))


if __name__ == "__main__":
    main()
