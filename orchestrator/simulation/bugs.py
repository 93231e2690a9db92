"""Planted bugs that temporarily break one line of the product, to show that the simulation detects it."""

# ruff: noqa: ARG005 - replacements of methods have their signatures

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from orchestrator import provenance
from orchestrator.catalog import ownership
from orchestrator.search.search import Search
from orchestrator.storage import layout
from orchestrator.storage.patient import PatientStorage
from orchestrator.sweep import conclude
from orchestrator.sweep import run as sweep_run
from orchestrator.sweep.halving import Halving
from orchestrator.sweep.live_state import Standing
from orchestrator.sweep.live_trial import LiveTrial
from orchestrator.sweep.recorder import Recorder
from orchestrator.sweep.settings import SweepSettings
from orchestrator.tracking import describe
from orchestrator.tracking.delivery import Syncer
from orchestrator.worker import attempt


@contextmanager
def _replaced(owner: Any, name: str, change: Callable[[Any], Any]) -> Iterator[None]:
    before = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
    setattr(owner, name, change(before))
    try:
        yield
    finally:
        setattr(owner, name, before)


def segment_without_condition() -> AbstractContextManager[None]:
    """Write a segment even if its number is taken."""

    def change(_: Any) -> Any:
        return lambda self, key, data: self.write(key, data)

    return _replaced(PatientStorage, "create", change)


def report_taken_twice() -> AbstractContextManager[None]:
    """Accept a second report of an epoch that is in the journal."""

    def change(before: Any) -> Any:
        def epoch_reported(self: Any, trial_id: str, report: Any, *more: Any) -> None:
            live = self.standing.live
            live[trial_id] = dataclasses.replace(live[trial_id], epoch=min(live[trial_id].epoch, report.epoch - 1))
            before(self, trial_id, report, *more)

        return epoch_reported

    return _replaced(sweep_run.SweepRun, "epoch_reported", change)


def checkpoint_completed_first() -> AbstractContextManager[None]:
    """Mark the newest checkpoint as complete before its weights are stored."""

    def change(before: Any) -> Any:
        def save(self: Any, training: Any) -> None:
            training.save(self.folder)
            key = f"{layout.checkpoint(self._key, training.epochs_done)}/{attempt.STATE}"
            self._storage.upload(self.folder / attempt.STATE, key)
            self._stored.update(training.kept_epochs.values())
            before(self, training)

        return save

    return _replaced(attempt.Attempt, "save", change)


def heard_before_stored() -> AbstractContextManager[None]:
    """Notify listeners of events that are not stored yet."""

    def change(before: Any) -> Any:
        def record(self: Any, event: Any) -> None:
            before(self, event)
            self.listener(event)

        return record

    return _replaced(Recorder, "record", change)


def budget_ignored() -> AbstractContextManager[None]:
    """Ignore the wall-time budget."""

    def change(before: Any) -> Any:
        return classmethod(
            lambda cls, spec, **more: dataclasses.replace(before.__func__(cls, spec, **more), wall_s=None)
        )

    return _replaced(SweepSettings, "of", change)


def weights_released_too_early() -> AbstractContextManager[None]:
    """Delete the best weights of a completed trial with its checkpoints."""

    def change(before: Any) -> Any:
        return lambda storage, sweep_id, trial_id, outcome, **more: before(
            storage, sweep_id, trial_id, "failed", **{**more, "keep": 1}
        )

    return _replaced(conclude, "release", change)


def last_trial_forgotten() -> AbstractContextManager[None]:
    """End the search one configuration early."""
    return _replaced(Search, "exhausted", lambda before: lambda self, number: before(self, number + 1))


def halving_forgets() -> AbstractContextManager[None]:
    """Leave the rungs of a resumed driver empty."""
    return _replaced(
        sweep_run.SweepRun, "replay", lambda before: lambda self, events, rule: before(self, events, _Deaf(rule))
    )


class _Deaf:
    def __init__(self, rule: Halving) -> None:
        self._rule = rule

    def added(self, trial_id: str, number: int | None) -> None:
        self._rule.added(trial_id, number)

    def reported(self, *_: Any) -> bool:
        return False

    def ended(self, *_: Any) -> None:
        return None


def only_newest_epoch_delivered() -> AbstractContextManager[None]:
    """Deliver only the last of several new epochs to the tracker."""
    return _replaced(describe, "epoch_points", lambda before: lambda reports, names: before(list(reports)[-1:], names))


def stopped_sweep_forgets_trials() -> AbstractContextManager[None]:
    """Skip trials that were ended with their sweep when it is resumed."""

    def change(before: Any) -> Any:
        def apply(self: Any, event: Any) -> None:
            before(self, event)
            if getattr(event, "resumable", False):
                self.interrupted.clear()

        return apply

    return _replaced(Standing, "apply", change)


def best_replaced_before_report() -> AbstractContextManager[None]:
    """Remove superseded best weights with the checkpoint, before the journal has the report of the better epoch."""

    def change(before: Any) -> Any:
        def save(self: Any, training: Any) -> None:
            before(self, training)
            self.remove_superseded(training.epochs_done)

        return save

    return _replaced(attempt.Attempt, "save", change)


def environment_recorded() -> AbstractContextManager[None]:
    """Record the environment of a process with its provenance."""
    return _replaced(
        provenance, "collect", lambda before: lambda: {**before(), "environment": dict(sorted(os.environ.items()))}
    )


def doubled_runs_left() -> AbstractContextManager[None]:
    """Leave runs that the tracker made twice."""
    return _replaced(Syncer, "_remove_surplus", lambda _: lambda self, place: None)


def owner_not_asked() -> AbstractContextManager[None]:
    """Take a sweep without looking for a driver that lives."""
    return _replaced(ownership, "refuse_if_driven", lambda _: lambda storage, state: None)


def attempts_renumbered() -> AbstractContextManager[None]:
    """Give the next attempt of a restarted driver the number of the last one in the journal."""

    def change(_: Any) -> Any:
        return lambda self, first_attempt: dataclasses.replace(self, running=False)

    return _replaced(LiveTrial, "after_restart", change)


def drift_unmarked() -> AbstractContextManager[None]:
    """Deliver trials without the versions under which they ran."""

    def change(before: Any) -> Any:
        return lambda trial: {name: value for name, value in before(trial).items() if name != describe.DRIFT}

    return _replaced(describe, "end_tags", change)


PLANTED: dict[str, Callable[[], AbstractContextManager[None]]] = {
    bug.__name__: bug
    for bug in (
        segment_without_condition,
        report_taken_twice,
        checkpoint_completed_first,
        heard_before_stored,
        budget_ignored,
        weights_released_too_early,
        last_trial_forgotten,
        halving_forgets,
        only_newest_epoch_delivered,
        stopped_sweep_forgets_trials,
        best_replaced_before_report,
        environment_recorded,
        doubled_runs_left,
        owner_not_asked,
        attempts_renumbered,
        drift_unmarked,
    )
}
"""Planted bugs by name."""
