"""What it costs to deliver a trial to MLflow: six epochs of sixteen metrics, the whole configuration, its files.

    python tests/benchmarks/mlflow_delivery.py                            # SQLite without a server
    python tests/benchmarks/mlflow_delivery.py --uri http://127.0.0.1:5000
    python tests/benchmarks/mlflow_delivery.py --bare                     # no-op trials: no pictures to draw

Prints seconds and this process's CPU seconds per trial. The journal is written before the clock starts.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import measured
from measured import Figure

from agr_core.config import TrialConfig
from agr_core.objective import Objective
from agr_core.reporting import EpochReport
from orchestrator.catalog.ids import new_sweep_id, trial_id
from orchestrator.journal.events import (
    AttemptStarted,
    DriverStarted,
    SweepEnded,
    SweepStarted,
    TrialCreated,
    TrialEnded,
    TrialReported,
)
from orchestrator.journal.segments import JournalWriter
from orchestrator.storage import layout, open_storage
from orchestrator.storage.base import Storage
from orchestrator.tracking import open_tracker
from orchestrator.tracking.delivery import Syncer
from orchestrator.tracking.describe import shown_metrics

GOAL_MS = 250.0
"""With SQLite."""

EPOCHS = 6
OBJECTIVE = Objective(metric="val/age_mae", direction="minimize")
SCHEMES = ["0-2", "3-9", "10-20", "21-27", "28-45", "46-65", "66+"]


def confusion(labels: list[str]) -> dict[str, object]:
    """A confusion matrix of as many classes as there are labels."""
    classes = range(len(labels))
    return {"labels": labels, "counts": [[10 + 3 * row + column for column in classes] for row in classes]}


def write_trial(storage: Storage, journal: JournalWriter, sweep_id: str, number: int, *, bare: bool) -> None:
    """One trial from proposal to end, with the files it leaves."""
    trial = trial_id(sweep_id, number)
    now = time.time()
    config = TrialConfig.from_document({"optimizer": {"name": "nadam", "lr": 0.001 * (number + 1)}})
    created = TrialCreated(
        time=now,
        trial_id=trial,
        number=number,
        configuration=number,
        config=config.to_document(),
        params={"optimizer.name": "nadam", "optimizer.lr": 0.001 * (number + 1)},
        proposal={},
        config_digest="c" * 64,
        data_digest="d" * 64,
        split_digest="5" * 64,
        data_uri="d",
    )
    journal.append(created)
    journal.append(AttemptStarted(time=now, trial_id=trial, attempt=0, node="here"))
    tables = {
        "val/age_confusion": confusion(SCHEMES),
        "val/gender_confusion": confusion(["female", "male"]),
        "val/race_confusion": confusion(["White", "Black", "Asian", "Indian", "Others"]),
    }
    reports = []
    for epoch in range(1, EPOCHS + 1):
        metrics = dict.fromkeys(shown_metrics(created, [OBJECTIVE]), 10.0 / epoch)
        reports.append(EpochReport(epoch=epoch, metrics=metrics, tables=tables))
        value = metrics[OBJECTIVE.metric]
        journal.append(
            TrialReported(time=now + epoch, trial_id=trial, attempt=0, epoch=epoch, value=value, metrics=metrics)
        )
    journal.append(
        TrialEnded(
            time=now + EPOCHS + 1,
            trial_id=trial,
            outcome="completed",
            epochs=EPOCHS,
            value=10.0 / EPOCHS,
            best_epoch=EPOCHS,
            attempt=0,
        )
    )
    if not bare:
        folder = layout.attempt(sweep_id, trial, 0)
        storage.write(f"{folder}/trial.json", json.dumps({"config": config.to_document(), "provenance": {}}).encode())
        lines = "".join(json.dumps(report.to_json()) + "\n" for report in reports)
        storage.write(f"{folder}/metrics.jsonl", lines.encode())
        storage.write(f"{folder}/log.txt", b"epoch 1\n" * 40)


def main() -> None:
    """Write a journal, deliver it, report the cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uri", help="MLflow server; default: a new SQLite file")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--bare", action="store_true", help="trials that leave no files")
    arguments = measured.parse(parser, tiny={"trials": 2})

    with tempfile.TemporaryDirectory() as folder:
        storage = open_storage(f"{folder}/storage")
        sweep_id = new_sweep_id("delivery")
        journal = JournalWriter(storage, sweep_id)
        now = time.time()
        journal.append(
            SweepStarted(
                time=now,
                sweep_id=sweep_id,
                name="delivery",
                experiment="delivery",
                objective=OBJECTIVE,
                document={},
                provenance={},
            )
        )
        journal.append(DriverStarted(time=now, driver_id="0", host="here", pid=1, resumed=False))
        for number in range(arguments.trials):
            write_trial(storage, journal, sweep_id, number, bare=arguments.bare)
            journal.flush()

        tracker = open_tracker(arguments.uri or f"sqlite:///{folder}/mlflow.db", Path(folder) / "artifacts")
        tracker.experiment("delivery")  # the import of mlflow and a new database's tables are not the trials' cost
        syncer = Syncer(storage, tracker, sweep_id)
        figures = []
        for words, event in (
            ("trials", None),
            ("ranks at the end", SweepEnded(time=now + 99, status="completed", wall_s=99.0)),
        ):
            if event is not None:
                journal.append(event)
                journal.flush()
            wall, cpu = time.perf_counter(), time.process_time()
            syncer.run_once()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            wall_ms, cpu_ms = wall / arguments.trials * 1e3, cpu / arguments.trials * 1e3
            goal = GOAL_MS if event is None and arguments.uri is None else None
            figures.append(Figure(name=f"{words}: wall", value=wall_ms, unit="ms/trial", at_most=goal))
            figures.append(Figure(name=f"{words}: CPU", value=cpu_ms, unit="ms/trial"))
    sys.exit(measured.report(figures, arguments))


if __name__ == "__main__":
    main()
