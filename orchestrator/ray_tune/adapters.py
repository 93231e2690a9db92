"""Adapters from Tune to the sweep run: search algorithm, scheduler, callback.

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
from ray.exceptions import RayActorError
from ray.tune import Callback, PlacementGroupFactory
from ray.tune.experiment import Experiment, Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search.search_algorithm import SearchAlgorithm

from agr_core.reporting import EpochReport
from orchestrator.journal.outcome import Cause
from orchestrator.ray_tune.drain import Drain
from orchestrator.ray_tune.failure import cause_of, error_of, is_of_a_crowd, one_line
from orchestrator.ray_tune.internals.core import actor_node
from orchestrator.ray_tune.internals.tune import ProgressCallback, forget, worker_id, worker_of
from orchestrator.ray_tune.needs import Needs
from orchestrator.ray_tune.nodes import is_lost
from orchestrator.ray_tune.placement import Slots
from orchestrator.ray_tune.trainable import (
    BASELINE,
    EPOCH,
    ERROR,
    FILES,
    JOB,
    OUTCOME,
    PLACED,
    REPORT,
    STAGE,
    STAGED,
    VALUE,
)
from orchestrator.sweep.conclude import conclude_trial
from orchestrator.sweep.halving import EarlyStopping
from orchestrator.sweep.live_state import LiveTrial
from orchestrator.sweep.run import SweepRun
from orchestrator.worker.job import Job

PlacementOf = Callable[[str], PlacementGroupFactory]
"""Function of a trial's ID that returns its current placement request."""


class SweepSearch(SearchAlgorithm):  # type: ignore[misc]
    """Tune's search algorithm: hands out the trials of a sweep run, each only when a worker is free.

    An early proposal knows fewer results. Until every worker has started, twice as many trials are queued: the warm
    worker of a finished trial takes a pending trial, Tune then cancels that trial's own starting worker, and without
    others in the queue most workers would never start. The same holds when a node has joined, and when trials request
    more than the workers have. A single worker gets one trial at a time, which makes its sweep repeatable. Trials whose
    processes Ray Train places (``in_teams``) are not queued ahead: Tune would start them, and they would wait for each
    other.
    """

    def __init__(
        self,
        run: SweepRun,
        slots: Slots,
        job: Callable[[LiveTrial], Job],
        placement_of: PlacementOf,
        *,
        in_teams: bool = False,
    ) -> None:
        self._run = run
        self._slots = slots
        self._job = job
        self._placement_of = placement_of
        self._experiment: Experiment | None = None
        self._in_teams = in_teams
        self._filled = 0  # slots that have all had a worker at once
        self._terms: Hashable = None

    def add_configurations(self, experiments: Any) -> None:
        """Keep the experiment, which holds the resources and the throwaway storage."""
        self._experiment = experiments[0] if isinstance(experiments, list) else experiments

    def started(self, running: int) -> None:
        """Note the number of concurrent trials."""
        slots = self._slots.count()
        if running >= slots:
            self._filled = slots

    def next_trial(self) -> Trial | None:
        """Return a trial for a free worker: an unfinished one of the last driver first, then a new one."""
        slots = self._slots.count()
        if not self._run.live:
            self._run.poll()  # without a living trial, Tune only asks for a trial
        live = self._run.starting.next_restart(slots)
        if live is not None:
            return self._tune_trial(live)
        unlimited = self._run.proposals.room(slots) == slots
        ahead = self._some_start(slots) and slots > 1 and not self._in_teams and unlimited
        created = self._run.next_trial(2 * slots if ahead else slots)
        return None if created is None else self._tune_trial(self._run.live[created.trial_id])

    def _some_start(self, slots: int) -> bool:
        """Return whether some slot lacks a worker that current trials can take."""
        before, self._terms = self._terms, self._slots.terms()
        self._filled = min(self._filled, slots) if self._terms == before else 0
        return slots > self._filled

    def is_finished(self) -> bool:
        """Return whether no further trial will come."""
        return self._run.starting.over

    @property
    def total_samples(self) -> int:
        """Number of planned trials, which Tune only displays."""
        return self._run.planned or 0

    def save_to_dir(self, dirpath: str, **kwargs: Any) -> None:
        """Do nothing: the journal is the record."""

    def _tune_trial(self, live: LiveTrial) -> Trial:
        assert self._experiment is not None
        spec = self._experiment.spec
        return Trial(
            spec["run"],
            config={JOB: self._job(live).to_json()},
            trial_id=live.trial_id,
            storage=self._experiment.storage,
            experiment_tag=live.trial_id,
            placement_group_factory=self._placement_of(live.trial_id),
            checkpoint_config=spec["checkpoint_config"],
            max_failures=-1,  # we count retries, because a lost node is not the trial's failure
            trial_dirname_creator=lambda trial: str(trial.trial_id),
        )


class Polled(FIFOScheduler):  # type: ignore[misc]
    """Tune's scheduler: polls the sweep run in every turn of Tune's loop, stops trials, and applies early stopping.

    ``rule`` knows trials by ID. Trials end themselves after their own epochs, so that their outcome is theirs.
    """

    failed: Callable[[Trial], None]
    """Called before Tune queues a failed trial again; changes of its job and placement take effect."""
    placement_of: PlacementOf
    terms: Callable[[], Hashable]
    """Returns the inputs of placements: they are unchanged while it is."""
    _terms: Hashable = None

    def __init__(self, run: SweepRun, rule: EarlyStopping) -> None:
        super().__init__()
        self.run = run
        self.rule = rule
        self.drain = Drain()

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        """Register a trial with the rule, a new one or a continued one."""
        self.rule.added(trial.trial_id, self.run.live[trial.trial_id].compared_as)

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Pass an epoch to the rule; results without one, as of a stage, are ignored."""
        stops = EPOCH in result and self.rule.reported(trial.trial_id, result[EPOCH], result[VALUE])
        return str(self.STOP if stops else self.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> None:
        """Pass a trial's last result to the rule, unless the trial ended only for now."""
        if not self.run.decisions.is_resumable(trial.trial_id):
            self.rule.ended(trial.trial_id, result.get(EPOCH), result.get(VALUE))

    def on_trial_remove(self, tune_controller: Any, trial: Trial) -> None:
        """Handle the end of a trial that waited for a worker, like ``on_trial_complete``."""
        if not self.run.decisions.is_resumable(trial.trial_id):
            self.rule.ended(trial.trial_id, None, None)

    def ask_anew(self, waiting: Iterable[Trial]) -> list[tuple[Trial, PlacementGroupFactory]]:
        """Return the waiting trials whose placement request has changed, with the new placements."""
        before, self._terms = self._terms, self.terms()
        if self._terms == before:
            return []
        placements = ((trial, self.placement_of(trial.trial_id)) for trial in waiting)
        return [(trial, placement) for trial, placement in placements if placement != trial.placement_group_factory]

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Handle a failed attempt. Tune has ended its worker, and queues the trial again unless it gave it up."""
        super().on_trial_error(tune_controller, trial)
        # After an error of our own, such as a full disk, Tune reports its consequences as failures of trials.
        if trial.status == Trial.ERROR and self.run.fatal is None:
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
                ray.kill(worker_of(trial))  # Tune handles it as a lost worker
        chosen: Trial | None = super().choose_trial_to_run(tune_controller)
        return chosen


_Method = TypeVar("_Method", bound=Callable[..., None])


def _remembers_errors(method: _Method) -> _Method:
    """Keep an exception of a callback for the driver: Tune logs some of them and continues."""

    @functools.wraps(method)
    def wrapped(self: SweepCallback, *args: Any, **kwargs: Any) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            self.run.fatal = self.run.fatal or error
            raise

    return cast(_Method, wrapped)


class SweepCallback(Callback):  # type: ignore[misc]
    """Tune's callback: passes the events of trials to the sweep run."""

    def __init__(
        self,
        run: SweepRun,
        search: SweepSearch,
        needs: Needs,
        job: Callable[[LiveTrial], Job],
        placement_of: PlacementOf,
        drain: Drain,
    ) -> None:
        self.run = run
        self._search = search
        self._needs = needs
        self._drain = drain
        self._placement_of = placement_of
        self._job = job
        self._places: dict[str, tuple[str, str]] = {}  # actor ID -> address and ID of its node
        self._workers: dict[str, str] = {}  # trial -> ID of the node of its worker
        self._running: set[str] = set()

    @_remembers_errors
    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Note that a worker takes the trial."""
        self._running.add(trial.trial_id)
        self._search.started(len(self._running))
        self._attempt_started(trial.trial_id, worker_id(trial))

    def _attempt_started(self, trial_id: str, actor_id: str) -> None:
        node, node_id = self._where(actor_id)
        self._workers[trial_id] = node_id
        self.run.attempt_started(trial_id, node, node_id)

    def _where(self, actor_id: str) -> tuple[str, str]:
        """Return address and ID of a worker's node from the cluster's state: a busy worker may not answer."""
        if actor_id not in self._places:
            self._places[actor_id] = actor_node(actor_id)
        return self._places[actor_id]

    @_remembers_errors
    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Pass on a result: an epoch, the placement of processes, a stage's weights, or the trial's own ending."""
        if PLACED in result:
            self.run.team_placed(trial.trial_id, **json.loads(result.pop(PLACED)))
            return
        if STAGE in result:
            figures = json.loads(result.pop(STAGE))
            self.run.stage_obtained(trial.trial_id, figures, trained=figures.pop("trained"))
            return
        if OUTCOME in result:
            self.run.decisions.end_trial(trial.trial_id, result[OUTCOME], result[ERROR])
            return
        if STAGED in result:
            self.run.data_staged(trial.trial_id, json.loads(result.pop(STAGED)))
        if BASELINE in result:
            self.run.baseline_reported(trial.trial_id, json.loads(result.pop(BASELINE)))
        files = json.loads(result.pop(FILES))
        self.run.epoch_reported(trial.trial_id, EpochReport.from_json(json.loads(result.pop(REPORT))), files)

    @_remembers_errors
    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Pass on the end of a trial and free its memory: Tune keeps every trial to the end of the sweep."""
        self._running.discard(trial.trial_id)
        self._workers.pop(trial.trial_id, None)
        conclude_trial(self.run, trial.trial_id)
        forget(trial)

    @_remembers_errors
    def attempt_failed(self, trial: Trial) -> None:
        """Handle a failed attempt before Tune queues the trial again: set its next job and placement, or end it."""
        self._running.discard(trial.trial_id)
        live = self.run.live[trial.trial_id]
        error = error_of(trial)
        if not live.running and isinstance(error, RayActorError) and error.actor_id is not None:
            # Its worker died before it could take the trial, which counts against that worker's node.
            self._attempt_started(trial.trial_id, error.actor_id)
            live = self.run.live[trial.trial_id]
        cause, line = self._cause(live, error), one_line(error)
        if cause == "hung":
            line = f"no report for {self.run.settings.report_limit_s:g} s"
        elif cause == "moved":
            line = f"moved: node {live.node} is being drained"
        crowded = cause == "out_of_memory" and is_of_a_crowd(error) and self._needs.give_more(trial.trial_id)
        verdict = self.run.attempt_failed(trial.trial_id, error=line, details=str(error), cause=cause, crowded=crowded)
        if verdict == "retry":
            trial.config[JOB] = self._job(self.run.live[trial.trial_id]).to_json()
            trial.update_resources(self._placement_of(trial.trial_id))

    def _cause(self, live: LiveTrial, error: BaseException | None) -> Cause:
        if live.node in self._drain.hosts():
            return "moved"
        # A worker and the processes that train its trial together may be on two nodes, and both are needed.
        nodes = {live.node_id, self._workers.pop(live.trial_id, live.node_id)}
        return cause_of(error, node_lost=any(map(is_lost, nodes)), hung=self.run.failures.is_hung(live))

    @_remembers_errors
    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Handle a trial that Tune gave up by itself; after an error of this callback, the driver raises that error."""
        self._running.discard(trial.trial_id)
        if self.run.fatal is not None:
            return
        self.run.decisions.end_trial(trial.trial_id, "failed", one_line(error_of(trial)))
        self.run.trial_over(trial.trial_id)


class Silence(ProgressCallback):  # type: ignore[misc]
    """Replacement for Tune's own callback, which prints every end of a trial."""

    def on_trial_result(
        self, iteration: int, trials: list[Trial], trial: Trial, result: dict[str, Any], **info: Any
    ) -> None:
        """Print nothing."""

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Print nothing."""

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        """Print nothing."""
