"""End trials and sweeps: journal the end, and remove weights that are no longer needed."""

from __future__ import annotations

from orchestrator.cleanup.retention import checkpoint_files, named_files, release, tidy
from orchestrator.journal.events import SweepEnded
from orchestrator.journal.outcome import Outcome
from orchestrator.journal.segments import read_state
from orchestrator.storage import layout
from orchestrator.sweep.run import SweepRun


def conclude_trial(run: SweepRun, trial_id: str) -> Outcome:
    """Journal the end of a trial that no worker has any more, then remove the weights that are no longer needed.

    Raises:
        SweepOwnedError: If another driver took the sweep; then nothing is removed.
    """
    trial = run.live[trial_id]
    has_files = trial.epoch > 0 and not run.decisions.is_resumable(trial_id)
    named: set[str] = set()
    if trial.best is not None and trial.reported_attempt is not None:
        folder = layout.attempt(run.sweep_id, trial_id, trial.reported_attempt)
        named = {
            *named_files(folder, [trial.best[0], *(epoch for epoch, _ in trial.kept.values())]),
            *checkpoint_files(folder, trial.epoch, trial.created.config),
        }
    outcome = run.trial_over(trial_id)
    if has_files:
        release(run.storage, run.sweep_id, trial_id, outcome, named=named, keep=run.settings.keep_checkpoints)
    return outcome


def tidy_sweep(run: SweepRun) -> None:
    """Remove unneeded weights once no worker has a trial.

    A stopped sweep may be resumed, and confirmations may then promote any configuration: so it keeps the weights of all
    completed trials.
    """
    run.flush()
    state = read_state(run.storage, run.sweep_id)
    over = run.stop is None or run.stop.status == "completed"
    tidy(run.storage, state, keep=run.settings.keep_checkpoints, over=over)


def conclude_sweep(run: SweepRun, *, interrupted: bool) -> SweepEnded:
    """Release a sweep whose trials have all ended, or that is ``interrupted`` by a signal."""
    if interrupted:
        return run.end("interrupted", "by a signal")
    if run.stop is not None:
        return run.end(run.stop.status, run.stop.reason)
    if run.decisions.closed:
        return run.end("completed", run.decisions.closed)
    if run.counts["completed"] == 0:
        return run.end("failed", "no trial completed")
    return run.end("completed")
