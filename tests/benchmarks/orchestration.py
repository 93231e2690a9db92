"""What it costs to run a trial that trains nothing: this project against plain Ray Tune, in one run.

    python tests/benchmarks/orchestration.py [--trials 1000] [--plain 20] [--reused 100] [--algorithm random]

Ours: the real driver, journal, storage and MLflow writer (SQLite), with a trainable whose epochs are empty. Against it,
trials of ``tune.run`` with ``MLflowLoggerCallback`` (SQLite): function trials in fresh actors, and class trials with
``reuse_actors=True``. Fresh actors import torch and timm, as a real trial does. Prints seconds a trial and the ratios.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

ONE_EPOCH = {"val/age_mae": 5.0, "val/loss": 1.0, "train/loss": 1.0}


def ours(trials: int, algorithm: str, home: Path) -> tuple[float, float]:
    """Seconds a trial until the sweep has ended, and until MLflow has all of it."""
    from agr_core.reporting import EpochReport
    from orchestrator.cli.driving import started_of
    from orchestrator.mlflow_writer import MlflowWriter
    from orchestrator.ray_tune.driver import Engine, start_sweep
    from orchestrator.ray_tune.trainable import Job, TrialTrainable
    from orchestrator.settings import Settings
    from orchestrator.spec.load import sweep_from_document
    from orchestrator.storage import open_storage

    class Empty:
        """One epoch with nothing in it."""

        def __init__(self, job: Job) -> None:
            self._value = job.config["optimizer"]["lr"]

        def next_stage(self) -> None:
            """There is none."""

        def data_staged(self) -> None:
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
    engine = Engine(settings=settings, storage=storage, trainable=NoTraining, read_sealed=False)
    begin = time.perf_counter()
    result = start_sweep(
        sweep, started, engine, on_begin=lambda: writers.append(MlflowWriter(storage, started.sweep_id, settings))
    )
    ended = time.perf_counter() - begin
    assert result.counts["completed"] == trials, result
    assert writers[0].finish(3600)
    return ended / trials, (time.perf_counter() - begin) / trials


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
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--plain", type=int, default=20)
    parser.add_argument("--reused", type=int, default=100)
    parser.add_argument("--algorithm", default="random", choices=["random", "tpe"])
    arguments = parser.parse_args()
    import ray

    with tempfile.TemporaryDirectory(prefix="agr-benchmark-") as folder:
        ray.init(address="local", include_dashboard=False, log_to_driver=False)
        try:
            ended, delivered = ours(arguments.trials, arguments.algorithm, Path(folder, "home"))
            reused = plain(arguments.reused, reuse=True, home=Path(folder)) if arguments.reused else None
            fresh = plain(arguments.plain, reuse=False, home=Path(folder)) if arguments.plain else None
        finally:
            ray.shutdown()
    print(f"ours, {arguments.algorithm}, {arguments.trials} trials: {ended:.4f} s a trial, in MLflow {delivered:.4f} s")
    for name, seconds in (("reuse_actors=True", reused), ("fresh function trials", fresh)):
        if seconds is not None:
            print(f"plain Ray Tune, {name}: {seconds:.3f} s a trial, {seconds / ended:.1f} times ours")
    print(f"memory of the driver at most: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
