"""Delivery of a sweep's journal to the tracker: what ``agr sync`` does, and the driver's child process with it.

Nothing is remembered but in the tracker itself, so it may stop anywhere and begin again: a run is found by its tags,
and a trial's run is closed, with the outcome among its tags, only after all of it has arrived. What is not closed is
delivered again, which changes nothing where it had arrived. Training never waits for any of this.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from agr_core.objective import objective_names
from orchestrator import leaderboard
from orchestrator.errors import DeliveryOwnedError, NotFoundError, StorageError, TrackerUnavailableError
from orchestrator.journal import read_journal
from orchestrator.records import AttemptStarted, Event, SweepStarted, TestRead, TrialEnded, TrialReported, TrialResumed
from orchestrator.state import SweepState, TrialState
from orchestrator.storage import layout
from orchestrator.storage.base import Storage
from orchestrator.tracking import describe, files
from orchestrator.tracking.base import MetricPoint, TrackedRun, Tracker
from orchestrator.tracking.view import leaderboard_view, view_link

BEST_WEIGHTS = 3
"""So many of the best trials get their weights into the tracker, at the end of the sweep."""

POLL_S = 1.0
"""The journal of a running sweep is looked at so often (seconds)."""

ORPHAN_S = 60.0
"""Without the driver that started it, a follower tries so long (seconds) to deliver what is stored."""

_LONGEST_PAUSE_S = 30.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where the tracker shows a sweep."""

    tracking_uri: str
    experiment_id: str
    run_id: str
    link: str


@dataclass
class _Delivered:
    """How much of a trial has arrived."""

    run_id: str
    epoch: int = 0
    described: bool = False
    parked: bool = False  # closed because its sweep was interrupted; it may go on
    closed: bool = False
    tested: int = 0  # labels whose test figures have arrived
    rank: str | None = None


@contextmanager
def exclusive(home: Path, sweep_id: str, *, timeout_s: float) -> Iterator[None]:
    """Hold a sweep's delivery against other processes of this machine; -1 waits for as long as it takes.

    Two machines cannot see each other's lock. There the tag search before each creation is the guard, and runs that
    were made twice all the same are removed when the sweep ends.

    Raises:
        DeliveryOwnedError: If another process delivers this sweep.
    """
    path = home / "locks" / f"sync-{sweep_id}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=timeout_s)
    except Timeout as error:
        raise DeliveryOwnedError(f"sweep {sweep_id} is being delivered by another process of this machine.") from error
    try:
        yield
    finally:
        lock.release()


class Syncer:
    """Delivers one sweep. Hold ``exclusive`` while one works."""

    def __init__(self, storage: Storage, tracker: Tracker, sweep_id: str) -> None:
        self._storage = storage
        self._tracker = tracker
        self._sweep_id = sweep_id
        self._segment = 0
        self._state: SweepState | None = None
        self._place: Place | None = None
        self._view: tuple[tuple[str, ...], bool, bool] | None = None  # params, means, ranks of the saved view
        self._trials: dict[str, _Delivered] = {}
        self._changed: dict[str, None] = {}  # trials with something to deliver, in order
        self._closed = False

    @property
    def place(self) -> Place | None:
        """Where the sweep is shown, once its run exists."""
        return self._place

    @property
    def finished(self) -> bool:
        """Whether the sweep has ended and all of it was delivered."""
        return self._closed

    def run_once(self) -> None:
        """Deliver what the journal holds.

        Raises:
            NotFoundError: If the sweep has no journal.
            TrackerUnavailableError: If the tracker does not answer. What did not arrive is delivered by the next call.
            TrackerError: If the tracker refuses.
        """
        state = self._read()
        if self._place is None:
            self._place = self._open(state)
        elif self._closed and state.ended is None:
            self._reopen(self._place.run_id)
        for trial_id in list(self._changed):
            self._deliver(state.started, state.trials[trial_id], self._place)
            del self._changed[trial_id]
        if state.ended is not None and not self._closed:
            self._close(state, self._place)
        self._show_view(state, self._place)

    def follow(
        self,
        *,
        announce: Callable[[Place], None] = lambda _: None,
        driver_lives: Callable[[], bool] = lambda: True,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Deliver until the sweep has ended, waiting out a tracker or storage that does not answer.

        Start it after the driver's ``DriverStarted`` is stored: a journal that ends in ``SweepEnded`` is finished.

        Args:
            announce: Called once, as soon as the sweep's run exists.
            driver_lives: Says whether to wait for more. If not, what is stored is delivered, and that is the end.
            sleep: Waits so many seconds.
            clock: Seconds, for the time that an orphan has.

        Raises:
            TrackerUnavailableError: If there is no driver and the tracker does not answer for 60 s.
            TrackerError: If the tracker refuses.
        """
        orphaned_at: float | None = None
        announced = False
        pause = POLL_S  # longer after each failure in a row
        while True:
            # Asked before the journal is read, so that nothing is missed of a driver that dies in between.
            lives = driver_lives()
            if not lives and orphaned_at is None:
                orphaned_at = clock()
            try:
                self.run_once()
            except (TrackerUnavailableError, StorageError) as error:
                if orphaned_at is not None and clock() - orphaned_at > ORPHAN_S:
                    raise
                if pause == POLL_S:
                    _log.warning("%s Trying again; nothing is lost, the journal has it.", error)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
                delivered = False
            else:
                if pause != POLL_S:
                    _log.warning("The delivery to MLflow at %s goes on.", self._tracker.uri)
                pause = POLL_S
                delivered = True
            if self._place is not None and not announced:
                announce(self._place)
                announced = True
            if delivered and (self._closed or not lives):
                return
            sleep(pause)

    def _read(self) -> SweepState:
        if self._state is not None and not self._storage.exists(layout.segment(self._sweep_id, self._segment + 1)):
            return self._state  # asking for one object costs less than listing a long journal once a second
        for number, events in read_journal(self._storage, self._sweep_id, after_segment=self._segment):
            for event in events:
                self._apply(event)
            self._segment = number
        if self._state is None:
            raise NotFoundError(
                f"there is no sweep {self._sweep_id!r} in {self._storage.uri}. `agr list` shows what there is."
            )
        return self._state

    def _apply(self, event: Event) -> None:
        if self._state is None:
            self._state = SweepState.from_events([event])
        else:
            self._state.apply(event)
        # A trial that only was created has no run yet: its run starts when the trial starts to train.
        if isinstance(event, AttemptStarted | TrialReported | TrialEnded | TrialResumed | TestRead):
            self._changed[event.trial_id] = None

    # ---- the sweep's run

    def _open(self, state: SweepState) -> Place:
        """Make or find the sweep's run, and find the runs of its trials."""
        started = state.started
        experiment_id = self._tracker.experiment(started.experiment)
        run_id = self._tracker.run(
            experiment_id,
            describe.sweep_key(self._sweep_id),
            name=self._sweep_id,
            start_time=started.time,
            tags=describe.sweep_tags(started, self._storage.uri),
        )
        found = self._tracker.runs(experiment_id, {describe.SWEEP_ID: self._sweep_id})
        own = next(run for run in found if run.run_id == run_id)
        self._closed = state.ended is not None and _is_closed(own, describe.STATUS, state.ended.status)
        if not self._closed:
            with _scratch() as folder:
                files.write_sweep_files(folder, started)
                self._tracker.log_artifact(run_id, folder)
            self._tracker.log(run_id, params=describe.sweep_params(started))
            self._reopen(run_id)
        for run in found:
            self._recognise(state, run, parent_run_id=run_id)
        link = view_link(self._tracker.uri, experiment_id, self._sweep_id)
        return Place(self._tracker.uri, experiment_id, run_id, link)

    def _recognise(self, state: SweepState, run: TrackedRun, *, parent_run_id: str) -> None:
        """Take up the run of a trial from where an earlier delivery left it."""
        trial = state.trials.get(run.tags.get(describe.TRIAL_ID, ""))
        if trial is None or trial.trial_id in self._trials:
            return
        closed = trial.outcome is not None and _is_closed(run, describe.OUTCOME, trial.outcome)
        self._trials[trial.trial_id] = _Delivered(
            run.run_id,
            closed=closed,
            parked=run.status != "RUNNING" and not closed,
            rank=run.tags.get(describe.RANK),
        )
        if run.tags.get(describe.PARENT) != parent_run_id:  # somebody deleted the parent of then
            self._tracker.log(run.run_id, tags={describe.PARENT: parent_run_id})
        if closed and not trial.tests:
            self._changed.pop(trial.trial_id, None)

    def _reopen(self, run_id: str) -> None:
        self._tracker.reopen(run_id)
        self._tracker.log(run_id, tags={describe.STATUS: "running"})
        self._closed = False

    def _show_view(self, state: SweepState, place: Place) -> None:
        """Make the saved view, again when a new trial's branch brings params, and when the means are known."""
        params = describe.varying(trial.created for trial in state.trials.values())
        confirmed = state.confirm_seeds > 0
        means = self._closed and (confirmed or state.seeds > 1)
        several = objective_names(state.started.objectives)[1:]
        # Under confirm no figure gives the order: what was not confirmed has no such mean, and comes after what was.
        ranked = self._closed and (confirmed or bool(several))
        if not state.trials or self._view == (params, means, ranked):
            return
        view = leaderboard_view(
            self._sweep_id,
            state.started.objective,
            started=state.started.time,
            metrics=self._metrics(state.started, next(iter(state.trials.values()))),
            params=params,
            variants=any(trial.created.variant is not None for trial in state.trials.values()),
            means=means,
            further=several,
            ranked=ranked,
        )
        self._tracker.set_experiment_tags(place.experiment_id, view)
        self._view = params, means, ranked

    def _close(self, state: SweepState, place: Place) -> None:
        """Deliver what is known only at the end: ranks, the best weights, counts."""
        ended = state.ended
        assert ended is not None, "only for sweeps that ended"
        ranked = [row for row in leaderboard.rows([state]) if row.rank is not None]
        for row in ranked:
            delivered = self._trials[row.trial_id]
            points = []
            tags = {describe.RANK: str(row.rank)}
            if row.mean is not None:
                points.append(describe.mean_point(state.started.objective, row.mean, ended.time))
            if row.front is not None:
                tags[describe.FRONT] = str(row.front)
            if row.front is not None or state.confirm_seeds:
                points.append(MetricPoint(describe.RANK_METRIC, float(row.rank or 0), 0, ended.time))
            if points or delivered.rank != str(row.rank):
                self._tracker.log(delivered.run_id, metrics=points, tags=tags)
                delivered.rank = str(row.rank)
        for row in ranked[:BEST_WEIGHTS]:
            with _scratch() as folder:
                if files.write_weights(folder, self._storage, self._sweep_id, state.trials[row.trial_id]):
                    self._tracker.log_artifact(self._trials[row.trial_id].run_id, folder)
        for trial_id, delivered in self._trials.items():
            if state.trials[trial_id].ended is None and not delivered.parked:
                self._tracker.end(delivered.run_id, status="KILLED", time=ended.time)
                delivered.parked = True
        self._remove_surplus(place)
        tags = describe.sweep_end_tags(state)
        self._tracker.log(place.run_id, metrics=describe.sweep_end_points(state), tags=tags)
        self._tracker.end(place.run_id, status=describe.SWEEP_RUN_STATUS[ended.status], time=ended.time)
        self._closed = True

    def _remove_surplus(self, place: Place) -> None:
        """Delete runs made by a creation that timed out here and happened there all the same."""
        kept = {place.run_id, *(delivered.run_id for delivered in self._trials.values())}
        for run in self._tracker.runs(place.experiment_id, {describe.SWEEP_ID: self._sweep_id}):
            if run.run_id not in kept:
                _log.warning("Removing run %s: MLflow made it twice.", run.run_id)
                self._tracker.delete_run(run.run_id)

    # ---- the trials' runs

    def _deliver(self, sweep: SweepStarted, trial: TrialState, place: Place) -> None:
        """Deliver what is new of a trial; its run is closed after everything else has arrived."""
        delivered = self._trials.get(trial.trial_id)
        if delivered is None:
            delivered = self._trials[trial.trial_id] = _Delivered(self._start(sweep, trial, place))
        if delivered.closed and trial.ended is None:  # it was ended with its sweep and goes on with it
            delivered.closed, delivered.parked = False, True
        if not delivered.closed:
            self._deliver_epochs(sweep, trial, delivered)
        if len(trial.tests) > delivered.tested:
            with _scratch() as folder:
                files.write_test_tables(folder, trial, title=self._name(sweep, trial))
                self._tracker.log_artifact(delivered.run_id, folder)
            self._tracker.log(delivered.run_id, metrics=describe.test_points(trial))
            delivered.tested = len(trial.tests)

    def _start(self, sweep: SweepStarted, trial: TrialState, place: Place) -> str:
        return self._tracker.run(
            place.experiment_id,
            describe.trial_key(self._sweep_id, trial.trial_id),
            name=self._name(sweep, trial),
            start_time=trial.started_at or trial.created.time,
            parent_run_id=place.run_id,
            tags=describe.trial_tags(trial.created, sweep),
        )

    def _deliver_epochs(self, sweep: SweepStarted, trial: TrialState, delivered: _Delivered) -> None:
        names = self._metrics(sweep, trial)
        new = [report for report in trial.reports if report.epoch > delivered.epoch]
        points = describe.epoch_points(new, names)
        settled = _is_settled(sweep, trial)
        params = describe.trial_params(trial.created) if settled and not delivered.described else None
        tags = None
        if trial.ended is not None:
            with _scratch() as folder:
                files.write_trial_files(folder, self._storage, sweep, trial, title=self._name(sweep, trial))
                self._tracker.log_artifact(delivered.run_id, folder)
            points += describe.best_points(trial, names)
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
            # The leaderboard at the end needs the kept epochs only; thousands of trials would fill the memory.
            kept = set(trial.kept_epochs.values())
            trial.reports[:] = [report for report in trial.reports if report.epoch in kept]

    def _name(self, sweep: SweepStarted, trial: TrialState) -> str:
        return describe.trial_name(trial.created, repeated={"repeat", "confirm"} & sweep.document.keys() != set())

    def _metrics(self, sweep: SweepStarted, trial: TrialState) -> tuple[str, ...]:
        return describe.shown_metrics(trial.created, sweep.objectives)


def _is_settled(sweep: SweepStarted, trial: TrialState) -> bool:
    """Whether its configuration is final: MLflow lets no param change, and a batch may be halved before an epoch."""
    may_change = sweep.document.get("out_of_memory") == "halve_batch"
    return not may_change or trial.reconfigured is not None or bool(trial.reports) or trial.ended is not None


def _is_closed(run: TrackedRun, tag: str, value: str) -> bool:
    return run.status != "RUNNING" and run.tags.get(tag) == value


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="agr-sync-") as folder:
        yield Path(folder)
