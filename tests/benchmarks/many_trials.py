"""A sweep of very many trials: what each costs the writer, whether its memory grows, and how long its screens take.

    python tests/benchmarks/many_trials.py --trials 10000         # a quarter of an hour on two cores

The trials train nothing and leave no files. They are delivered by the real writer to MLflow on SQLite as they come, a
hundred at a time. Then the commands run as a user's, each in a process of its own.
"""

from __future__ import annotations

import argparse
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import measured
import psutil
from measured import Figure
from mlflow_delivery import OBJECTIVE, write_trial

from orchestrator.catalog.ids import new_sweep_id
from orchestrator.journal.events import DriverStarted, SweepEnded, SweepStarted
from orchestrator.journal.segments import JournalWriter
from orchestrator.settings import Settings
from orchestrator.storage import open_storage
from orchestrator.tracking import open_tracker
from orchestrator.tracking.delivery import Syncer
from orchestrator.tracking.describe import RANK_METRIC, SWEEP_ID
from orchestrator.tracking.report_process import write_report_in_child

STEP = 100
CPU_MS = 42.5
"""Half of what a trial cost before delivery went in batches."""
GROWTH_KB = 2.0
"""A trial that is over is compressed. MLflow keeps the artifact stores of 1,000 runs; the growth is of what follows."""
LEADERBOARD_S, REPORT_S, VIEW_S = 2.0, 20.0, 3.0

FIRST_PAGE = """
import sys, time
from mlflow import MlflowClient
uri, experiment, rank = sys.argv[1:]
client = MlflowClient(uri)
client.get_experiment(experiment)
began = time.perf_counter()
assert client.search_runs([experiment], max_results=100, order_by=[f"metrics.`{rank}` ASC"])
print(time.perf_counter() - began)
"""
"""The query with which MLflow's page fills the saved view, 100 runs by rank, in a process that is up as a server is."""


def main() -> None:
    """Deliver the trials, and time the screens."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    arguments = measured.parse(parser, tiny={"trials": 3})
    logging.getLogger("orchestrator.journal.segments").setLevel(logging.ERROR)  # this journal has no driver's summary
    with tempfile.TemporaryDirectory() as home:
        os.environ.update(AGR_HOME=home, OMP_NUM_THREADS="1")
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        sys.exit(measured.report(_figures(arguments.trials, Path(home)), arguments))


def _figures(trials: int, home: Path) -> list[Figure]:
    settings = Settings.from_environment()
    storage, sweep_id, now = open_storage(settings.storage), new_sweep_id("many"), time.time()
    journal = JournalWriter(storage, sweep_id)
    named = {"name": "many", "experiment": "many", "objective": OBJECTIVE, "document": {}, "provenance": {}}
    journal.append(SweepStarted(time=now, sweep_id=sweep_id, **named))
    journal.append(DriverStarted(time=now, driver_id="0", host="here", pid=1, resumed=False))
    tracker = open_tracker(settings.tracking_uri, settings.mlflow_artifacts)
    experiment = tracker.experiment("many")
    syncer, process = Syncer(storage, tracker, sweep_id, write_report=write_report_in_child), psutil.Process()
    cpu, memory = [], []
    for number in range(trials):
        write_trial(storage, journal, sweep_id, number, bare=True)
        if (number + 1) % STEP == 0 or number + 1 == trials:
            journal.flush()
            before = time.process_time()
            syncer.run_once()
            cpu.append((time.process_time() - before) / (number % STEP + 1) * 1e3)
            memory.append(process.memory_info().rss / 1e6)
    journal.append(SweepEnded(time=now + 99, status="completed", wall_s=99.0))
    journal.flush()
    before = time.process_time()
    syncer.run_once()
    end_ms = (time.process_time() - before) / trials * 1e3
    most_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    tenth = max(1, len(cpu) // 10)
    growth_kb = (memory[-1] - memory[tenth - 1]) * 1e3 / max(1, trials - tenth * STEP)
    figures = [
        Figure(name="delivery, last tenth: CPU", value=sum(cpu[-tenth:]) / tenth, unit="ms/trial", at_most=CPU_MS),
        Figure(name="delivery, first tenth: CPU", value=sum(cpu[:tenth]) / tenth, unit="ms/trial"),
        Figure(name="the sweep's end: CPU", value=end_ms, unit="ms/trial"),
        Figure(name="writer's memory: growth", value=growth_kb, unit="KB/trial", at_most=GROWTH_KB),
        Figure(name="writer's memory: most, at the end", value=most_mb, unit="MB"),
    ]
    began = time.perf_counter()
    tracker.runs(experiment, {SWEEP_ID: sweep_id})
    figures.append(Figure(name="all runs out of MLflow", value=time.perf_counter() - began, unit="s"))
    page_s = float(_run("-c", FIRST_PAGE, settings.tracking_uri, experiment, RANK_METRIC).splitlines()[-1])
    figures.append(Figure(name="the view's first page", value=page_s, unit="s", at_most=VIEW_S))
    for command, most_s in (
        (("leaderboard", sweep_id), LEADERBOARD_S),
        (("report", sweep_id, "-o", str(home / "report.html")), REPORT_S),
    ):
        began = time.perf_counter()
        _run("-m", "orchestrator.cli.main", *command)
        figures.append(Figure(name=f"agr {command[0]}", value=time.perf_counter() - began, unit="s", at_most=most_s))
    return figures


def _run(*arguments: str) -> str:
    return subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()
