"""Tune's internals: subclasses, replacements during a sweep, and reads.

A sweep's workers run one trial after another and start quickly. Tune's own reuse workers only while nothing fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import ray
import ray.tune.tune
from ray.air._internal import usage
from ray.air.execution._internal import RayActorManager
from ray.air.execution._internal.tracked_actor import TrackedActor
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import OutOfMemoryError
from ray.train.constants import RAY_CHDIR_TO_TRIAL_DIR
from ray.tune import PlacementGroupFactory
from ray.tune.execution import class_cache, tune_controller
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.result import DONE
from ray.util.placement_group import PlacementGroup, placement_group

from orchestrator.ray_tune.failure import WorkerOutOfMemoryError

RESULT_DONE: str = DONE
"""Field of a result that marks the trial's last one."""

CHANGE_FOLDER: str = RAY_CHDIR_TO_TRIAL_DIR
"""Environment variable: "0" keeps a worker in its folder instead of the trial's. Tune reads it in the worker."""

ProgressCallback: Any = TrialProgressCallback
"""Callback that prints every end of a trial. Tune adds its own unless a callback of this class is given."""


class ActorManager(RayActorManager):  # type: ignore[misc]
    """Tune's actor manager, but a worker that the memory monitor ended counts as dead, and results are not kept.

    Tune's own gives the whole sweep up when the memory monitor ends a worker.
    """

    def is_busy(self, tracked_actor: TrackedActor) -> bool:
        """Return whether a worker has an unfinished task."""
        asked = self._tracked_actors_to_task_futures.get(tracked_actor, set())
        return not asked.isdisjoint(self._actor_task_events.get_futures())

    def _schedule_tracked_actor_task(self, tracked_actor_task: TrackedActorTask, *args: Any, **kwargs: Any) -> Any:
        """Schedule a task of a worker, and free the results of its earlier ones.

        Tune's own holds a reference to every result of a worker, and so its bytes, until the worker ends.
        """
        asked = self._tracked_actors_to_task_futures[tracked_actor_task._tracked_actor]
        asked.intersection_update(self._actor_task_events.get_futures())
        return super()._schedule_tracked_actor_task(tracked_actor_task, *args, **kwargs)

    def _actor_task_failed(self, tracked_actor_task: TrackedActorTask, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = WorkerOutOfMemoryError(error_msg=str(exception))
        super()._actor_task_failed(tracked_actor_task, exception)


class Controller(TuneController):  # type: ignore[misc]
    """Tune's controller, with other handling of a worker stopped within an epoch, or dying while it takes a trial.

    A waiting trial may change its placement request. Nothing is written to Tune's own storage.
    """

    def checkpoint(self, force: bool = False, wait: bool = False) -> None:
        """Do nothing: Tune would write every trial of the sweep to its throwaway storage."""

    def _maybe_add_actors(self) -> None:
        """Request workers, after updating the requests of waiting trials."""
        waiting = [trial for trial in self._pending_trials if trial not in self._resetting_trials]
        for trial, factory in self._scheduler_alg.ask_anew(waiting):
            self._ask_anew(trial, factory)
        super()._maybe_add_actors()

    def _ask_anew(self, trial: Trial, factory: PlacementGroupFactory) -> None:
        """Replace a trial's request, and cancel its starting worker, as Tune does when it finds another one."""
        if trial in self._trial_to_actor:
            starting = self._trial_to_actor.pop(trial)
            self._actor_to_trial.pop(starting)
            self._remove_actor(starting)
        if trial in self._staged_trials:
            self._staged_trials.remove(trial)
            self._actor_cache.decrease_max(trial.placement_group_factory)
        self._resources_to_pending_trials[trial.placement_group_factory].discard(trial)
        trial.update_resources(factory)
        self._resources_to_pending_trials[factory].add(trial)

    def stop_trial(self, trial: Trial) -> None:
        """Stop a trial, and also its worker if that is within an epoch and others may get it.

        Tune would give that worker to the next trial, which would wait for the end of the epoch: forever, if the trial
        was stopped because it hangs.
        """
        worker, tracked_actor = trial.temporary_state.ray_actor, self._trial_to_actor.get(trial)
        wanted = bool(self._staged_trials) or not self._search_alg.is_finished()  # else Tune does not keep it
        busy = worker is not None and wanted and self._actor_manager.is_busy(tracked_actor)
        if busy:
            self._started_actors.discard(tracked_actor)  # a removed worker is not kept for others
        super().stop_trial(trial)
        if busy:
            ray.kill(worker)

    def _trial_task_failure(self, trial: Trial, exception: Exception) -> None:
        """Handle a failed attempt, including a worker that died before it took the trial.

        Tune reports the latter twice: the worker is dead, and its task failed. On the second report it would give the
        trial up; otherwise it would wait forever for the worker to take it.
        """
        if trial in self._resetting_trials:
            self._resetting_trials.remove(trial)
        elif trial.status == Trial.PENDING:
            return  # already handled
        super()._trial_task_failure(trial, exception)


@contextmanager
def changed() -> Iterator[None]:
    """Let ``tune.run`` use the classes above and give its workers no runtime environment; then restore the originals.

    Tune would copy variables of the driver into that environment, credentials among them, which Ray writes to its logs;
    and a warm worker (``warm``) has none, and is given only to requests without one. Ray's usage statistics, which
    would import every tracker, MLflow among them, are disabled, and so is Tune's search for a file of results in each
    trial's folder at the end of the run.
    """
    replacements: tuple[tuple[Any, str, object], ...] = (
        (class_cache, "DEFAULT_ENV_VARS", {}),
        (class_cache, "ENV_VARS_TO_PROPAGATE", frozenset()),
        (tune_controller, "RayActorManager", ActorManager),
        (ray.tune.tune, "TuneController", Controller),
        (ray.tune.tune, "ExperimentAnalysis", _no_analysis),
        (usage, "tag_callbacks", _tag_none),
    )
    with ExitStack() as undo:
        for module, name, replacement in replacements:
            undo.callback(setattr, module, name, getattr(module, name))
            setattr(module, name, replacement)
        yield


def _no_analysis(**_: object) -> None:
    return None


def _tag_none(_callbacks: object) -> bool:
    return False


def place_near(factory: PlacementGroupFactory, node_id: str | None) -> PlacementGroup:
    """Request the placement group of ``factory``, on this node if it has room. The hint is not public."""
    return placement_group(*factory._bound.args, **factory._bound.kwargs, _soft_target_node_id=node_id)


def worker_of(trial: Trial) -> Any:
    """Return the actor that runs a trial; None without one. Tune exposes it only inside its controller."""
    return trial.temporary_state.ray_actor


def worker_id(trial: Trial) -> str:
    """Return Ray's ID of the actor that runs a trial, in hexadecimal digits."""
    return str(worker_of(trial)._actor_id.hex())


def forget(trial: Trial) -> None:
    """Free the results and the configuration of an ended trial: Tune keeps trials until the run's end."""
    trial.run_metadata.last_result = {}
    trial.run_metadata.metric_analysis = {}
    trial.run_metadata.metric_n_steps = {}
    trial.config.clear()  # also Tune's second reference to it
