"""Resolve user input to IDs: unique prefixes of sweeps and trials, MLflow run IDs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from agr_core.objective import BEST
from agr_core.registry import did_you_mean
from orchestrator.catalog.ids import match_prefix, sweep_name
from orchestrator.catalog.liveness import Silences
from orchestrator.catalog.summary import Summary, SummaryError, read_summary
from orchestrator.errors import AmbiguousIdError, NotFoundError
from orchestrator.journal.events import SweepStarted
from orchestrator.journal.segments import read_journal, read_state
from orchestrator.journal.sweep_state import SweepState, TrialState
from orchestrator.storage import layout
from orchestrator.storage.base import Storage

_RUN_ID = re.compile(r"[0-9a-f]{32}")
_RANK = re.compile(r"([1-9][0-9]{0,5})(?:st|nd|rd|th)")
_SHOWN = 5

LAST = "last"
"""Stands for the newest sweep."""

TrialOfRun = Callable[[Storage, str], tuple[str, str]]
"""Finds sweep and trial of an MLflow run ID (``tracking.runs.trial_of_run``); this package does not know MLflow."""


def no_runs(storage: Storage, run_id: str) -> tuple[str, str]:
    """Refuse every run ID: a ``TrialOfRun`` for callers without a tracker."""
    raise NotFoundError(
        f"{run_id!r} looks like an MLflow run ID, which cannot be used here. Give the trial's ID in {storage.uri}, or "
        "SWEEP/TRIAL."
    )


def find_sweep(storage: Storage, text: str, *, older: Callable[[Sequence[str]], None] | None = None) -> str:
    """Return the newest sweep of that name, else the one whose ID starts with ``text``; ``last`` is the newest of all.

    A name matches whole names only: `faces` does not match `faces-rerun`. A sweep that never ran a trial is returned
    only if no other matches.

    Args:
        storage: The storage to search.
        text: Name, ID, beginning of either, or ``last``.
        older: Called with the older sweeps of the same name, newest first, if there are any.

    Raises:
        NotFoundError: If there is none.
        AmbiguousIdError: If sweeps of several names match; the text lists them.
    """
    sweep_ids = storage.folders(layout.SWEEPS)
    if text in sweep_ids:
        return text
    fitting = [sweep_id for sweep_id in sweep_ids if sweep_name(sweep_id) == text]
    if not fitting and text == LAST and sweep_ids:
        return _newest_that_ran(storage, _newest_first(sweep_ids))
    fitting = fitting or [sweep_id for sweep_id in sweep_ids if sweep_id.startswith(text)]
    if not fitting:
        raise NotFoundError(_no_sweep(storage, text, sweep_ids))
    if len({sweep_name(sweep_id) for sweep_id in fitting}) > 1:
        return match_prefix(text, fitting, kind="sweep", where=storage.uri)
    ordered = _newest_first(fitting)
    chosen = _newest_that_ran(storage, ordered)
    rest = ordered[ordered.index(chosen) + 1 :]
    if rest and older is not None:
        older(rest)
    return chosen


def find_sweep_exactly(storage: Storage, text: str) -> str:
    """Return the only sweep of that name, else the one whose ID starts with ``text``: for irreversible commands.

    Raises:
        NotFoundError: If there is none.
        AmbiguousIdError: If there are several; the text lists them.
    """
    sweep_ids = storage.folders(layout.SWEEPS)
    named = [sweep_id for sweep_id in sweep_ids if sweep_name(sweep_id) == text]
    return match_prefix(text, named or sweep_ids, kind="sweep", where=storage.uri)


def ran_nothing(summary: Summary, silence_s: float) -> bool:
    """Return whether a sweep ended before its first trial; its driver has been silent for ``silence_s`` seconds."""
    return summary.status_after(silence_s) != "running" and not any(summary.trials.model_dump().values())


def _newest_first(sweep_ids: Iterable[str]) -> list[str]:
    """Sort sweep IDs by their dates, newest first."""
    return sorted(sweep_ids, key=lambda sweep_id: sweep_id.split("-")[-3:], reverse=True)


def _newest_that_ran(storage: Storage, ordered: Sequence[str]) -> str:
    """Return the first of ``ordered`` that has run a trial or may still do so, else the first."""
    return next((sweep_id for sweep_id in ordered if _ran(storage, sweep_id)), ordered[0])


def _ran(storage: Storage, sweep_id: str) -> bool:
    try:
        summary = read_summary(storage, sweep_id)
        # The storage's clock is read only if needed.
        asked = summary.status == "running" and not any(summary.trials.model_dump().values())
        return not ran_nothing(summary, Silences(storage).of(sweep_id) if asked else 0.0)
    except NotFoundError:  # its driver has only just begun, or never began
        return storage.exists(layout.segment(sweep_id, 1))
    except SummaryError:
        return True


def _no_sweep(storage: Storage, text: str, sweep_ids: Sequence[str]) -> str:
    newest = _newest_first(sweep_ids)[:_SHOWN]
    newest_text = f" Newest there: {', '.join(newest)}." if newest else ""
    hint = did_you_mean(text, {sweep_name(sweep_id) for sweep_id in sweep_ids})
    return f"no sweep starts with {text!r} in {storage.uri}.{hint}{newest_text} `agr list` shows what there is."


def find_trial(storage: Storage, text: str, trial_of_run: TrialOfRun = no_runs) -> tuple[str, str]:
    """Return sweep and trial of a trial ID's unique prefix, ``SWEEP/TRIAL`` (both may be prefixes) or an MLflow run ID.

    ``best`` is the best trial of the newest sweep, ``SWEEP/best`` that of a sweep; ``2nd``, ``3rd``, ... are the
    trials of the following ranks, each the one that represents its configuration. Behind any of them ``@label`` may
    name an epoch that the trial keeps; see ``label_of``. ``trial_of_run`` finds the trial of a run ID.

    Raises:
        NotFoundError: If there is no such trial, or its sweep keeps nothing for the label.
        AmbiguousIdError: If there are several; the text lists them.
    """
    text, label = text.partition("@")[0], label_of(text)
    sweep_id, trial_id = _find_trial(storage, text, trial_of_run)
    if label != BEST:
        keep = read_start(storage, sweep_id).keep
        if label not in keep:
            labels = ", ".join(["best", *keep])
            raise NotFoundError(
                f"sweep {sweep_id} keeps no epoch for {label!r}.{did_you_mean(label, keep)} It keeps: {labels}."
            )
    return sweep_id, trial_id


def label_of(text: str) -> str:
    """Return the label in ``TRIAL@label``; ``best`` without one."""
    _, at, label = text.partition("@")
    return label if at else BEST


def _find_trial(storage: Storage, text: str, trial_of_run: TrialOfRun) -> tuple[str, str]:
    if _RUN_ID.fullmatch(text):
        return trial_of_run(storage, text)
    sweep, slash, prefix = text.rpartition("/")
    if prefix == BEST:
        return _best_trial(storage, find_sweep(storage, sweep or LAST))
    if ordinal := _RANK.fullmatch(prefix):
        return _ranked_trial(storage, find_sweep(storage, sweep or LAST), int(ordinal[1]))
    sweeps = (find_sweep(storage, sweep),) if slash else storage.folders(layout.SWEEPS)
    # Folders are cheap to list. A trial that never wrote anything has none and is only in its sweep's journal.
    match = _match(prefix, {sweep_id: storage.folders(layout.trials(sweep_id)) for sweep_id in sweeps})
    match = match or _match(prefix, {sweep_id: _journalled_trials(storage, sweep_id) for sweep_id in sweeps})
    if match is None:
        newest = _newest_first(sweeps)
        examples = _journalled_trials(storage, newest[0])[:_SHOWN] if newest else ()
        examples_text = f" Trials of {newest[0]}: {', '.join(examples)}." if examples else ""
        raise NotFoundError(
            f"no trial starts with {text!r} in {storage.uri}.{examples_text} `agr leaderboard SWEEP` shows a sweep's "
            "trials; `best` is the best one of the newest sweep."
        )
    return match


def _best_trial(storage: Storage, sweep_id: str) -> tuple[str, str]:
    best = read_state(storage, sweep_id).best()
    if best is None:
        raise NotFoundError(
            f"sweep {sweep_id} has no completed trial yet, so there is no best one: see `agr status {sweep_id}`."
        )
    return sweep_id, best.trial_id


def _ranked_trial(storage: Storage, sweep_id: str, rank: int) -> tuple[str, str]:
    places = read_state(storage, sweep_id).ranking()
    if rank > len(places):
        raise NotFoundError(
            f"sweep {sweep_id} has {len(places)} ranked configurations, so none has rank {rank}. "
            f"`agr leaderboard {sweep_id}` shows the ranks."
        )
    return sweep_id, places[rank - 1].configuration.best.trial_id


def _match(prefix: str, trials: dict[str, tuple[str, ...]]) -> tuple[str, str] | None:
    matches = [(sweep, trial) for sweep, ids in trials.items() for trial in ids if trial.startswith(prefix)]
    matches = [(sweep, trial) for sweep, trial in matches if trial == prefix] or matches
    if len(matches) > 1:
        shown = ", ".join(f"{sweep}/{trial}" for sweep, trial in matches[:10]) + (", ..." if len(matches) > 10 else "")
        raise AmbiguousIdError(f"trial {prefix!r} is ambiguous: {shown}. Give more characters.")
    return matches[0] if matches else None


def _journalled_trials(storage: Storage, sweep_id: str) -> tuple[str, ...]:
    try:
        return tuple(read_state(storage, sweep_id).trials)
    except NotFoundError:  # its driver has only just begun
        return ()


def trial_in(state: SweepState, trial_id: str) -> TrialState:
    """Return a trial of a sweep.

    Raises:
        NotFoundError: If its journal never created it; a folder of that name may have another origin.
    """
    trial = state.trials.get(trial_id)
    if trial is None:
        raise NotFoundError(
            f"the journal of sweep {state.started.sweep_id} has no trial {trial_id!r}, although there is a folder of "
            f"that name. `agr leaderboard {state.started.sweep_id}` shows its trials."
        )
    return trial


def read_start(storage: Storage, sweep_id: str) -> SweepStarted:
    """Return the first event of a sweep's journal, without reading the rest.

    Raises:
        NotFoundError: If the sweep has no journal.
    """
    for _, events in read_journal(storage, sweep_id):
        return SweepState.from_events(events[:1]).started
    raise NotFoundError(f"there is no sweep {sweep_id!r} in {storage.uri}. `agr list` shows what there is.")
