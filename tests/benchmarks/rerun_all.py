"""Trains every trial of a sweep again and counts how many come out the same to the last bit.

    python tests/benchmarks/rerun_all.py SWEEP [--storage URI] [--only TEXT] [--by-command N]

What `agr rerun TRIAL` does for one trial through Ray and MLflow is done here for all of them in one process: the
worker's own code trains the recorded configuration on the recorded data and split for as many epochs, and every train/
and val/ figure of every epoch is compared. With --by-command it is `agr rerun --json` itself, for N trials at even
distances, the first and the last among them. Prints a line a trial, what differs, and the counts; exits with 1 if a
trial differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence

from agr_core.reporting import EpochReport
from orchestrator import rerun
from orchestrator.catalog.find import find_sweep
from orchestrator.catalog.ids import new_sweep_id
from orchestrator.journal.events import TrialReported
from orchestrator.journal.segments import read_state
from orchestrator.journal.sweep_state import SweepState, TrialState
from orchestrator.settings import Settings
from orchestrator.storage import layout, open_storage
from orchestrator.storage.base import Storage
from orchestrator.worker.epochs import EpochSource
from orchestrator.worker.job import Job


def train_again(state: SweepState, trial: TrialState, storage: Storage) -> rerun.Comparison:
    """The trial trained again, compared with its record; what is written meanwhile is removed."""
    original = rerun.find_original(storage, state, trial.trial_id)
    epochs = original.reports[-1].epoch
    again = {"sweep_id": new_sweep_id("rerun-all"), "rerun_of": trial.trial_id, "stop_after_epochs": epochs}
    started = state.started.model_copy(update=again)
    source = EpochSource(Job.of(trial.created, started, storage=storage.uri))
    try:
        while source.next_stage() is not None:
            pass
        reports: list[EpochReport] = []
        while len(reports) < epochs:
            reports.append(source.next_epoch()[0])
    finally:
        source.close()
        for each in list(storage.list(layout.sweep(started.sweep_id))):
            storage.delete(each.key)
    journalled = [
        TrialReported(
            time=0.0, trial_id=trial.trial_id, attempt=0, epoch=report.epoch, value=0.0, metrics=dict(report.metrics)
        )
        for report in reports
    ]
    return rerun.compare(original, TrialState(created=trial.created, reports=journalled))


def by_command(state: SweepState, trial: TrialState, storage: Storage) -> rerun.Comparison:
    """As ``train_again``, by the command, which says on stderr what differs; its one-trial sweep stays."""
    name = f"{state.started.sweep_id}/{trial.trial_id}"
    command = [sys.executable, "-m", "orchestrator.cli.main", "rerun", name, "--json", "--storage", storage.uri]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode not in (0, 1) or not done.stdout:  # 1: it came out differently, or an error and no word of it
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode} and gave no result.")
    found = json.loads(done.stdout)
    return rerun.Comparison(found["identical"], found["max_abs_diff"], ())


def evenly(trials: Sequence[TrialState], number: int) -> list[TrialState]:
    """So many of the trials at even distances, the first and the last among them."""
    last = len(trials) - 1
    return [trials[place] for place in sorted({round(last * step / max(1, number - 1)) for step in range(number)})]


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", help="Sweep ID, or a unique beginning of one.")
    parser.add_argument("--storage", help="Where it is; default: AGR_STORAGE.")
    parser.add_argument("--only", default="", help="Only trials whose variant has this in its name.")
    parser.add_argument("--by-command", type=int, metavar="N", help="Call `agr rerun --json`, for N of the trials.")
    arguments = parser.parse_args()
    storage = open_storage(arguments.storage or Settings.from_environment().storage)
    state = read_state(storage, find_sweep(storage, arguments.sweep))
    trials = [trial for trial in state.trials.values() if arguments.only in (trial.created.variant or "")]
    again = train_again
    if arguments.by_command is not None:
        again, trials = by_command, evenly([trial for trial in trials if trial.reports], arguments.by_command)
    counts: Counter[str] = Counter()
    began = time.monotonic()
    for number, trial in enumerate(trials, start=1):
        if not trial.reports:
            counts["without an epoch"] += 1
            continue
        comparison = again(state, trial, storage)
        result = "identical" if comparison.identical else "different"
        counts[result] += 1
        print(
            f"{number}/{len(trials)} {trial.trial_id} {result} {trial.created.variant or ''} "
            f"(at most {comparison.max_abs_diff} apart)",
            flush=True,
        )
        for line in comparison.differences[:5]:
            print(f"    {line}")
    shown = ", ".join(f"{count} {result}" for result, count in counts.items())
    print(f"{state.started.sweep_id}: {len(trials)} trials, {shown}; {time.monotonic() - began:.0f} s")
    return 1 if counts["different"] or not counts["identical"] else 0


if __name__ == "__main__":
    sys.exit(main())
