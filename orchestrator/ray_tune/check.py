"""Measure configurations on the nodes of a cluster, each in a worker process of its own, as a sweep starts them."""

from __future__ import annotations

import contextlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from agr_core.errors import AgrError, InputError
from orchestrator.ray_tune.failure import is_of_a_crowd, is_out_of_memory, one_line
from orchestrator.ray_tune.needs import A_PROCESS, fitting
from orchestrator.ray_tune.placement import on as on_node
from orchestrator.ray_tune.team import reason_of
from orchestrator.spec.model import ResourcesSpec
from orchestrator.sweep.proposals import trial_limit
from orchestrator.worker.job import Job
from orchestrator.worker.measure import Measured, measure, measure_apart
from orchestrator.worker.scratch import Scratch

_ANSWER_S = 60.0
"""Longest time until the answer of a team that is done, in seconds."""

_ACCELERATOR = re.compile(r"accelerator_type:(?P<name>.+)")


@dataclass(frozen=True)
class Kind:
    """A kind of node, and one node of it."""

    name: str
    """Name for people: ``4 x H200, 64 cores, 250 GB``."""
    node_id: str
    resources: Mapping[str, float]
    count: int

    @property
    def memory(self) -> float:
        """Main memory for trials, in bytes."""
        return self.resources.get("memory", 0.0)


@dataclass(frozen=True)
class Checked:
    """Result of one configuration on one kind of node: its figures, or the reason why it cannot run there."""

    index: int
    """Index of the configuration."""
    kind: Kind
    measured: Measured | None = None
    problem: str = ""
    lacks: str = ""
    """``main memory`` or ``GPU memory`` if that was too small."""


def kinds(resources: ResourcesSpec) -> tuple[list[Kind], list[Kind]]:
    """Return the kinds of nodes of the cluster that can hold a trial, and those that cannot.

    Raises:
        InputError: If none can.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for node in sorted(ray.nodes(), key=lambda node: str(node["NodeManagerAddress"])):
        if node["Alive"]:
            groups.setdefault(kind_of(node["Resources"]), []).append(node)
    every = [Kind(name, nodes[0]["NodeID"], nodes[0]["Resources"], len(nodes)) for name, nodes in groups.items()]
    trial = request(resources)
    usable = [kind for kind in every if fitting(trial, kind.resources)]
    if not usable:
        raise InputError(
            f"no trial fits on these nodes: it takes {resources.cpus:g} cores, {resources.gpus:g} GPUs and "
            f"{trial['memory'] / 1e9:.1f} GB of memory (resources in the file), and there is "
            f"{'; '.join(kind.name for kind in every)}. Add larger nodes, or lower resources."
        )
    return usable, [kind for kind in every if kind not in usable]


def kind_of(resources: Mapping[str, float]) -> str:
    """Return the name of a node's kind, by its resources in Ray's names."""
    gpus = int(resources.get("GPU", 0))
    types = [match["name"] for name in resources if (match := _ACCELERATOR.fullmatch(name))]
    parts = [f"{gpus} x {types[0] if types else 'GPU'}"] if gpus else []
    parts.append(f"{resources.get('CPU', 0):g} cores")
    parts.append(f"{resources.get('memory', 0) / 1e9:.0f} GB")
    return ", ".join(parts)


def request(resources: ResourcesSpec, processes: int = 1) -> dict[str, float]:
    """Return what a trial asks of Ray, for all its processes together."""
    memory = float(resources.memory or A_PROCESS * processes)
    wanted = {"CPU": resources.cpus, "GPU": resources.gpus, "memory": memory}
    return {name: amount for name, amount in wanted.items() if amount}


def check(
    jobs: Sequence[Job],
    resources: ResourcesSpec,
    on: Sequence[Kind],
    *,
    concurrency: int | str | None = None,
    done: Callable[[Checked], None],
) -> list[Checked]:
    """Measure each job on one node of each kind, as many beside each other as the sweep's trials.

    Trials share the memory's bandwidth, and cores where they ask for less than one. So where there are fewer jobs than
    a node runs trials, copies of them fill it, and the median of the copies counts. A worker that was ended because all
    processes of its node together used up the memory is measured again alone, once.

    Args:
        jobs: What to measure.
        resources: Resources of a trial.
        on: Kinds of nodes.
        concurrency: Number of trials that the sweep runs at once, or share of the slots; None: no limit.
        done: Called with each result as it comes.

    Returns:
        A result for each kind and job, by kind, in the order of the jobs.
    """
    limit = _Limit.of(resources, on, concurrency)
    waiting = [_Measurement(index, kind) for kind in on for index in _filling(jobs, limit, kind)]
    expected = Counter((each.kind.name, each.index) for each in waiting)
    running: dict[Any, _Measurement] = {}
    measured: defaultdict[tuple[str, int], list[Checked]] = defaultdict(list)
    results: list[Checked] = []
    while waiting or running:
        for each in list(waiting):
            if sum(other.kind is each.kind for other in running.values()) < limit.at_once(jobs[each.index], each):
                waiting.remove(each)
                running[_start(jobs[each.index], resources, each)] = each
        (ready,), _ = ray.wait(list(running), num_returns=1)
        ended = running.pop(ready)
        try:
            result = Checked(ended.index, ended.kind, measured=ray.get(ready))
        except (RayError, AgrError, MemoryError, RuntimeError, OSError) as error:
            if is_of_a_crowd(error) and resources.memory is None and not ended.alone:
                waiting.append(replace(ended, alone=True))
                continue
            result = _failed(ended.index, ended.kind, error)
        of_job = measured[ended.kind.name, ended.index]
        of_job.append(result)
        if len(of_job) == expected[ended.kind.name, ended.index]:
            results.append(_of_copies(of_job))
            done(results[-1])
    order = {kind.name: number for number, kind in enumerate(on)}
    return sorted(results, key=lambda result: (order[result.kind.name], result.index))


@dataclass(frozen=True)
class _Measurement:
    """A measurement that waits or runs; ``alone``: nothing else runs on its node."""

    index: int
    kind: Kind
    alone: bool = False


@dataclass(frozen=True)
class _Limit:
    """How many measurements run on a node at once: as many as trials of the sweep would."""

    resources: ResourcesSpec
    of_sweep: int

    @classmethod
    def of(cls, resources: ResourcesSpec, on: Sequence[Kind], concurrency: int | str | None) -> _Limit:
        slots = sum(kind.count * fitting(request(resources), kind.resources) for kind in on)
        return cls(resources, trial_limit(slots, concurrency))

    def at_once(self, job: Job, each: _Measurement) -> int:
        """Return the limit on a node of its kind."""
        return 1 if each.alone else self.of_kind(each.kind, _processes(job))

    def of_kind(self, kind: Kind, processes: int = 1) -> int:
        """Return the number of trials on a node of this kind."""
        return max(1, min(self.of_sweep, fitting(request(self.resources, processes), kind.resources)))


def _filling(jobs: Sequence[Job], limit: _Limit, kind: Kind) -> list[int]:
    """Return the indices of all jobs and, if they run beside fewer trials than the sweep's, of copies of them."""
    every = list(range(len(jobs)))
    if any(_processes(job) > 1 for job in jobs):
        return every
    return [*every, *(number % len(jobs) for number in range(len(jobs), limit.of_kind(kind)))]


def _of_copies(results: Sequence[Checked]) -> Checked:
    """Return the failure of a copy, if one failed, else the one of median speed."""
    failed = [result for result in results if result.measured is None]
    return failed[0] if failed else sorted(results, key=_speed)[(len(results) - 1) // 2]


def _speed(result: Checked) -> float:
    return 0.0 if result.measured is None else result.measured.images_per_s


def _processes(job: Job) -> int:
    return int(job.config["compute"]["processes"])


def _start(job: Job, resources: ResourcesSpec, each: _Measurement) -> Any:
    kind, processes = each.kind, _processes(job)
    wanted = request(resources, processes)
    if each.alone:
        wanted["CPU"] = kind.resources["CPU"]
    there = NodeAffinitySchedulingStrategy(kind.node_id, soft=False)
    if processes > 1:
        holder: Any = ray.remote(max_calls=1, max_retries=0, num_cpus=0)(_measure_team)
        return holder.options(scheduling_strategy=there).remote(
            job.to_json(), json.dumps(wanted), kind.node_id, resources.memory
        )
    task: Any = ray.remote(max_calls=1, max_retries=0)(_measure)
    return task.options(
        num_cpus=wanted.get("CPU", 0),
        num_gpus=wanted.get("GPU", 0),
        memory=wanted["memory"],
        scheduling_strategy=there,
    ).remote(job.to_json(), resources.memory or kind.memory, resources.gpus)


def _measure_team(job: str, resources: str, node_id: str, memory: float | None) -> Measured:
    """Run on a node: measure with the processes of a team, which Ray Train places there.

    Raises:
        MemoryError: If they use more main memory than ``memory``, in bytes. They have no limit of it: Ray's own threads
            in them would not survive one.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer
    from ray.util.queue import Queue

    wanted: dict[str, float] = json.loads(resources)
    processes = Job.from_json(job).config["compute"]["processes"]
    answers = Queue(actor_options={"num_cpus": 0, "label_selector": on_node(node_id)})
    with contextlib.closing(Scratch("check-team")) as scratch:
        trainer = TorchTrainer(
            _measure_in_team,
            train_loop_config={"job": job, "answers": answers},
            scaling_config=ScalingConfig(
                num_workers=processes,
                use_gpu=wanted.get("GPU", 0) > 0,
                resources_per_worker={name: amount / processes for name, amount in wanted.items()},
                placement_strategy="STRICT_PACK",
                label_selector=on_node(node_id),
            ),
            run_config=RunConfig(
                name="check", storage_path=str(scratch.path), failure_config=FailureConfig(max_failures=0)
            ),
        )
        try:
            trainer.fit()
        except Exception as error:
            raise reason_of(error) from error
        measured = Measured(**json.loads(answers.get(timeout=_ANSWER_S)))
    if memory is not None and measured.main_gb is not None and measured.main_gb * 1e9 > memory:
        raise MemoryError(
            f"its {processes} processes use {measured.main_gb:.3g} GB, and resources.memory is {memory / 1e9:.3g} GB"
        )
    return measured


def _measure_in_team(given: dict[str, Any]) -> None:
    """Run in each process of a team."""
    from agr_core.trainer.distributed import Team

    team = Team.joined()
    measured = measure(Job.from_json(given["job"]), memory_bytes=None, gpu_share=1, team=team)
    if team.leads:
        given["answers"].put(json.dumps(asdict(measured)))


def _measure(job: str, memory_bytes: float, gpu_share: float) -> Measured:
    """Run on a node: measure in a child of this worker process."""
    return measure_apart(Job.from_json(job), memory_bytes=memory_bytes, gpu_share=gpu_share)


def _failed(index: int, kind: Kind, error: BaseException) -> Checked:
    raised = error.cause if isinstance(error, RayTaskError) and error.cause is not None else error
    if is_out_of_memory(raised):
        of_gpu = "cuda" in str(raised).lower() or "cublas" in str(raised).lower()
        return Checked(index, kind, problem=one_line(error), lacks="GPU memory" if of_gpu else "main memory")
    return Checked(index, kind, problem=one_line(error))
