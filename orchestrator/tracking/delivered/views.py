"""Delivery of a sweep's saved views to its experiment."""

from __future__ import annotations

from agr_core.objective import objective_names
from orchestrator.journal.events import Event, TrialCreated, TrialReconfigured, TrialReopened
from orchestrator.journal.sweep_state import SweepState
from orchestrator.results import wording
from orchestrator.tracking import describe, notes
from orchestrator.tracking.base import Tracker
from orchestrator.tracking.delivered.trials import Place
from orchestrator.tracking.view import saved_views


class ViewDelivery:
    """Writer of the views, again when a new trial's branch adds params, and when means and ranks are known."""

    def __init__(self) -> None:
        self._varied: list[TrialCreated] = []  # the first with each path of what varies
        self._written: tuple[tuple[str, ...], bool, bool] | None = None  # params, means, ranks

    def apply(self, event: Event, state: SweepState) -> None:
        """Take a journalled event that the state has taken."""
        if isinstance(event, TrialCreated | TrialReconfigured | TrialReopened):
            created = state.trials[event.trial_id].created
            if set(wording.varying([created])) - set(wording.varying(self._varied)):
                self._varied.append(created)

    def deliver(self, tracker: Tracker, state: SweepState, place: Place, *, closed: bool) -> None:
        """Write the views if what they show has changed; ``closed``: the sweep has ended and is delivered."""
        params = wording.varying(self._varied)
        confirmed = state.started.confirm_seeds > 0
        means = closed and (confirmed or state.started.seeds > 1)
        ranked = closed  # a stopped trial has no rank, and may have had a better value than the best
        if not state.trials or self._written == (params, means, ranked):
            return
        first = next(iter(state.trials.values()))
        views = saved_views(
            state.started.sweep_id,
            state.started.objective,
            started=state.started.time,
            metrics=describe.shown_metrics(first.created, state.started.objectives),
            gaps=dict.fromkeys(name for trial in state.trials.values() for name in describe.gap_names(trial)),
            params=params,
            variants=any(trial.created.variant is not None for trial in state.trials.values()),
            means=means,
            further=objective_names(state.started.objectives)[1:],
            ranked=ranked,
        )
        tags = {**views, notes.NOTE: notes.experiment_note(state.started)}
        tracker.set_experiment_tags(place.experiment_id, tags)
        self._written = params, means, ranked
