"""Weights that a journal names while its sweep may still go on: each of them is in the storage."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.journal.events import SweepStarted
from orchestrator.journal.segments import read_state
from orchestrator.storage import layout
from orchestrator.storage.base import Storage


def lost_weights(storage: Storage, started: SweepStarted) -> Iterator[str]:
    """Yield a line for each unended trial whose best reported epoch has no weights.

    Its user may end the sweep in this state, without another epoch of the trial.
    """
    for trial in read_state(storage, started.sweep_id).trials.values():
        if not trial.reports or (trial.ended is not None and not trial.ended.resumable):
            continue
        folder = layout.attempt(started.sweep_id, trial.trial_id, trial.reports[-1].attempt)
        for label, objective in {"best": started.objective, **started.keep}.items():
            best = trial.reports[0]
            for report in trial.reports:
                if objective.better(objective.value(report.metrics), objective.value(best.metrics)):
                    best = report
            if not storage.exists(layout.best_weights(folder, best.epoch)):
                yield f"trial {trial.trial_id} has lost the {label} weights, of epoch {best.epoch}"
