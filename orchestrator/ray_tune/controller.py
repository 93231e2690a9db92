"""What of Tune's own machinery is changed: for workers that take one trial after another, and for a quick start."""

from __future__ import annotations

import ray
import ray.tune.tune
from ray.air._internal import usage
from ray.air.execution._internal import RayActorManager
from ray.air.execution._internal.tracked_actor import TrackedActor
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import OutOfMemoryError
from ray.tune.execution import tune_controller
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
    """Tune's, but for a worker that is stopped in the middle of an epoch, and one that dies turning to a trial."""

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
    """Let ``tune.run`` use them."""
    tune_controller.RayActorManager = ActorManager
    ray.tune.tune.TuneController = Controller
    usage.tag_callbacks = _tag_none


def _tag_none(_callbacks: object) -> bool:
    """Ray counts for its statistics which trackers a sweep has, and imports each to know its class: MLflow in all."""
    return False
