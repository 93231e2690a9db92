"""Shell completion of sweep IDs (with status and best value) and trial IDs (with value and model).

The shell shows printed text as candidates. Errors therefore yield no candidates and print no message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from orchestrator.storage.base import Storage

_SWEEPS = 20
"""Number of newest sweeps whose trials are candidates without a ``SWEEP/`` prefix."""

_TRIALS = 200
"""Maximum number of candidates."""


def sweeps(incomplete: str) -> list[tuple[str, str]]:
    """Return sweep IDs that start with ``incomplete``, newest first, each with its status and best value."""
    from agr_core.errors import AgrError

    try:
        return _sweeps(incomplete)
    except (AgrError, OSError):
        return []


def trials(incomplete: str) -> list[tuple[str, str]]:
    """Return trial IDs that start with ``incomplete``, each with its value and name.

    Trials of the newest sweeps come first, within a sweep the best first. After ``SWEEP/``, only trials of that sweep
    are returned.
    """
    from agr_core.errors import AgrError

    try:
        return _trials(incomplete)
    except (AgrError, OSError):
        return []


def _storage() -> Storage:
    from orchestrator.settings import Settings
    from orchestrator.storage import open_storage

    return open_storage(Settings.from_environment().storage)


def _sweeps(incomplete: str) -> list[tuple[str, str]]:
    from orchestrator.catalog.liveness import Silences
    from orchestrator.catalog.rebuilt import Unreadable, read_summaries

    storage = _storage()
    silences = Silences(storage)
    candidates = []
    for summary in read_summaries(storage):
        if isinstance(summary, Unreadable):
            continue
        if summary.sweep_id.startswith(incomplete):
            best = "" if summary.best is None else f", best {', '.join(f'{value:.4g}' for value in summary.best.point)}"
            silence = silences.of(summary.sweep_id) if summary.status == "running" else 0.0
            candidates.append((summary.sweep_id, f"{summary.status_after(silence)}{best}"))
    return candidates


def _trials(incomplete: str) -> list[tuple[str, str]]:
    from orchestrator.catalog.find import find_sweep
    from orchestrator.catalog.rebuilt import read_summaries

    storage = _storage()
    sweep, slash, prefix = incomplete.rpartition("/")
    if slash:
        sweep_ids: Sequence[str] = (find_sweep(storage, sweep),)
    else:
        sweep_ids = [summary.sweep_id for summary in read_summaries(storage)][:_SWEEPS]
    candidates: list[tuple[str, str]] = []
    for sweep_id in sweep_ids:
        candidates += [(f"{sweep}{slash}{trial}", words) for trial, words in _of_sweep(storage, sweep_id, prefix)]
        if len(candidates) >= _TRIALS:
            break
    return candidates[:_TRIALS]


def _of_sweep(storage: Storage, sweep_id: str, prefix: str) -> list[tuple[str, str]]:
    """Return the sweep's trials whose IDs start with ``prefix``, best first, each with its value and name."""
    from orchestrator.journal.segments import read_state
    from orchestrator.results.leaderboard import rows
    from orchestrator.results.wording import trial_name

    state = read_state(storage, sweep_id)
    return [
        (
            row.trial_id,
            f"{row.outcome or 'running'} {'' if row.value is None else format(row.value, '.4g')} "
            f"{trial_name(state.trials[row.trial_id].created)}",
        )
        for row in rows([state])
        if row.trial_id.startswith(prefix)
    ]
