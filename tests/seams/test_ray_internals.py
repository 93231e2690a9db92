"""Every private name of Ray behind ``orchestrator.ray_tune.internals``: that it is there, and does what we rely on.

Most need no cluster. Those that do share one, which the module starts.
"""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.slow  # importing ray takes seconds

ROOT = Path(__file__).parents[2]

# --------------------------------------------------------------------------------------------------------------------
# core, raylet: on a node of our own


@pytest.fixture(scope="module")
def node() -> Iterator[dict[str, Any]]:
    """A node of the Ray of this process, as ``ray.nodes()`` has it; other tests may have started one."""
    import ray

    from orchestrator.ray_tune.session import start_ray

    if ray.is_initialized():
        yield next(node for node in ray.nodes() if node["Alive"])
        return
    start_ray(num_cpus=1, log_to_driver=False)
    try:
        yield ray.nodes()[0]
    finally:
        ray.shutdown()


def address() -> str:
    import ray

    return str(ray.get_runtime_context().gcs_address)


def test_the_machine_in_figures() -> None:
    import psutil

    from orchestrator.ray_tune.internals import core

    assert 1 <= core.cpu_count() <= 4096
    assert 10**8 < core.system_memory() <= psutil.virtual_memory().total * 1.01


def test_the_command_of_ray_is_a_module() -> None:
    from orchestrator.ray_tune.internals.core import COMMAND_MODULE

    command = [sys.executable, "-m", COMMAND_MODULE, "start", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for option in (
        "--node-ip-address",
        "--object-store-memory",
        "--disable-usage-stats",
        "--include-log-monitor",
        "--num-cpus",
    ):
        assert option in done.stdout, option


def test_the_environment_is_read_again() -> None:
    """In a process of its own: its variables are of this test alone."""
    script = """
import os
from ray._raylet import Config
os.environ["RAY_health_check_period_ms"] = "4711"
before = Config.health_check_period_ms()
from orchestrator.ray_tune.internals.core import read_environment_again
read_environment_again()
print(before == 4711, Config.health_check_period_ms())
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "4711"]


def test_workers_are_not_told_the_working_folder(node: dict[str, Any]) -> None:
    """It is on their path at most once: by ``PYTHONPATH``, which the tests set."""
    import ray

    path = ray.get(ray.remote(num_cpus=0)(_path).remote())

    assert path.count(str(Path.cwd())) == 1


def _path() -> list[str]:
    return list(sys.path)


def test_an_actors_node_is_known_while_it_is_busy(node: dict[str, Any]) -> None:
    import ray

    from orchestrator.ray_tune.internals.core import actor_node

    class Busy:
        def works(self) -> None:
            time.sleep(3600)

    actor: Any = ray.remote(num_cpus=0)(Busy).remote()
    ray.get(actor.__ray_ready__.remote())
    actor.works.remote()
    try:
        assert actor_node(actor._actor_id.hex()) == (node["NodeManagerAddress"], node["NodeID"])
        assert actor_node("0" * 32) == ("", "")
    finally:
        ray.kill(actor)


def test_what_nodes_have_free_and_which_leave(node: dict[str, Any]) -> None:
    from orchestrator.ray_tune.internals import core

    assert 0.0 <= core.free_resources()[node["NodeID"]]["CPU"] <= node["Resources"]["CPU"]
    assert core.draining_nodes() == {}


def test_a_cluster_is_looked_at_without_a_driver(node: dict[str, Any]) -> None:
    script = f"""
import ray
from orchestrator.cluster.token import speak_with_token
from orchestrator.ray_tune.internals.core import cluster_state
speak_with_token()
state = cluster_state({address()!r})
assert not ray.is_initialized()
(node,) = [node for node in state.nodes if node["NodeID"] == {node["NodeID"]!r}]
print(node["Alive"], "CPU" in state.free[node["NodeID"]], state.draining)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "True", "{}"]


def test_the_control_service_keeps_values_by_key(node: dict[str, Any]) -> None:
    from orchestrator.ray_tune.internals.core import ControlClient

    client = ControlClient(address(), namespace=b"seam", timeout_s=5.0)
    other = ControlClient(address(), namespace=b"another", timeout_s=5.0)
    assert client.get("a/1") is None
    client.put("a/1", b"old")
    client.put("a/1", b"new")
    client.put("b/1", b"b")
    assert client.get("a/1") == b"new"
    assert client.keys("a/") == ["a/1"]
    assert other.get("a/1") is None
    client.delete("a/1")
    client.delete("a/1")
    assert client.get("a/1") is None


def test_to_drain_a_node_that_is_not_there_is_accepted_and_drains_none(node: dict[str, Any]) -> None:
    """That one that is there drains is looked at in tests/cluster: it would be the end of this one."""
    from orchestrator.ray_tune.internals.core import ControlClient, draining_nodes

    client = ControlClient(address(), namespace=b"seam", timeout_s=5.0)
    assert client.drain_node("f" * 56, reason="a test", deadline=time.time() + 60) is None
    assert node["NodeID"] not in draining_nodes()


def test_a_raylet_starts_workers_before_they_are_asked_for(node: dict[str, Any]) -> None:
    from orchestrator.ray_tune.internals import raylet

    where = node["NodeManagerAddress"], node["NodeManagerPort"]
    before = set(raylet.unused_workers(*where, timeout_s=10.0))
    raylet.prestart_workers(*where, len(before) + 1, timeout_s=10.0)
    until = time.monotonic() + 60
    while len(set(raylet.unused_workers(*where, timeout_s=10.0)) - before) < 1:
        assert time.monotonic() < until, "no worker started"
        time.sleep(0.2)


def test_a_raylet_that_is_not_there_is_a_grpc_error() -> None:
    import grpc

    from orchestrator.ray_tune.internals import raylet

    with pytest.raises(grpc.RpcError):
        raylet.unused_workers("127.0.0.1", 1, timeout_s=2.0)


def test_a_placement_group_is_asked_for_near_a_node(node: dict[str, Any]) -> None:
    import ray
    from ray.tune import PlacementGroupFactory

    from orchestrator.ray_tune.internals.tune import place_near

    group = place_near(PlacementGroupFactory([{"CPU": 1.0}], strategy="STRICT_PACK"), node["NodeID"])
    try:
        ray.get(group.ready(), timeout=60)
        assert group.bundle_specs == [{"CPU": 1.0}]
    finally:
        ray.util.remove_placement_group(group)


@pytest.mark.parametrize(("ours", "held"), [(True, 1), (False, 4)])
def test_a_worker_s_results_are_released_while_it_runs(node: dict[str, Any], ours: bool, held: int) -> None:
    """Tune's own manager holds them all, until the worker ends: a reused one ends with the sweep."""
    import ray
    from ray.air.execution import FixedResourceManager, ResourceRequest
    from ray.air.execution._internal import RayActorManager

    from orchestrator.ray_tune.internals.tune import ActorManager

    class Worker:
        def step(self, number: int) -> int:
            return number

    manager = (ActorManager if ours else RayActorManager)(resource_manager=FixedResourceManager({"CPU": 1.0}))
    started, results = list[Any](), list[int]()
    worker: Any = ray.remote(num_cpus=0)(Worker)
    tracked = manager.add_actor(worker, {}, ResourceRequest([{"CPU": 1.0}]), on_start=started.append)
    try:
        while not started:
            manager.next(timeout=1)
        for number in range(4):
            manager.schedule_actor_task(tracked, "step", (number,), on_result=lambda _, result: results.append(result))
            assert manager_is_busy(manager, tracked)
            while len(results) <= number:
                manager.next(timeout=1)
            assert not manager_is_busy(manager, tracked)
        assert results == [0, 1, 2, 3]
        assert len(manager._tracked_actors_to_task_futures[tracked]) == held
    finally:
        manager.remove_actor(tracked, kill=True)
        manager.cleanup()


def manager_is_busy(manager: Any, tracked: Any) -> bool:
    """For Tune's manager too, which cannot tell."""
    from orchestrator.ray_tune.internals.tune import ActorManager

    return ActorManager.is_busy(manager, tracked)


# --------------------------------------------------------------------------------------------------------------------
# tune


def test_names_of_results_and_variables() -> None:
    """Both are on disk or in other processes, so their text matters."""
    from orchestrator.ray_tune.internals import tune

    assert tune.RESULT_DONE == "done"
    assert tune.CHANGE_FOLDER == "RAY_CHDIR_TO_TRIAL_DIR"


def test_tune_adds_no_progress_callback_where_one_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.tune.utils.callback import _create_default_callbacks

    from orchestrator.ray_tune.internals.tune import ProgressCallback

    monkeypatch.setenv("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")

    class Silent(ProgressCallback):  # type: ignore[misc]
        pass

    def kinds(given: list[Any]) -> list[type]:
        made = _create_default_callbacks(given, air_verbosity=None, progress_metrics=None)
        return [type(each) for each in made if isinstance(each, ProgressCallback)]

    assert kinds([]) == [ProgressCallback]
    assert kinds([Silent()]) == [Silent]


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("_maybe_add_actors", ["self"]),
        ("_remove_actor", ["self", "tracked_actor"]),
        ("stop_trial", ["self", "trial"]),
        ("_trial_task_failure", ["self", "trial", "exception"]),
    ],
)
def test_the_controllers_methods_that_we_override_or_call(method: str, parameters: list[str]) -> None:
    from ray.tune.execution.tune_controller import TuneController

    assert list(inspect.signature(getattr(TuneController, method)).parameters)[: len(parameters)] == parameters


def test_the_controller_has_the_fields_that_we_read() -> None:
    """They are set in its constructor, and in no class body."""
    from ray.tune.execution.tune_controller import TuneController

    from orchestrator.ray_tune.internals import tune

    ours = ast.parse(inspect.getsource(tune.Controller).replace("class Controller(TuneController):", "class C:"))
    read = {
        node.attr
        for node in ast.walk(ours)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
        and not hasattr(tune.Controller, node.attr)
    }
    source = inspect.getsource(TuneController.__init__)
    assert read, "the controller reads some"
    assert {name for name in read if f"self.{name} =" not in source and f"self.{name}:" not in source} == set()


def test_a_worker_is_busy_while_a_task_of_it_is_asked_for() -> None:
    from ray.air.execution._internal.tracked_actor import TrackedActor

    from orchestrator.ray_tune.internals.tune import ActorManager

    class Bare(ActorManager):
        def __init__(self, futures: dict[Any, set[str]], pending: set[str]) -> None:
            self._tracked_actors_to_task_futures = futures
            self._actor_task_events = SimpleNamespace(get_futures=lambda: pending)

    worker, other = TrackedActor(1), TrackedActor(2)
    manager = Bare({worker: {"asked"}}, {"asked"})
    assert manager.is_busy(worker)
    assert not manager.is_busy(other)
    assert not Bare({worker: {"asked"}}, set()).is_busy(worker)
    real = inspect.getsource(ActorManager.__mro__[1])
    assert "self._tracked_actors_to_task_futures" in real
    assert "self._actor_task_events" in real


def test_what_tune_is_given_for_a_sweep_is_taken_back() -> None:
    import ray.tune.tune
    from ray.air._internal import usage
    from ray.tune.execution import class_cache, tune_controller

    from orchestrator.ray_tune.internals.tune import ActorManager, Controller, changed

    def now() -> list[object]:
        return [
            class_cache.DEFAULT_ENV_VARS,
            class_cache.ENV_VARS_TO_PROPAGATE,
            tune_controller.RayActorManager,
            ray.tune.tune.TuneController,
            usage.tag_callbacks,
        ]

    found = now()
    assert found[0]
    assert found[1]
    copies = dict(class_cache.DEFAULT_ENV_VARS), set(class_cache.ENV_VARS_TO_PROPAGATE)
    with changed():
        inner = now()
        assert all(one is not other for one, other in zip(inner, found, strict=True))
        assert inner[2:4] == [ActorManager, Controller]
        with changed():
            assert now()[2:4] == [ActorManager, Controller]
        assert all(one is other for one, other in zip(now(), inner, strict=True))
    assert all(one is other for one, other in zip(now(), found, strict=True))
    assert copies == (class_cache.DEFAULT_ENV_VARS, class_cache.ENV_VARS_TO_PROPAGATE)
    with pytest.raises(ZeroDivisionError), changed():
        raise ZeroDivisionError
    assert all(one is other for one, other in zip(now(), found, strict=True))


def test_the_names_that_are_replaced_are_those_that_tune_looks_up() -> None:
    """It looks them up in these modules, when it runs: not in the modules that define them."""
    import ray.tune.tune
    from ray.tune.execution import class_cache, tune_controller

    assert "runner = TuneController(" in inspect.getsource(ray.tune.tune.run)
    assert "air_usage.tag_callbacks(" in inspect.getsource(ray.tune.tune.run)
    assert "= RayActorManager(" in inspect.getsource(tune_controller.TuneController.__init__)
    assert {"DEFAULT_ENV_VARS", "ENV_VARS_TO_PROPAGATE"} <= set(class_cache._ActorClassCache.get.__code__.co_names)


def test_a_trials_worker_and_what_tune_keeps_of_a_trial() -> None:
    from ray.tune.experiment import Trial

    from orchestrator.ray_tune.internals import tune

    trial = Trial("seam", stub=True, config={"job": "{}"}, trial_id="a")
    assert tune.worker_of(trial) is None
    trial.temporary_state.ray_actor = SimpleNamespace(_actor_id=SimpleNamespace(hex=lambda: "c0ffee"))
    assert tune.worker_id(trial) == "c0ffee"
    assert trial.config
    trial.run_metadata.last_result = {"m": 1}
    trial.run_metadata.metric_analysis = {"m": {"max": 1}}
    trial.run_metadata.metric_n_steps = {"m": {"5": [1]}}
    tune.forget(trial)
    assert trial.config == {}
    assert not any(
        (trial.run_metadata.last_result, trial.run_metadata.metric_analysis, trial.run_metadata.metric_n_steps)
    )


# --------------------------------------------------------------------------------------------------------------------
# train, and what tests use


def test_train_keeps_what_a_process_raised() -> None:
    from orchestrator.ray_tune.internals.train import unwrapped
    from tests.parts.ray_internals import UserExceptionWithTraceback, WorkerHealthCheckFailedError

    error = ValueError("a mistake")
    assert unwrapped(UserExceptionWithTraceback(error, "Traceback")) is error
    assert unwrapped(WorkerHealthCheckFailedError("no answer", error)) is error
    assert unwrapped(error) is error


def test_what_tests_use_of_ray() -> None:
    from tests.parts import ray_internals

    ray_internals.validate_node_label_syntax({"agr-gpu": "RTX_3090"})
    with pytest.raises(ValueError, match="no blanks here!"):
        ray_internals.validate_node_label_syntax({"agr-gpu": "no blanks here!"})
    ray_internals.validate_node_labels({"agr-gpu": "RTX_3090"})
    with pytest.raises(ValueError, match="reserved"):
        ray_internals.validate_node_labels({"ray.io/gpu": "RTX_3090"})
    assert {"gcs_address", "num_cpus", "memory", "env_vars", "include_log_monitor"} <= set(
        inspect.signature(ray_internals.RayParams).parameters
    )
    assert {"head", "shutdown_at_exit", "spawn_reaper"} <= set(inspect.signature(ray_internals.Node).parameters)
    assert callable(ray_internals.Node.kill_all_processes)
