"""From what people type to IDs: unique prefixes of sweeps and trials, MLflow run IDs; and the summaries of sweeps."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from agr_core.errors import IntegrityError
from agr_core.objective import BEST
from agr_core.registry import did_you_mean
from orchestrator.errors import AmbiguousIdError, NotFoundError
from orchestrator.ids import match_prefix, sweep_name
from orchestrator.journal import read_journal, read_state
from orchestrator.records import SweepStarted
from orchestrator.settings import Settings
from orchestrator.state import SweepState
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.tracking import open_tracker
from orchestrator.tracking.base import Tracker
from orchestrator.tracking.describe import SWEEP_ID, TRIAL_ID

LOST_AFTER_S = 30.0
"""A running sweep whose driver has not been heard of for so long (seconds) is lost."""

_RUN_ID = re.compile(r"[0-9a-f]{32}")


def find_sweep(storage: Storage, text: str) -> str:
    """The one sweep of that name, or else the one whose ID starts with ``text``.

    A name alone means no sweep of a longer one: `faces` is not `faces-rerun`.

    Raises:
        NotFoundError: If there is none.
        AmbiguousIdError: If there are several; the text lists them.
    """
    sweep_ids = storage.folders(layout.SWEEPS)
    named = [sweep_id for sweep_id in sweep_ids if sweep_name(sweep_id) == text]
    return match_prefix(text, named or sweep_ids, kind="sweep", where=storage.uri)


def find_trial(storage: Storage, text: str) -> tuple[str, str]:
    """Sweep and trial, of a trial ID's unique beginning, ``SWEEP/TRIAL`` (both may be cut short) or an MLflow run ID.

    Behind any of them ``@label`` may name an epoch that the trial keeps; see ``label_of``.

    Raises:
        NotFoundError: If there is no such trial, or its sweep keeps nothing for the label.
        AmbiguousIdError: If there are several; the text lists them.
    """
    text, label = text.partition("@")[0], label_of(text)
    sweep_id, trial_id = _find_trial(storage, text)
    if label != BEST:
        keep = read_start(storage, sweep_id).keep
        if label not in keep:
            known = ", ".join(["best", *keep])
            raise NotFoundError(
                f"sweep {sweep_id} keeps no epoch for {label!r}.{did_you_mean(label, keep)} It keeps: {known}."
            )
    return sweep_id, trial_id


def label_of(text: str) -> str:
    """The label in ``TRIAL@label``; ``best`` without one."""
    _, at, label = text.partition("@")
    return label if at else BEST


def _find_trial(storage: Storage, text: str) -> tuple[str, str]:
    if _RUN_ID.fullmatch(text):
        return _trial_of_run(storage, text)
    sweep, slash, prefix = text.rpartition("/")
    sweeps = (find_sweep(storage, sweep),) if slash else storage.folders(layout.SWEEPS)
    # Folders are cheap to list. A trial that never wrote anything has none and is only in its sweep's journal.
    found = _match(prefix, {sweep_id: storage.folders(layout.trials(sweep_id)) for sweep_id in sweeps})
    found = found or _match(prefix, {sweep_id: _journalled_trials(storage, sweep_id) for sweep_id in sweeps})
    if found is None:
        raise NotFoundError(
            f"no trial starts with {text!r} in {storage.uri}. `agr leaderboard SWEEP` shows a sweep's trials."
        )
    return found


def _match(prefix: str, trials: dict[str, tuple[str, ...]]) -> tuple[str, str] | None:
    found = [(sweep, trial) for sweep, ids in trials.items() for trial in ids if trial.startswith(prefix)]
    found = [(sweep, trial) for sweep, trial in found if trial == prefix] or found
    if len(found) > 1:
        shown = ", ".join(f"{sweep}/{trial}" for sweep, trial in found[:10]) + (", ..." if len(found) > 10 else "")
        raise AmbiguousIdError(f"trial {prefix!r} is ambiguous: {shown}. Type more of it.")
    return found[0] if found else None


def _journalled_trials(storage: Storage, sweep_id: str) -> tuple[str, ...]:
    try:
        return tuple(read_state(storage, sweep_id).trials)
    except NotFoundError:  # its driver has only just begun
        return ()


def _trial_of_run(storage: Storage, run_id: str) -> tuple[str, str]:
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


def run_ids(tracker: Tracker, sweep: SweepStarted) -> dict[tuple[str, str], str]:
    """The tracker's run of each (sweep_id, trial_id) of a sweep, as far as it has them.

    Raises:
        TrackerError: If the tracker refuses or does not answer.
    """
    experiment_id = tracker.find_experiment(sweep.experiment)
    runs = [] if experiment_id is None else tracker.runs(experiment_id, {SWEEP_ID: sweep.sweep_id})
    return {(sweep.sweep_id, run.tags[TRIAL_ID]): run.run_id for run in reversed(runs) if TRIAL_ID in run.tags}


def read_start(storage: Storage, sweep_id: str) -> SweepStarted:
    """The first event of a sweep's journal, without reading the rest.

    Raises:
        NotFoundError: If the sweep has no journal.
    """
    for _, events in read_journal(storage, sweep_id):
        return SweepState.from_events(events[:1]).started
    raise NotFoundError(f"there is no sweep {sweep_id!r} in {storage.uri}. `agr list` shows what there is.")


def read_summary(storage: Storage, sweep_id: str, *, now: float) -> dict[str, Any]:
    """The sweep's summary, with status ``lost`` where its driver has fallen silent.

    Raises:
        NotFoundError: If its driver has written none yet.
        IntegrityError: If it is not the JSON a driver writes.
    """
    key = layout.summary(sweep_id)
    text = storage.read(key)
    try:
        summary: dict[str, Any] = json.loads(text)
        silent_s = now - float(summary["heartbeat"])
        float(summary["started"])  # sweeps are listed by it
        if summary["status"] == "running" and silent_s > LOST_AFTER_S:
            summary["status"] = "lost"
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{storage.uri}/{key} is not a sweep's summary: {error}") from error
    return summary


def summaries(
    storage: Storage, *, now: float, unreadable: Callable[[IntegrityError], None] = lambda _: None
) -> Iterator[dict[str, Any]]:
    """The summaries of all sweeps, newest first. A sweep whose driver has only just begun has none.

    ``unreadable`` hears of each that is not what a driver writes; it hides no other.
    """
    found = []
    for sweep_id in storage.folders(layout.SWEEPS):
        try:
            found.append(read_summary(storage, sweep_id, now=now))
        except NotFoundError:
            continue
        except IntegrityError as error:
            unreadable(error)
    yield from sorted(found, key=lambda summary: (-summary["started"], summary["sweep_id"]))
