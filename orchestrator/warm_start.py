"""Trials of earlier sweeps as a start: the IDs in ``search.start``, replaced by what they stand for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agr_core.errors import InputError
from orchestrator.journal import read_state
from orchestrator.lookup import find_trial
from orchestrator.spec.load import Sweep, sweep_from_document
from orchestrator.spec.start import start_of_trial
from orchestrator.storage.base import Storage


def with_trials_written_out(sweep: Sweep, storage: Storage) -> Sweep:
    """``sweep`` with configurations in the place of trial IDs, so that its document needs no other sweep.

    Of a trial, what this sweep varies is taken; what it fixes stays as it is.

    Raises:
        NotFoundError: If there is no such trial.
        InputError: If a trial lies outside the space.
    """
    search = sweep.document.get("search")
    start: list[Any] = [] if search is None else search.get("start") or []
    if not any(isinstance(entry, str) for entry in start):
        return sweep
    written = [_entry(sweep, entry, storage) if isinstance(entry, str) else entry for entry in start]
    found = sweep_from_document({**sweep.document, "search": {**sweep.document["search"], "start": written}})
    return replace(found, profile=sweep.profile, profiles=sweep.profiles)


def _entry(sweep: Sweep, text: str, storage: Storage) -> dict[str, Any]:
    sweep_id, trial_id = find_trial(storage, text)
    created = read_state(storage, sweep_id).trials[trial_id].created
    try:
        return start_of_trial(sweep.space, created.config, created.variant)
    except InputError as error:
        raise InputError(f"search.start: trial {trial_id} of {sweep_id}: {error}") from error
