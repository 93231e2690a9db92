"""The learning curves of a finished grid sweep, as a table of numbers: no image, no name of a file.

    python tests/benchmarks/curves.py SWEEP [-o tests/benchmarks/curves.csv]

Reads the journal of the sweep of tests/benchmarks/curves.yaml from the storage that AGR_STORAGE or AGR_HOME names.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from replay.table import TABLE, columns

from orchestrator.journal.segments import read_state
from orchestrator.settings import Settings
from orchestrator.storage import open_storage


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep")
    parser.add_argument("-o", "--output", type=Path, default=TABLE)
    arguments = parser.parse_args()
    state = read_state(open_storage(Settings.from_environment().storage), arguments.sweep)
    unfinished = [trial.trial_id for trial in state.trials.values() if trial.outcome not in ("completed", "diverged")]
    if unfinished:
        sys.exit(f"{len(unfinished)} trials of {arguments.sweep} did not end by themselves, such as {unfinished[0]}.")
    epochs = max(len(trial.reports) for trial in state.trials.values())
    rows = []
    for trial in state.trials.values():
        seconds = [report.metrics["time/epoch_s"] for report in trial.reports]
        row = {**columns(trial.created.config), "outcome": trial.outcome}
        row["seconds"] = f"{min(seconds, default=1.0):.2f}"  # the shortest: the machine had other work too
        row |= {f"epoch_{report.epoch}": f"{report.value:.4f}" for report in trial.reports}
        rows.append(row)
    names = [name for name in rows[0] if not name.startswith("epoch_")]
    with arguments.output.open("w", newline="") as file:
        writer = csv.DictWriter(file, names + [f"epoch_{epoch}" for epoch in range(1, epochs + 1)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} curves of up to {epochs} epochs in {arguments.output}")


if __name__ == "__main__":
    main()
