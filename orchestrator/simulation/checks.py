"""Invariants that hold after every schedule, under any faults."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from agr_core.errors import AgrError
from agr_core.objective import BEST
from orchestrator.catalog.summary import HEARTBEAT_S
from orchestrator.cleanup.retention import checkpoint_files
from orchestrator.journal.events import (
    DriverStarted,
    Event,
    SweepEnded,
    TrialCreated,
    TrialEnded,
    TrialReported,
    TrialResumed,
)
from orchestrator.journal.segments import read_events
from orchestrator.journal.sweep_state import SweepState, TrialState, attempt_folder
from orchestrator.simulation.faults import SECRET
from orchestrator.simulation.schedule import Outcome, undisturbed_events
from orchestrator.simulation.workers import weights
from orchestrator.storage import layout
from orchestrator.tracking import describe

_LATE_S = 3.0
"""Longest time between the end of the budget and the end of the sweep for a driver without delay, in seconds."""


def violations(outcome: Outcome) -> list[str]:
    """Return one line for each invariant that the sweep violated."""
    try:
        events, _ = read_events(outcome.storage, outcome.started.sweep_id)
        state = SweepState.from_events(events)
    except (AgrError, ValueError) as error:
        return [f"the journal cannot be read: {error}"]
    return [
        *_journal(events, state, outcome),
        *_attempts(outcome),
        *(
            f"{driver.actor.name} took the sweep from {driver.usurped}, which lives"
            for driver in outcome.drivers
            if driver.usurped and driver.took
        ),
        *_tracker(state, outcome),
        *outcome.lost,
        *_files(state, outcome),
        *_secrets(outcome),
        *_budget(events, outcome),
        *_history(events, outcome),
    ]


def _journal(events: list[Event], state: SweepState, outcome: Outcome) -> Iterator[str]:
    """Check that no trial is lost or duplicated, and no epoch is recorded twice."""
    created = [event for event in events if isinstance(event, TrialCreated)]
    numbers = [event.number for event in created]
    if numbers != list(range(len(numbers))):
        yield f"trials are numbered {numbers}"
    if len({event.trial_id for event in created}) < len(created):
        yield "a trial was created twice"
    epochs: dict[str, int] = {}
    living: set[str] = set()
    paused: set[str] = set()
    for event in events:
        match event:
            case TrialCreated():
                living.add(event.trial_id)
            case TrialReported():
                if event.trial_id not in living:
                    yield f"trial {event.trial_id} reports epoch {event.epoch} and is not living"
                if event.epoch != epochs.get(event.trial_id, 0) + 1:
                    yield f"trial {event.trial_id} reports epoch {event.epoch} after {epochs.get(event.trial_id, 0)}"
                epochs[event.trial_id] = event.epoch
            case TrialEnded():
                if event.trial_id not in living:
                    yield f"trial {event.trial_id} ends twice"
                living.discard(event.trial_id)
                if event.resumable:
                    paused.add(event.trial_id)
            case TrialResumed():
                if event.trial_id not in paused:
                    yield f"trial {event.trial_id} resumes and was not paused"
                paused.discard(event.trial_id)
                living.add(event.trial_id)
            case _:
                pass
    ended = state.ended
    if ended is not None and ended.status == "completed":
        if living:
            yield f"the sweep is completed, and {len(living)} trials are living"
        spec = outcome.sweep.spec
        assert spec.search is not None
        searched = sum(event.confirms is None for event in created)
        if searched != spec.search.trials and not ended.reason:
            yield f"the sweep is completed with {searched} of {spec.search.trials} trials and gives no reason"
    missing = Counter(map(str, outcome.heard)) - Counter(map(str, events))
    if missing:
        yield f"listeners heard of events that no segment holds: {next(iter(missing))[:200]}"


def _attempts(outcome: Outcome) -> Iterator[str]:
    """Check that no two attempts of a trial have the same number: they would write to one folder."""
    for (trial_id, attempt), count in Counter(outcome.cluster.attempts).items():
        if count > 1:
            yield f"attempt {attempt} of trial {trial_id} was started {count} times"


def _tracker(state: SweepState, outcome: Outcome) -> Iterator[str]:
    """Check that each started trial has one run, with each epoch once and its outcome."""
    runs = list(outcome.tracker.all_runs.values())
    sweeps = [run for run in runs if run.tags.get(describe.KIND) == "sweep"]
    if len(sweeps) != 1:
        yield f"the tracker has {len(sweeps)} runs of the sweep"
    by_trial: dict[str, list[Any]] = {}
    for run in runs:
        if describe.TRIAL_ID in run.tags:
            by_trial.setdefault(run.tags[describe.TRIAL_ID], []).append(run)
    metric = outcome.started.objective.name
    for trial_id, trial in state.trials.items():
        own = by_trial.pop(trial_id, [])
        began = trial.attempts > 0 or trial.ended is not None
        if len(own) != began:
            yield f"the tracker has {len(own)} runs of trial {trial_id}"
            continue
        if not own:
            continue
        points = Counter((point.step, point.value) for point in own[0].metrics if point.name == metric)
        wanted = Counter((report.epoch, report.value) for report in _all_reports(outcome, trial_id))
        if points != wanted:
            yield f"the tracker has epochs {sorted(points)} of trial {trial_id}, the journal {sorted(wanted)}"
        if trial.ended is not None and own[0].tags.get(describe.OUTCOME) != trial.ended.outcome:
            yield f"the tracker has {own[0].tags.get(describe.OUTCOME)} for trial {trial_id}: {trial.ended.outcome}"
        if trial.ended is not None and own[0].tags.get(describe.DRIFT, "") != "; ".join(trial.drift):
            yield f"the tracker does not have the versions under which trial {trial_id} ran: {trial.drift}"
        if trial.ended is not None and own[0].status != describe.RUN_STATUS[trial.ended.outcome]:
            yield f"the tracker has trial {trial_id} as {own[0].status}"
    if by_trial:
        yield f"the tracker has runs of unknown trials {sorted(by_trial)}"


def _all_reports(outcome: Outcome, trial_id: str) -> Iterator[TrialReported]:
    for event in read_events(outcome.storage, outcome.started.sweep_id)[0]:
        if isinstance(event, TrialReported) and event.trial_id == trial_id:
            yield event


_WEIGHTS = re.compile(r".+/trials/(?P<trial>[^/]+)/(?P<attempt>attempt-\d+)/(?P<kind>checkpoints|best)/.+")


def _files(state: SweepState, outcome: Outcome) -> Iterator[str]:
    """Check that after ``gc`` exactly the weights that the journal names remain, with the right contents.

    Those are the weights of the best configurations; of all trials if all are kept; and of trials that may continue.
    """
    if state.ended is None:
        return
    keep = outcome.sweep.spec.keep_checkpoints
    best = {trial.trial_id for place in state.ranking()[:keep] for trial in place.configuration.ranked_trials}
    sweep_id = outcome.started.sweep_id
    needed: dict[str, bytes] = {}
    continuable: set[str] = set()
    for trial in state.trials.values():
        folder = attempt_folder(sweep_id, trial)
        ranked = trial.outcome == "completed" and trial.trial_id in best
        if folder is None or not (keep is None or ranked or _may_continue(trial)):
            continue
        if trial.outcome == "completed" and trial.ended is not None:
            continuable |= checkpoint_files(folder, trial.ended.epochs, trial.created.config)
        for label, epoch in trial.kept_epochs.items():
            if label == BEST or label in outcome.started.keep:
                needed[layout.best_weights(folder, epoch)] = weights(trial.created.config, epoch)
    for key, content in needed.items():
        if key not in outcome.storage.objects:
            yield f"the weights {key} are lost"
        elif outcome.storage.objects[key][0] != content:
            yield f"the weights {key} are not those of their epoch"
        elif state.trials[key.split("/")[3]].recorded_sha256(key) != hashlib.sha256(content).hexdigest():
            yield f"the journal has another SHA-256 of {key}"
    for key in outcome.storage.objects:
        match = _WEIGHTS.fullmatch(key)
        if match is None or key in needed or key in continuable:
            continue
        if not _may_continue(state.trials.get(match["trial"])):
            yield f"{key} is an orphan after gc"


def _may_continue(trial: TrialState | None) -> bool:
    """Return whether the trial may continue, so that all that it has stored stays."""
    return trial is None or trial.ended is None or trial.ended.resumable


def _secrets(outcome: Outcome) -> Iterator[str]:
    """Check that no written object contains a credential."""
    for key, (data, _) in outcome.storage.objects.items():
        if SECRET.encode() in data:
            yield f"{key} holds a credential"
    for run_id, run in outcome.tracker.all_runs.items():
        text = json.dumps([run.tags, run.params], default=str)
        if SECRET in text or any(SECRET.encode() in data for data in run.artifacts.values()):
            yield f"the tracker's run {run_id} holds a credential"


def _covered(spans: list[tuple[float, float]]) -> float:
    """Return the length of the union of spans: a driver lives on until it learns that another took its sweep."""
    length, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        length += max(0.0, end - max(begin, until))
        until = max(until, end)
    return length


def _budget(events: list[Event], outcome: Outcome) -> Iterator[str]:
    """Check that no trial starts after the budget is used up, counting the time of killed drivers."""
    wall = outcome.sweep.spec.budget.wall
    last = next((event for event in reversed(events) if isinstance(event, SweepEnded)), None)
    if wall is None or last is None or last.status != "completed":
        return
    began, reasons = 0.0, Counter(type(event) for event in events)
    held = sum(driver.actor.held_s for driver in outcome.drivers)
    for event in events:
        if isinstance(event, DriverStarted):
            began = event.time
        elif isinstance(event, TrialCreated) and event.time - began > wall + _LATE_S + held:
            yield f"trial {event.trial_id} was created {event.time - began:.0f} s into a budget of {wall:g} s"
    owners = [driver for driver in outcome.drivers if hasattr(driver, "run") and driver.took]
    lived = _covered([(driver.began_at, driver.last_beat) for driver in owners])
    allowed = (HEARTBEAT_S + _LATE_S) * reasons[DriverStarted] + held
    if last.wall_s < lived - allowed:
        yield f"the sweep says {last.wall_s:.0f} s of wall time; its drivers lived {lived:.0f} s"


def _history(events: list[Event], outcome: Outcome) -> Iterator[str]:
    """Check that the history on one worker equals that of an undisturbed sweep."""
    if not outcome.plan.one_worker or not _completed(events):
        return
    for ours, undisturbed in zip(_told(events), _told(undisturbed_events(outcome.plan)), strict=False):
        if ours != undisturbed:
            yield f"undisturbed, the trial would be {undisturbed}; it is {ours}"
            return
    if len(_told(events)) != len(_told(undisturbed_events(outcome.plan))):
        yield "undisturbed, there would be another number of trials"


def _completed(events: list[Event]) -> bool:
    return isinstance(events[-1], SweepEnded) and events[-1].status == "completed"


def _told(events: list[Event]) -> list[Any]:
    """Return configurations, epochs, values and outcomes, in order of creation."""
    state = SweepState.from_events(events)
    return [
        (
            trial.created.config_digest,
            trial.outcome,
            [(report.epoch, report.value) for report in trial.reports],
            trial.ended and (trial.ended.point, trial.ended.best_epoch, trial.ended.kept_epochs),
        )
        for trial in state.trials.values()
    ]
