"""Replace trial IDs in ``search.start`` by the configurations of those trials."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agr_core.errors import InputError
from orchestrator.catalog.find import TrialOfRun, find_trial, no_runs, trial_in
from orchestrator.journal.segments import read_state
from orchestrator.spec.load import Sweep, sweep_from_document
from orchestrator.spec.start import start_of_trial
from orchestrator.storage.base import Storage


def with_trials_written_out(sweep: Sweep, storage: Storage, trial_of_run: TrialOfRun = no_runs) -> Sweep:
    """Return ``sweep`` with configurations in place of trial IDs, so that its document depends on no other sweep.

    Only the fields that this sweep varies are taken from a trial. ``trial_of_run`` finds the trial of an
    MLflow run ID.

    Raises:
        NotFoundError: If there is no such trial.
        InputError: If a trial is outside the space.
    """
    search = sweep.document.get("search")
    start: list[Any] = [] if search is None else search.get("start") or []
    if not any(isinstance(entry, str) for entry in start):
        return sweep
    written = [_entry(sweep, entry, storage, trial_of_run) if isinstance(entry, str) else entry for entry in start]
    rewritten = sweep_from_document({**sweep.document, "search": {**sweep.document["search"], "start": written}})
    return replace(rewritten, profile=sweep.profile, profiles=sweep.profiles)


def _entry(sweep: Sweep, text: str, storage: Storage, trial_of_run: TrialOfRun) -> dict[str, Any]:
    sweep_id, trial_id = find_trial(storage, text, trial_of_run)
    created = trial_in(read_state(storage, sweep_id), trial_id).created
    try:
        return start_of_trial(sweep.space, created.config, created.variant)
    except InputError as error:
        raise InputError(f"search.start: trial {trial_id} of {sweep_id}: {error}") from error
