"""Deliver a sweep's journal to the tracker, for ``agr sync`` and the driver's child process.

The only state is in the tracker, so a delivery may stop anywhere and start again. A run is found by its tags, and a
trial's run is closed, with the outcome among its tags, only after everything has arrived. Open runs are delivered
again, which changes nothing that had arrived. Training never waits for a delivery.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from orchestrator.errors import (
    NotFoundError,
    StorageError,
    TrackerError,
    TrackerFaultError,
    TrackerUnavailableError,
)
from orchestrator.journal.events import (
    AttemptStarted,
    Event,
    SweepStarted,
    TestRead,
    TrialEnded,
    TrialReopened,
    TrialReported,
    TrialResumed,
)
from orchestrator.journal.segments import read_journal
from orchestrator.journal.sweep_state import SweepState, TrialState
from orchestrator.results import leaderboard, wording
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.tracking import describe, files, notes
from orchestrator.tracking.base import MetricPoint, TrackedRun, Tracker, answers
from orchestrator.tracking.delivered.annotations import AnnotationDelivery
from orchestrator.tracking.delivered.compressed import CompressedTrials
from orchestrator.tracking.delivered.surplus import SurplusRuns
from orchestrator.tracking.delivered.trials import DeliveredTrial, Place, release
from orchestrator.tracking.delivered.views import ViewDelivery
from orchestrator.tracking.view import view_link

BEST_WEIGHTS = 3
"""Number of best trials whose weights are logged at the end of the sweep."""

POLL_S = 1.0
"""Time between two polls of a running sweep's journal, in seconds."""

ORPHAN_S = 60.0
"""Longest time that a follower without a driver tries to deliver the stored events, in seconds."""

_SIZES_FROM = 100
"""Number of runs from which the tracker notes its sizes, and again whenever they have doubled."""

_LONGEST_PAUSE_S = 30.0
_MAX_FAULTS = 6  # with the pauses between them, a minute

_log = logging.getLogger(__name__)


class Syncer:
    """Delivery of one sweep; ``write_report`` writes the report at its end. Hold ``exclusive`` while it works."""

    def __init__(
        self,
        storage: Storage,
        tracker: Tracker,
        sweep_id: str,
        *,
        write_report: notes.WriteReport = notes.write_report,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._tracker = tracker
        self._sweep_id = sweep_id
        self._write_report = write_report
        self._segment = 0
        self._state: SweepState | None = None
        self._place: Place | None = None
        self._trials: dict[str, DeliveredTrial] = {}
        self._compressed = CompressedTrials()  # those of the state; the delivered ones are compressed
        self._changed: dict[str, None] = {}  # trials with something to deliver, in order
        self._leaks = 0  # tag of the sweep's run
        self._annotations = AnnotationDelivery()
        self._views = ViewDelivery()
        self._surplus = SurplusRuns(tracker, sweep_id, clock)
        self._closed = False
        self._sizes_at = _SIZES_FROM // 2  # number of runs when the tracker last noted its sizes

    @property
    def place(self) -> Place | None:
        """The tracker's location of the sweep, once its run exists."""
        return self._place

    @property
    def finished(self) -> bool:
        """Whether the sweep has ended and was delivered completely, and no request may still take effect."""
        return self._closed and not self._surplus.may_appear

    def run_once(self) -> None:
        """Deliver the current journal.

        Raises:
            NotFoundError: If the sweep has no journal.
            TrackerUnavailableError: If the tracker does not answer. The next call delivers the rest.
            TrackerError: If the tracker refuses.
        """
        try:
            self._run_once()
        except TrackerUnavailableError:
            self._surplus.request_unanswered()
            raise

    def _run_once(self) -> None:
        state = self._read()
        if self._place is None:
            self._place = self._open(state)
        elif self._closed and state.ended is None:
            self._reopen(self._place.run_id)
        if state.leaks > self._leaks:
            self._tracker.log(self._place.run_id, tags={describe.LEAKS: str(state.leaks)})
            self._leaks = state.leaks
        for trial_id in list(self._changed):
            self._deliver(state, state.trials[trial_id], self._place)
            del self._changed[trial_id]
        self._annotations.deliver(self._tracker, state, self._run_of)
        if state.ended is not None and not self._closed:
            self._close(state, self._place)
        elif self._closed and self._surplus.may_appear:
            self._remove_surplus(self._place)
        self._views.deliver(self._tracker, state, self._place, closed=self._closed)
        if len(self._trials) >= 2 * self._sizes_at:
            self._tracker.note_sizes()
            self._sizes_at = len(self._trials)

    def follow(
        self,
        *,
        announce: Callable[[Place], None] = lambda _: None,
        driver_lives: Callable[[], bool] = lambda: True,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Deliver until the sweep has ended, retrying a tracker or storage that does not answer.

        Start it after the driver's ``DriverStarted`` is stored: a journal that ends in ``SweepEnded`` is finished.

        Args:
            announce: Called once, as soon as the sweep's run exists.
            driver_lives: Returns whether to wait for more. If not, the stored events are delivered, and following ends.
            sleep: Waits the given number of seconds.
            clock: Returns seconds, for the time limit of an orphan.

        Raises:
            TrackerUnavailableError: If there is no driver and the tracker does not answer for 60 s.
            TrackerError: If the tracker refuses, or fails repeatedly at one request while it answers others.
        """
        orphaned_at: float | None = None
        announced = False
        faults = 0  # answers of 500 in a row
        pause = POLL_S  # longer after each failure in a row
        while True:
            # Checked before the journal is read, so that no events of a driver that dies in between are missed.
            lives = driver_lives()
            if not lives and orphaned_at is None:
                orphaned_at = clock()
            try:
                self.run_once()
            except (TrackerUnavailableError, StorageError) as error:
                if orphaned_at is not None and clock() - orphaned_at > ORPHAN_S:
                    raise
                faults = faults + 1 if isinstance(error, TrackerFaultError) else 0
                if faults >= _MAX_FAULTS and answers(self._tracker):
                    raise TrackerError(
                        f"{error} MLflow answers other requests, and failed at this one {faults} times."
                    ) from error
                if pause == POLL_S:
                    _log.warning("%s Retrying; nothing is lost, because the journal has everything.", error)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                delivered = False
            else:
                if pause != POLL_S:
                    _log.warning("The delivery to MLflow at %s continues.", self._tracker.uri)
                pause = POLL_S
                faults = 0
                delivered = True
            if self._place is not None and not announced:
                announce(self._place)
                announced = True
            if delivered and (self.finished or (not lives and not self._surplus.may_appear)):
                return
            sleep(pause)

    def _read(self) -> SweepState:
        if self._state is not None and not self._storage.exists(layout.segment(self._sweep_id, self._segment + 1)):
            return self._state  # one existence check costs less than listing a long journal once a second
        for number, events in read_journal(self._storage, self._sweep_id, after_segment=self._segment):
            for event in events:
                self._apply(event)
            self._segment = number
        if self._state is None:
            raise NotFoundError(f"there is no sweep {self._sweep_id!r} in {self._storage.uri}. `agr list` lists all.")
        return self._state

    def _apply(self, event: Event) -> None:
        if self._state is None:
            self._state = SweepState.from_events([event])
            self._state.trials = self._compressed
        else:
            self._state.apply(event)
        self._annotations.apply(event)
        self._views.apply(event, self._state)
        # A trial that only was created has no run yet: its run starts when the trial starts to train.
        if isinstance(event, AttemptStarted | TrialReported | TrialEnded | TrialResumed | TrialReopened | TestRead):
            self._changed[event.trial_id] = None

    # ---- the sweep's run

    def _open(self, state: SweepState) -> Place:
        """Create or find the sweep's run, and find the runs of its trials."""
        started = state.started
        experiment_id = self._tracker.experiment(started.experiment)
        run_id = self._tracker.run(
            experiment_id,
            describe.sweep_key(self._sweep_id),
            name=self._sweep_id,
            start_time=started.time,
            tags=describe.sweep_tags(started, self._storage.uri),
        )
        runs = self._tracker.runs(experiment_id, {describe.SWEEP_ID: self._sweep_id})
        own = next(run for run in runs if run.run_id == run_id)
        self._closed = state.ended is not None and own.is_closed(
            describe.SWEEP_RUN_STATUS[state.ended.status], describe.sweep_end_key(state)
        )
        if not self._closed:
            with files.scratch() as folder:
                files.write_sweep_files(folder, started)
                self._tracker.log_artifact(run_id, folder)
            self._tracker.log(run_id, params=describe.sweep_params(started))
            self._reopen(run_id)
        for run in runs:
            self._recognise(state, run, parent_run_id=run_id)
        link = view_link(self._tracker.uri, experiment_id, self._sweep_id)
        place = Place(self._tracker.uri, experiment_id, run_id, link)
        if self._closed:
            self._remove_surplus(place)  # of a delivery that was over when a late request took effect
        return place

    def _recognise(self, state: SweepState, run: TrackedRun, *, parent_run_id: str) -> None:
        """Resume a trial's run where an earlier delivery left it."""
        trial = state.trials.get(run.tags.get(describe.TRIAL_ID, ""))
        if trial is None or trial.trial_id in self._trials:
            return
        # The status too: of a run that was parked, a delivery may have died between the last tags and the end.
        closed = trial.ended is not None and run.is_closed(
            describe.RUN_STATUS[trial.ended.outcome], describe.end_key(trial)
        )
        self._trials[trial.trial_id] = DeliveredTrial(
            run.run_id,
            closed=closed,
            parked=run.status != "RUNNING" and not closed,
            rank=run.tags.get(describe.RANK),
        )
        if run.tags.get(describe.PARENT) != parent_run_id:  # the earlier parent run was deleted
            self._tracker.log(run.run_id, tags={describe.PARENT: parent_run_id})
        if closed and not trial.tests:
            self._changed.pop(trial.trial_id, None)
            self._put_away(trial)

    def _reopen(self, run_id: str) -> None:
        self._tracker.reopen(run_id)
        self._tracker.log(run_id, tags={describe.STATUS: "running"})
        self._closed = False

    def _close(self, state: SweepState, place: Place) -> None:
        """Deliver results known only at the end: ranks, the best weights, counts."""
        ended = state.ended
        assert ended is not None, "only for sweeps that ended"
        storage = self._storage if state.started.folds else None  # for the predictions of their test parts
        ranked = [row for row in leaderboard.rows([state], storage=storage) if row.rank is not None]
        for row in ranked:
            delivered = self._trials[row.trial_id]
            points = []
            tags = {describe.RANK: str(row.rank)}
            if row.mean is not None:
                points.append(describe.mean_point(state.started.objective, row.mean, ended.time))
            points += describe.fold_points(row, state.started.objective, ended.time)
            if row.front is not None:
                tags[describe.FRONT] = str(row.front)
            if delivered.rank != str(row.rank):
                points.append(MetricPoint(describe.RANK_METRIC, float(row.rank or 0), 0, ended.time))
            if points or delivered.rank != str(row.rank):
                self._tracker.log(delivered.run_id, metrics=points, tags=tags)
                delivered.rank = str(row.rank)
        for row in ranked[:BEST_WEIGHTS]:
            with files.scratch() as folder:
                if files.write_weights(folder, self._storage, self._sweep_id, state.trials[row.trial_id]):
                    self._tracker.log_artifact(self._trials[row.trial_id].run_id, folder)
        for delivered in self._trials.values():
            if not delivered.closed and not delivered.parked:
                self._tracker.end(delivered.run_id, status="KILLED", time=ended.time)
                delivered.parked = True
        self._remove_surplus(place)
        with files.scratch() as folder:
            note = self._write_report(folder, self._storage, self._sweep_id)
            self._tracker.log_artifact(place.run_id, folder, notes.FOLDER)
        self._tracker.log_data(place.run_id, describe.sweep_data(state))
        tags = {notes.NOTE: note} | describe.sweep_end_tags(state)
        self._tracker.log(place.run_id, metrics=describe.sweep_end_points(state), tags=tags)
        self._tracker.end(place.run_id, status=describe.SWEEP_RUN_STATUS[ended.status], time=ended.time)
        self._closed = True

    def _remove_surplus(self, place: Place) -> None:
        kept = {place.run_id, *(delivered.run_id for delivered in self._trials.values())}
        self._surplus.remove(place.experiment_id, kept=kept)

    # ---- the trials' runs

    def _deliver(self, state: SweepState, trial: TrialState, place: Place) -> None:
        """Deliver what is new about a trial; its run is closed after everything else has arrived."""
        sweep = state.started
        delivered = self._trials.get(trial.trial_id)
        if delivered is None:
            run_id = self._start(sweep, trial, place, leaks=state.leaks_of(trial))
            delivered = self._trials[trial.trial_id] = DeliveredTrial(run_id)
        if delivered.closed and trial.ended is None:  # it was ended with its sweep and goes on with it
            delivered.closed, delivered.parked, delivered.tested = False, True, 0
        if not delivered.closed:
            self._deliver_epochs(sweep, trial, delivered)
        if trial.ended is not None and len(trial.tests) > delivered.tested:  # not of one that goes on
            with files.scratch() as folder:
                files.write_test_tables(folder, trial, title=self._name(sweep, trial))
                self._tracker.log_artifact(delivered.run_id, folder)
            self._tracker.log(delivered.run_id, metrics=describe.test_points(trial))
            delivered.tested = len(trial.tests)
        if delivered.closed:
            self._put_away(trial)

    def _start(self, sweep: SweepStarted, trial: TrialState, place: Place, *, leaks: int) -> str:
        return self._tracker.run(
            place.experiment_id,
            describe.trial_key(self._sweep_id, trial.trial_id),
            name=self._name(sweep, trial),
            start_time=trial.started_at or trial.created.time,
            parent_run_id=place.run_id,
            is_new=not self._surplus.may_appear,  # ``_open`` has read all runs, and every creation since was answered
            tags={
                **describe.trial_tags(trial.created, sweep, leaks=leaks),
                notes.NOTE: notes.trial_note(sweep, trial.created, self._storage.uri),
            },
        )

    def _deliver_epochs(self, sweep: SweepStarted, trial: TrialState, delivered: DeliveredTrial) -> None:
        names = self._metrics(sweep, trial)
        new = [report for report in trial.reports if report.epoch > delivered.epoch]
        points = describe.epoch_points(new, names)
        settled = describe.is_settled(sweep, trial)
        params = describe.run_params(trial) if settled and not delivered.described else None
        tags = None
        if trial.ended is not None:
            with files.scratch() as folder:
                files.write_trial_files(folder, self._storage, sweep, trial, title=self._name(sweep, trial))
                self._tracker.log_artifact(delivered.run_id, folder)
            points += describe.best_points(trial, (*names, *describe.gap_names(trial)))
            tags = describe.end_tags(trial)
        elif delivered.parked:
            self._tracker.reopen(delivered.run_id)
        delivered.parked = False
        self._tracker.log(delivered.run_id, params=params, metrics=points, tags=tags)
        delivered.described = settled
        delivered.epoch = new[-1].epoch if new else delivered.epoch
        if trial.ended is not None:
            status = describe.RUN_STATUS[trial.ended.outcome]
            self._tracker.end(delivered.run_id, status=status, time=trial.ended.time)
            delivered.closed = True

    def _put_away(self, trial: TrialState) -> None:
        release(trial)
        self._compressed.compress(trial.trial_id)

    def _run_of(self, trial_id: str | None) -> str | None:
        """Return the run of a trial, or of the sweep; None if there is none yet."""
        run = self._place if trial_id is None else self._trials.get(trial_id)
        return None if run is None else run.run_id

    def _name(self, sweep: SweepStarted, trial: TrialState) -> str:
        return wording.trial_name(trial.created, repeated={"repeat", "confirm"} & sweep.document.keys() != set())

    def _metrics(self, sweep: SweepStarted, trial: TrialState) -> tuple[str, ...]:
        return describe.shown_metrics(trial.created, sweep.objectives)
