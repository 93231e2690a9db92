"""Map MLflow's runs to trials and trials to runs."""

from __future__ import annotations

from collections.abc import Collection

from orchestrator.errors import NotFoundError
from orchestrator.journal.events import SweepStarted
from orchestrator.settings import Settings
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.tracking import open_tracker
from orchestrator.tracking.base import Tracker
from orchestrator.tracking.describe import SWEEP_ID, TRIAL_ID, trial_key


def trial_of_run(storage: Storage, run_id: str) -> tuple[str, str]:
    """Return sweep and trial of an MLflow run ID.

    Raises:
        NotFoundError: If MLflow has no such run of a trial, or ``storage`` does not hold its sweep.
        TrackerError: If MLflow refuses or does not answer.
    """
    settings = Settings.from_environment()
    tracker = open_tracker(settings.tracking_uri, settings.mlflow_artifacts)
    run = tracker.get_run(run_id)
    if run is None or TRIAL_ID not in run.tags:
        raise NotFoundError(
            f"MLflow at {tracker.uri} has no trial's run {run_id}. `agr leaderboard --json` shows run IDs."
        )
    sweep_id = run.tags[SWEEP_ID]
    if sweep_id not in storage.folders(layout.SWEEPS):
        raise NotFoundError(f"run {run_id} is of sweep {sweep_id}, which is not in {storage.uri}; give its --storage.")
    return sweep_id, run.tags[TRIAL_ID]


_FEW = 50
"""Number of trials up to which each is searched for by itself: MLflow takes seconds to list thousands of runs."""


def run_ids(
    tracker: Tracker, sweep: SweepStarted, trial_ids: Collection[str] | None = None
) -> dict[tuple[str, str], str]:
    """Return the tracker's existing runs of a sweep by (sweep_id, trial_id).

    Args:
        tracker: Where they are.
        sweep: The sweep.
        trial_ids: Trials whose runs are needed; None: all. The result may have others too.

    Raises:
        TrackerError: If the tracker refuses or does not answer.
    """
    experiment_id = tracker.find_experiment(sweep.experiment)
    if experiment_id is None:
        return {}
    if trial_ids is not None and len(trial_ids) <= _FEW:
        found = {id_: tracker.find_run(experiment_id, trial_key(sweep.sweep_id, id_)) for id_ in trial_ids}
        return {(sweep.sweep_id, id_): run_id for id_, run_id in found.items() if run_id is not None}
    runs = tracker.runs(experiment_id, {SWEEP_ID: sweep.sweep_id})
    return {(sweep.sweep_id, run.tags[TRIAL_ID]): run.run_id for run in reversed(runs) if TRIAL_ID in run.tags}
