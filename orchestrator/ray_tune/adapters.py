"""What Tune calls, turned into calls of the sweep run: its search algorithm, its scheduler, its callback.

Order matters. For every result Tune asks the scheduler, then tells the callback; for every end it tells the scheduler,
then the callback. All bookkeeping is in the callback, so it sees every report, also the one that stops a trial (which
Tune keeps from a search algorithm), and the journal has them in the order the scheduler had.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Hashable, Iterable
from typing import Any, TypeVar, cast

import ray
from ray._private.state import actors
from ray.exceptions import RayActorError
from ray.tune import Callback, PlacementGroupFactory
from ray.tune.experiment import Experiment, Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler
from ray.tune.search.search_algorithm import SearchAlgorithm

from agr_core.reporting import EpochReport
from orchestrator.outcome import Cause
from orchestrator.ray_tune.drain import Drain
from orchestrator.ray_tune.failure import cause_of, error_of, is_of_a_crowd, one_line
from orchestrator.ray_tune.needs import Needs
from orchestrator.ray_tune.nodes import is_lost
from orchestrator.ray_tune.placement import Slots
from orchestrator.ray_tune.trainable import EPOCH, ERROR, JOB, OUTCOME, PLACED, REPORT, STAGE, STAGED, VALUE, Job
from orchestrator.retention import release
from orchestrator.spec.model import AshaSpec, HyperbandSpec
from orchestrator.standing import LiveTrial
from orchestrator.sweep_run import SweepRun

Place = Callable[[str], PlacementGroupFactory]
"""What the trial with this ID asks of Ray, now."""


class SweepSearch(SearchAlgorithm):  # type: ignore[misc]
    """Gives Tune the trials of a sweep run, each as soon as a worker is free and not before.

    A proposal made early knows less. Only until every worker has started, twice as many trials are given: a finishing
    trial's warm worker takes a pending trial and Tune then cancels that trial's own starting worker, so without others
    in the queue most workers would never start. So it is again when a node has joined, and when trials ask for more
    than the workers have. A single worker is always given one at a time, which makes its sweep repeatable. Nor are
    trials given ahead whose processes Ray Train places (``in_teams``): Tune would start them, and they would wait for
    each other.
    """

    def __init__(
        self, run: SweepRun, slots: Slots, job: Callable[[LiveTrial], Job], place: Place, *, in_teams: bool = False
    ) -> None:
        self._run = run
        self._slots = slots
        self._job = job
        self._place = place
        self._experiment: Experiment | None = None
        self._restarting = list(run.live)
        self._in_teams = in_teams
        self._filled = 0  # slots that had all a worker at once
        self._terms: Hashable = None

    def add_configurations(self, experiments: Any) -> None:
        """Remember the experiment, which holds the resources and the throwaway storage."""
        self._experiment = experiments[0] if isinstance(experiments, list) else experiments

    def started(self, running: int) -> None:
        """So many trials are running at once."""
        slots = self._slots.count()
        if running >= slots:
            self._filled = slots

    def next_trial(self) -> Trial | None:
        """A trial for a free worker: an unfinished one of the last driver first, then a new one."""
        slots = self._slots.count()
        if self._restarting:
            return self._tune_trial(self._run.live[self._restarting.pop(0)])
        ahead = self._some_start(slots) and slots > 1 and not self._in_teams
        created = self._run.next_trial(2 * slots if ahead else slots)
        return None if created is None else self._tune_trial(self._run.live[created.trial_id])

    def _some_start(self, slots: int) -> bool:
        """Whether not every slot has a worker that trials of now can take."""
        before, self._terms = self._terms, self._slots.terms()
        self._filled = min(self._filled, slots) if self._terms == before else 0
        return slots > self._filled

    def is_finished(self) -> bool:
        """Whether no further trial will come."""
        return self._run.stop is not None or (self._run.proposals_over and not self._restarting)

    @property
    def total_samples(self) -> int:
        """Number of trials planned; Tune only shows it."""
        return self._run.planned or 0

    def save_to_dir(self, dirpath: str, **kwargs: Any) -> None:
        """Nothing: the journal is the record."""

    def _tune_trial(self, live: LiveTrial) -> Trial:
        assert self._experiment is not None
        spec = self._experiment.spec
        return Trial(
            spec["run"],
            config={JOB: self._job(live).to_json()},
            trial_id=live.trial_id,
            storage=self._experiment.storage,
            experiment_tag=live.trial_id,
            placement_group_factory=self._place(live.trial_id),
            checkpoint_config=spec["checkpoint_config"],
            max_failures=-1,  # we count, because a lost node is not the trial's failure
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        )


class _Polls:
    """Runs the sweep's clock in every turn of Tune's loop and stops what is to be stopped."""

    run: SweepRun
    drain: Drain
    failed: Callable[[Trial], None]
    """Called before Tune queues a trial again whose attempt failed; what changes then (job, place) Tune queues."""
    place: Place
    terms: Callable[[], Hashable]
    """Gives what places depend on: they are the same as long as this is."""
    _terms: Hashable = None

    def ask_anew(self, waiting: Iterable[Trial]) -> list[tuple[Trial, PlacementGroupFactory]]:
        """Which of the trials that wait for a worker would ask for another place now, and for which."""
        before, self._terms = self._terms, self.terms()
        if self._terms == before:
            return []
        places = ((trial, self.place(trial.trial_id)) for trial in waiting)
        return [(trial, place) for trial, place in places if place != trial.placement_group_factory]

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """An attempt failed. Tune has ended its worker, and queues the trial again unless it gave it up by itself."""
        super().on_trial_error(tune_controller, trial)  # type: ignore[misc]
        if trial.status == Trial.ERROR:
            self.failed(trial)

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """Poll, stop trials mid-epoch where asked, then choose as Tune does."""
        if self.run.fatal is not None:
            raise self.run.fatal
        ending = set(self.run.poll())
        if ending:
            for trial in [trial for trial in tune_controller.get_live_trials() if trial.trial_id in ending]:
                tune_controller.stop_trial(trial)
        hung, moving = set(self.run.newly_hung()), set(self.drain.due(self.run.live.values()))
        for trial in [trial for trial in tune_controller.get_live_trials() if trial.trial_id in hung | moving]:
            if trial.status == Trial.RUNNING:
                ray.kill(trial.temporary_state.ray_actor)  # Tune hears of it as of any lost worker
        chosen: Trial | None = super().choose_trial_to_run(tune_controller)  # type: ignore[misc]
        return chosen


class PolledFifo(_Polls, FIFOScheduler):  # type: ignore[misc]
    """No early stopping."""

    def __init__(self, run: SweepRun) -> None:
        FIFOScheduler.__init__(self)
        self.run = run
        self.drain = Drain()

    def added(self, trial_id: str, number: int) -> None:
        """Nothing to remember."""

    def reported(self, trial_id: str, epoch: int, value: float) -> bool:
        """Never stops a trial."""
        return False

    def ended(self, trial_id: str, epoch: int | None, value: float | None) -> None:
        """Nothing to remember."""


class _StandIn:
    """Stands for a trial of an earlier driver: the scheduler looks at its ID only."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


class _NoBracket:
    """Stands for the bracket of a trial that is compared with no other."""

    def on_result(self, trial: Any, epoch: int, value: float) -> str:
        """Goes on."""
        return str(FIFOScheduler.CONTINUE)


class PolledHalving(_Polls, AsyncHyperBandScheduler):  # type: ignore[misc]
    """Tune's ASHA (Li et al. 2020), in one bracket or in several, with a journal it can take.

    ``max_t`` is out of reach: trials end themselves after their own epochs, so that their outcome is theirs. Tune draws
    a trial's bracket from NumPy's global generator; here it follows from the trial's number.
    """

    def __init__(
        self, run: SweepRun, spec: AshaSpec | HyperbandSpec, *, max_epochs: int, bracket_of: Callable[[int], int | None]
    ) -> None:
        AsyncHyperBandScheduler.__init__(
            self,
            time_attr=EPOCH,
            metric=VALUE,
            mode="min" if run.objective.direction == "minimize" else "max",
            grace_period=spec.grace_epochs,
            reduction_factor=spec.reduction_factor,
            brackets=len(spec.brackets(max_epochs)),
            max_t=10**9,
        )
        self.run = run
        self.drain = Drain()
        self._bracket_of = bracket_of

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Tune took a trial of ours, a new one or one that goes on."""
        self.added(trial.trial_id, self.run.live[trial.trial_id].created.number)

    def added(self, trial_id: str, number: int) -> None:
        """A trial was created, now or in the journal."""
        bracket = self._bracket_of(number)
        self._trial_info[trial_id] = _NoBracket() if bracket is None else self._brackets[bracket]

    def reported(self, trial_id: str, epoch: int, value: float) -> bool:
        """An epoch of the journal; returns whether ASHA stops the trial after it."""
        decision = self.on_trial_result(None, _StandIn(trial_id), {EPOCH: epoch, VALUE: value})
        return bool(decision == FIFOScheduler.STOP)

    def ended(self, trial_id: str, epoch: int | None, value: float | None) -> None:
        """An end of the journal."""
        result = {} if epoch is None else {EPOCH: epoch, VALUE: value}
        self.on_trial_complete(None, _StandIn(trial_id), result)


_Method = TypeVar("_Method", bound=Callable[..., None])


def _remembers_errors(method: _Method) -> _Method:
    """Keep an exception of a callback for the driver: Tune logs some of them and goes on."""

    @functools.wraps(method)
    def wrapped(self: SweepCallback, *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self.run.fatal = self.run.fatal or error
            raise

    return cast(_Method, wrapped)


class SweepCallback(Callback):  # type: ignore[misc]
    """Tells the sweep run what happens to its trials."""

    def __init__(
        self,
        run: SweepRun,
        search: SweepSearch,
        needs: Needs,
        job: Callable[[LiveTrial], Job],
        place: Place,
        drain: Drain,
    ) -> None:
        self.run = run
        self._search = search
        self._needs = needs
        self._drain = drain
        self._place = place
        self._job = job
        self._places: dict[str, tuple[str, str]] = {}  # actor ID -> address and ID of its node
        self._workers: dict[str, str] = {}  # trial -> ID of the node of its worker
        self._running: set[str] = set()

    @_remembers_errors
    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """A worker takes the trial."""
        self._running.add(trial.trial_id)
        self._search.started(len(self._running))
        self._attempt_started(trial.trial_id, trial.temporary_state.ray_actor._actor_id.hex())

    def _attempt_started(self, trial_id: str, actor_id: str) -> None:
        node, node_id = self._where(actor_id)
        self._workers[trial_id] = node_id
        self.run.attempt_started(trial_id, node, node_id)

    def _where(self, actor_id: str) -> tuple[str, str]:
        """Address and ID of the node a worker lives on, as the cluster has it: a busy worker may not answer."""
        if actor_id not in self._places:
            address = actors(actor_id).get("Address", {})
            self._places[actor_id] = address.get("IPAddress", ""), address.get("NodeID", "")
        return self._places[actor_id]

    @_remembers_errors
    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """An epoch is over; or the trial has its processes, or a stage's weights, or said how it ended."""
        if PLACED in result:
            self.run.team_placed(trial.trial_id, **json.loads(result.pop(PLACED)))
            return
        if STAGE in result:
            figures = json.loads(result.pop(STAGE))
            self.run.stage_obtained(trial.trial_id, figures, trained=figures.pop("trained"))
            return
        if OUTCOME in result:
            self.run.live[trial.trial_id].end_as(result[OUTCOME], result[ERROR])
            return
        if STAGED in result:
            self.run.data_staged(trial.trial_id, json.loads(result.pop(STAGED)))
        self.run.epoch_reported(trial.trial_id, EpochReport.from_json(json.loads(result.pop(REPORT))))

    @_remembers_errors
    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """The trial is over. Tune keeps every trial to the end of the sweep, so its bulk is let go here."""
        self._running.discard(trial.trial_id)
        self._workers.pop(trial.trial_id, None)
        live = self.run.live[trial.trial_id]
        has_checkpoint = live.epoch > 0 and not live.resumable
        outcome = self.run.trial_over(trial.trial_id)
        if has_checkpoint:
            keep = self.run.settings.keep_checkpoints
            release(self.run.storage, self.run.sweep_id, trial.trial_id, outcome, keep=keep)
        trial.run_metadata.last_result = {}
        trial.run_metadata.metric_analysis = {}
        trial.run_metadata.metric_n_steps = {}
        trial.config = {}

    @_remembers_errors
    def attempt_failed(self, trial: Trial) -> None:
        """An attempt failed, and Tune is about to queue the trial again: we say with which job and where, or end it."""
        self._running.discard(trial.trial_id)
        live = self.run.live[trial.trial_id]
        error = error_of(trial)
        if not live.running and isinstance(error, RayActorError) and error.actor_id is not None:
            # Its worker died before it could take the trial, which says something of that worker's node.
            self._attempt_started(trial.trial_id, error.actor_id)
        cause, line = self._cause(live, error), one_line(error)
        if cause == "hung":
            line = f"no report for {self.run.settings.report_limit_s:g} s"
        elif cause == "moved":
            line = f"moved: node {live.node} is being drained"
        crowded = cause == "out_of_memory" and is_of_a_crowd(error) and self._needs.give_more(trial.trial_id)
        verdict = self.run.attempt_failed(trial.trial_id, error=line, details=str(error), cause=cause, crowded=crowded)
        if verdict == "retry":
            trial.set_config({JOB: self._job(live).to_json()})
            trial.update_resources(self._place(trial.trial_id))

    def _cause(self, live: LiveTrial, error: BaseException | None) -> Cause:
        if live.node in self._drain.hosts():
            return "moved"
        # A worker and the processes that train its trial together may be on two nodes, and both are needed.
        nodes = {live.node_id, self._workers.pop(live.trial_id, live.node_id)}
        return cause_of(error, node_lost=any(map(is_lost, nodes)), hung=live.hung)

    @_remembers_errors
    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Tune gave the trial up by itself; or since this callback failed, and then the driver raises that."""
        self._running.discard(trial.trial_id)
        if self.run.fatal is not None:
            return
        self.run.live[trial.trial_id].end_as("failed", one_line(error_of(trial)))
        self.run.trial_over(trial.trial_id)


class Silence(TrialProgressCallback):  # type: ignore[misc]
    """Stands where Tune would put a callback of its own that prints every end of a trial."""

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Print nothing."""

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Print nothing."""

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Print nothing."""
