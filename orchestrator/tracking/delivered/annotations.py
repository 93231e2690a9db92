"""Delivery of notes and tags to the runs of a sweep and its trials."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.journal.annotations import is_annotation, subject_of
from orchestrator.journal.events import ControlReceived, Event
from orchestrator.journal.sweep_state import SweepState
from orchestrator.tracking import describe
from orchestrator.tracking.base import Tracker


class AnnotationDelivery:
    """What has new notes or tags, and has not got them in the tracker."""

    def __init__(self) -> None:
        self._removed: dict[str | None, set[str]] = {}  # names of removed tags, by trial; None: the sweep

    def apply(self, event: Event) -> None:
        """Take a journalled event; all but notes and tags are ignored."""
        if isinstance(event, ControlReceived) and is_annotation(event):
            tags = event.arguments.get("tags", {})
            removed = {name for name, value in tags.items() if value is None}
            self._removed.setdefault(subject_of(event), set()).update(removed)

    def deliver(self, tracker: Tracker, state: SweepState, run_of: Callable[[str | None], str | None]) -> None:
        """Log them. ``run_of`` returns the run of a trial, or of the sweep; None keeps them until there is one."""
        for subject, removed in list(self._removed.items()):
            run_id = run_of(subject)
            if run_id is not None:
                tracker.log(run_id, tags=describe.annotation_tags(state.annotations, subject, removed=removed))
                del self._removed[subject]
