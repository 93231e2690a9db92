"""What of Tune's own machinery is changed: for workers that take one trial after another, and for a quick start."""

from __future__ import annotations

import ray
import ray.tune.tune
from ray.air._internal import usage
from ray.air.execution._internal import RayActorManager
from ray.air.execution._internal.tracked_actor import TrackedActor
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import OutOfMemoryError
from ray.tune import PlacementGroupFactory
from ray.tune.execution import class_cache, tune_controller
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial

from orchestrator.ray_tune.failure import WorkerOutOfMemoryError


class ActorManager(RayActorManager):  # type: ignore[misc]
    """Tune's, but a worker that the memory monitor ended is a dead worker. Tune's own gives the whole sweep up."""

    def is_busy(self, tracked_actor: TrackedActor) -> bool:
        """Whether a worker was asked for something that it has not done yet."""
        asked = self._tracked_actors_to_task_futures.get(tracked_actor, set())
        return not asked.isdisjoint(self._actor_task_events.get_futures())

    def _actor_task_failed(self, tracked_actor_task: TrackedActorTask, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = WorkerOutOfMemoryError(error_msg=str(exception))
        super()._actor_task_failed(tracked_actor_task, exception)


class Controller(TuneController):  # type: ignore[misc]
    """Tune's, but for a worker that is stopped in the middle of an epoch, and one that dies turning to a trial.

    And a trial that waits for a worker may ask for another one than before.
    """

    def _maybe_add_actors(self) -> None:
        """Ask for workers; but first let trials that wait ask for what they would ask for now."""
        waiting = [trial for trial in self._pending_trials if trial not in self._resetting_trials]
        for trial, place in self._scheduler_alg.ask_anew(waiting):
            self._ask_anew(trial, place)
        super()._maybe_add_actors()

    def _ask_anew(self, trial: Trial, place: PlacementGroupFactory) -> None:
        """Give up what a trial asked for, and the worker that is starting; as Tune does where it finds another one."""
        if trial in self._trial_to_actor:
            starting = self._trial_to_actor.pop(trial)
            self._actor_to_trial.pop(starting)
            self._remove_actor(starting)
        if trial in self._staged_trials:
            self._staged_trials.remove(trial)
            self._actor_cache.decrease_max(trial.placement_group_factory)
        self._resources_to_pending_trials[trial.placement_group_factory].discard(trial)
        trial.update_resources(place)
        self._resources_to_pending_trials[place].add(trial)

    def stop_trial(self, trial: Trial) -> None:
        """Stop a trial, and with it a worker that is in the middle of an epoch and that others may get.

        Tune would give that worker to the next trial, which would wait for the end of the epoch: for ever, if the
        trial was stopped because it hangs.
        """
        worker, tracked_actor = trial.temporary_state.ray_actor, self._trial_to_actor.get(trial)
        wanted = bool(self._staged_trials) or not self._search_alg.is_finished()  # else Tune does not keep it
        busy = worker is not None and wanted and self._actor_manager.is_busy(tracked_actor)
        if busy:
            self._started_actors.discard(tracked_actor)  # what is not there is not kept for others
        super().stop_trial(trial)
        if busy:
            ray.kill(worker)

    def _trial_task_failure(self, trial: Trial, exception: Exception) -> None:
        """An attempt failed, be it that its worker died before it had turned to the trial.

        Of that Tune hears twice: the worker is dead, and it did not do what it was asked for. At the second it would
        give the trial up; and would else wait for ever for the worker to turn to it.
        """
        if trial in self._resetting_trials:
            self._resetting_trials.remove(trial)
        elif trial.status == Trial.PENDING:
            return  # heard of
        super()._trial_task_failure(trial, exception)


def install() -> None:
    """Let ``tune.run`` use them, and give its workers no runtime environment.

    Tune would copy variables of the driver into it, credentials among them, which Ray writes to its logs; and a worker
    that waits (``warm``) has none, and is for those who ask for none.
    """
    class_cache.DEFAULT_ENV_VARS.clear()
    class_cache.ENV_VARS_TO_PROPAGATE.clear()
    tune_controller.RayActorManager = ActorManager
    ray.tune.tune.TuneController = Controller
    usage.tag_callbacks = _tag_none


def _tag_none(_callbacks: object) -> bool:
    """Ray counts for its statistics which trackers a sweep has, and imports each to know its class: MLflow in all."""
    return False
