"""How soon every slot of a large node is busy: real workers, trials that train nothing.

    python tests/benchmarks/slots.py [--slots 64] [--torch] [--warm]

The real driver, journal and storage on a Ray that is told it has so many CPUs; no trial ends before all slots are busy
at once. ``--torch``: each worker imports torch and timm before its first epoch, as a real trial does. Prints the
seconds from the driver's start to the first trial and from there to all slots busy, and what a worker holds. For
comparison, before: as many of Ray's own Tune trials that do nothing, whose start is what Ray and the machine cost.

``--warm``: on a node of ``agr cluster head`` instead, once as many workers as slots wait there.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import measured
import psutil
from measured import Figure

PATIENCE_S = 600
PORT = 16379
GOAL_WARM_S = 10.0
HELD_WARM = 200e6
"""A worker holds more when its imports are done (bytes, resident)."""


def main() -> None:
    """Run the sweep and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--torch", action="store_true")
    parser.add_argument("--warm", action="store_true")
    arguments = measured.parse(parser, tiny={"slots": 2})
    from orchestrator.cluster.token import find_token

    with tempfile.TemporaryDirectory(prefix="agr-slots-") as folder:
        os.environ["AGR_HOME"] = str(Path(folder, "home"))
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(Path(folder, "token"))
        find_token(create=True)  # Ray makes none at a path that is named to it
        print(f"{arguments.slots} slots, {os.cpu_count()} cores here")
        on = warm_node(arguments.slots) if arguments.warm else cold_ray(Path(folder), arguments.slots)
        with on as address:
            figures = measure(Path(folder), arguments.slots, address, with_torch=arguments.torch)
    sys.exit(measured.report(figures, arguments))


@contextmanager
def cold_ray(folder: Path, slots: int) -> Iterator[None]:
    """A Ray of this process."""
    import ray

    ray.init(
        address="local",
        num_cpus=slots,
        include_dashboard=False,
        object_store_memory=200 * 2**20,
        log_to_driver=False,
        logging_level=logging.CRITICAL,
    )
    bare = seconds_of_ray_tune(folder, slots)
    print(f"Ray Tune alone: all slots are busy {bare:.1f} s after its start")
    yield
    ray.shutdown()


@contextmanager
def warm_node(slots: int) -> Iterator[str]:
    """A node of ours on which so many workers wait; its address."""
    from orchestrator.cluster.node import NodeOptions, leave, start_head
    from orchestrator.cluster.ports import Ports
    from orchestrator.ray_tune import warm
    from orchestrator.settings import Settings

    settings = Settings.from_environment()
    begin = time.time()
    node = start_head(NodeOptions(port=PORT, cpus=slots, warm=slots), settings)
    print(f"the node is there after {time.time() - begin:.1f} s")
    try:
        raylet = node.host, Ports(node.port).node_manager
        while not (len(pids := warm.waiting(*raylet)) >= slots and imported(pids)):
            # Ray starts as many at a time as there are cores, and forgets the others.
            warm.fill_up(*raylet, min(slots, len(pids) + (os.cpu_count() or 1)))
            time.sleep(1)
        print(f"{slots} workers wait after {time.time() - begin:.1f} s")
        yield node.address
    finally:
        leave(settings, deadline_s=1, force=True, say=print)


def seconds_of_ray_tune(folder: Path, slots: int) -> float:
    """From the start of ``Tuner.fit`` to the first moment at which as many trials as slots have begun."""
    from ray import tune

    begun = folder / "begun"
    begun.mkdir()

    def wait(config: dict[str, int]) -> None:
        (begun / str(config["number"])).write_text(str(time.time()))
        until = time.monotonic() + PATIENCE_S
        while len(list(begun.iterdir())) < slots and time.monotonic() < until:
            time.sleep(0.5)

    start = time.time()
    tuner = tune.Tuner(
        tune.with_resources(wait, {"cpu": 1}),
        param_space={"number": tune.grid_search(list(range(slots)))},
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), verbose=0),
    )
    tuner.fit()
    times = [float(path.read_text()) for path in begun.iterdir()]
    assert len(times) == slots
    return max(times) - start


def imported(pids: list[int]) -> bool:
    """Whether workers hold as much as after their imports: Ray counts them before."""
    held = [process.memory_info().rss for process in psutil.process_iter() if process.pid in pids]
    return min(held) > HELD_WARM


def measure(folder: Path, slots: int, address: str | None, *, with_torch: bool) -> list[Figure]:
    """One sweep of twice as many trials as slots."""
    from agr_core.reporting import EpochReport
    from orchestrator.cli.driving import started_of
    from orchestrator.ray_tune.driver import Engine, start_sweep
    from orchestrator.ray_tune.trainable import TrialTrainable
    from orchestrator.settings import Settings
    from orchestrator.spec.load import sweep_from_document
    from orchestrator.storage import open_storage
    from orchestrator.worker.job import Job

    seen = folder / "seen"
    seen.mkdir()

    class Waiting:
        """One epoch, which is over when every slot has begun one."""

        def __init__(self, job: Job) -> None:
            self._mine = seen / job.trial_id

        def next_stage(self) -> None:
            """There is none."""

        def stored_files(self) -> dict[str, str]:
            return {}

        def data_staged(self) -> None:
            """There is none."""

        def baseline(self) -> None:
            """There is none."""

        def next_epoch(self) -> tuple[EpochReport, float]:
            if with_torch:
                import timm  # noqa: F401
                import torch  # noqa: F401
            memory = psutil.Process().memory_full_info()
            self._mine.write_text(f"{time.time()} {memory.rss} {memory.uss}")
            until = time.monotonic() + PATIENCE_S
            while len(list(seen.iterdir())) < slots and time.monotonic() < until:
                time.sleep(0.5)
            return EpochReport(epoch=1, metrics={"val/loss": 1.0}, finished=True), 1.0

        def close(self) -> None:
            """Nothing is held."""

    class NoTraining(TrialTrainable):
        def epochs(self, job: Job) -> Any:
            return Waiting(job)

    settings = replace(Settings.from_environment(), ray_address=address)
    sweep = sweep_from_document(
        {
            "name": "slots",
            "trial": {"data": {"source": "synthetic", "synthetic": {"images": 60, "size": 16}}},
            "space": {"optimizer": {"name": "adam", "lr": {"loguniform": [1e-4, 1e-1]}}},
            "search": {"algorithm": "random", "trials": 2 * slots},
            "objective": {"metric": "val/loss", "direction": "minimize"},
            "resources": {"cpus": 1, "memory": "100MB"},
        }
    )
    engine = Engine(settings=settings, storage=open_storage(settings.storage), trainable=NoTraining, read_sealed=False)
    begin = time.time()
    result = start_sweep(sweep, started_of(sweep), engine, on_begin=lambda: None)
    assert result.counts["completed"] == 2 * slots, result
    rows = sorted(tuple(map(float, path.read_text().split())) for path in seen.iterdir())[:slots]
    first, last = rows[0][0], rows[-1][0]
    print(f"torch and timm are {'imported' if with_torch else 'not imported'}")
    waited = address is not None
    return [
        Figure(
            name=f"{slots} slots busy, {'warm' if waited else 'cold'}",
            value=last - begin,
            unit="s",
            at_most=GOAL_WARM_S if waited and not with_torch else None,
        ),
        Figure(name="first trial begins", value=first - begin, unit="s"),
        Figure(name="a worker holds", value=max(row[1] for row in rows) / 1e6, unit="MB"),
        Figure(name="of its own", value=max(row[2] for row in rows) / 1e6, unit="MB"),
    ]


if __name__ == "__main__":
    main()
