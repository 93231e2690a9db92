"""How Ray Tune behaves where we rely on it; an upgrade that changes it shows here. No cluster is started."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from typing import Any

import pytest

pytestmark = pytest.mark.slow  # importing ray takes seconds


class Stand:
    """ASHA looks at nothing but a trial's ID."""

    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


def asha(**changes: Any) -> Any:
    from ray.tune.schedulers import AsyncHyperBandScheduler

    settings = {"time_attr": "epoch", "metric": "m", "mode": "min", "grace_period": 1, "reduction_factor": 3}
    return AsyncHyperBandScheduler(**{**settings, "max_t": 10**9, **changes})


def feed(scheduler: Any, trial: str, epoch: int, value: float) -> str:
    return str(scheduler.on_trial_result(None, Stand(trial), {"epoch": epoch, "m": value}))


def test_a_result_without_an_epoch_passes_asha_by() -> None:
    """What a trial says of its stages comes before its first epoch."""
    scheduler = asha()
    scheduler.on_trial_add(None, Stand("a"))
    assert scheduler.on_trial_result(None, Stand("a"), {"stage": "{}"}) == "CONTINUE"
    assert feed(scheduler, "a", 1, 1.0) == "CONTINUE"


def test_asha_takes_stand_ins_and_stops_at_its_rungs_only() -> None:
    scheduler = asha()
    for trial in "abcd":
        scheduler.on_trial_add(None, Stand(trial))
    assert feed(scheduler, "a", 1, 1.0) == "CONTINUE"
    assert feed(scheduler, "b", 1, 2.0) == "STOP"
    assert feed(scheduler, "c", 1, 0.5) == "CONTINUE"
    assert feed(scheduler, "a", 2, 9.0) == "CONTINUE"
    assert feed(scheduler, "a", 3, 1.0) == "CONTINUE"
    assert feed(scheduler, "c", 3, 2.0) == "STOP"


def test_asha_is_a_function_of_what_it_was_told() -> None:
    """So a journal, told again, restores it."""
    reports = [("a", 1, 5.0), ("b", 1, 4.0), ("c", 1, 6.0), ("b", 3, 3.0), ("d", 1, 4.5), ("d", 3, 3.5)]
    decisions = []
    for _ in range(2):
        scheduler = asha()
        for trial in "abcd":
            scheduler.on_trial_add(None, Stand(trial))
        decisions.append([feed(scheduler, *report) for report in reports])
    assert decisions[0] == decisions[1]


def test_an_epoch_told_twice_changes_nothing() -> None:
    scheduler = asha()
    for trial in "ab":
        scheduler.on_trial_add(None, Stand(trial))
    feed(scheduler, "a", 1, 1.0)
    before = scheduler.debug_string()
    assert feed(scheduler, "a", 1, 99.0) == "CONTINUE"
    assert scheduler.debug_string() == before


def test_nan_passes_every_rung() -> None:
    """Why a loss that is not finite ends the trial before Tune sees it."""
    scheduler = asha()
    for trial in "ab":
        scheduler.on_trial_add(None, Stand(trial))
    feed(scheduler, "a", 1, 1.0)
    assert feed(scheduler, "b", 1, math.nan) == "CONTINUE"


def test_a_report_without_its_epoch_is_never_considered() -> None:
    """Why the adapter's result always has it."""
    scheduler = asha()
    scheduler.on_trial_add(None, Stand("a"))
    assert scheduler.on_trial_result(None, Stand("a"), {"m": 1e9}) == "CONTINUE"


RUNTIME_ENVIRONMENTS = """
from ray.runtime_env import RuntimeEnv
from ray.tune.execution import class_cache
from orchestrator.ray_tune.internals.tune import changed

def asked_for():
    return class_cache._ActorClassCache().get(type("Trainable", (), {}))._default_options["runtime_env"]

print(asked_for()["env_vars"].get("AWS_SECRET_ACCESS_KEY"))
with changed():
    print(RuntimeEnv(**asked_for()).serialize())
print(asked_for()["env_vars"].get("AWS_SECRET_ACCESS_KEY"))
"""


def test_tunes_workers_have_no_runtime_environment() -> None:
    """Tune would copy the driver's credentials into it; and workers that wait go to those who ask for none."""
    # In a process of its own, which has the secret in its environment.
    secret = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "RAY_CHDIR_TO_TRIAL_DIR": "1"}
    environment = {**os.environ, **secret, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", RUNTIME_ENVIRONMENTS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["secret", "{}", "secret"]


def test_a_result_that_says_done_is_not_shown_to_the_scheduler() -> None:
    """Why a trial's last epoch reaches the scheduler with its end only, live as on resume."""
    from ray.tune.experiment import Trial

    assert Trial.should_stop(Stand("a"), {"done": True})  # type: ignore[arg-type]


def test_a_worker_ended_by_the_memory_monitor_is_a_failed_attempt() -> None:
    """For Tune's own manager it is no error of an actor, and ends the whole run."""
    from ray.air.execution._internal import RayActorManager
    from ray.air.execution._internal.tracked_actor import TrackedActor
    from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
    from ray.exceptions import OutOfMemoryError

    from orchestrator.ray_tune.failure import WorkerOutOfMemoryError
    from orchestrator.ray_tune.internals.tune import ActorManager

    class Bare(ActorManager):
        """Without a cluster, so without anything to clean up."""

        def __init__(self) -> None:
            self._failed_actor_ids: set[int] = set()

        def _cleanup_actor(self, tracked_actor: TrackedActor) -> None:
            pass

    heard: list[Exception] = []
    task = TrackedActorTask(TrackedActor(1, on_error=lambda _, error: heard.append(error)))
    killed = OutOfMemoryError("killed, the node was running low on memory")
    with pytest.raises(RuntimeError, match="unexpected exception"):
        RayActorManager._actor_task_failed(Bare(), task, killed)
    Bare()._actor_task_failed(task, killed)
    assert [type(error) for error in heard] == [WorkerOutOfMemoryError]
    assert str(heard[0]) == str(killed)
