"""Train one trial with several processes, run by Ray Train.

The trial's own worker trains nothing then. It holds a ``TorchTrainer``, whose workers Ray places on one node with the
trial's resources, and asks for one epoch at a time, so that early stopping, retries and checkpoints are as for any
other trial: process 0 is the attempt, the others write nothing. See docs/decisions for why it is built so.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.queue import Empty, Queue

from agr_core.data.loading.node_copy import CopyFigures
from agr_core.disk import is_full
from agr_core.errors import AgrError
from agr_core.reporting import EpochReport
from orchestrator.errors import SweepFailedError
from orchestrator.ray_tune.failure import is_out_of_memory
from orchestrator.ray_tune.internals.train import unwrapped
from orchestrator.ray_tune.placement import not_on, on
from orchestrator.worker.epochs import EpochSource
from orchestrator.worker.job import Job, Placed
from orchestrator.worker.scratch import Scratch
from orchestrator.worker.stage import Obtained

_NEXT, _STOP = "next", "stop"
_POLL_S = 1.0
_JOIN_S = 60.0
_COLLECTIVE_S = 7 * 24 * 3600
"""Time limit of a collective operation, in seconds: process 0 may train a stage while the others wait. Ray Train
detects dead processes."""


class TeamSource:
    """The epochs of one attempt, trained by ``job.team``; interface of ``EpochSource``."""

    def __init__(self, job: Job) -> None:
        here = {"num_cpus": 0, "label_selector": on(ray.get_runtime_context().get_node_id())}
        self._orders, self._answers = (Queue(actor_options=here) for _ in range(2))
        self._placed = False
        self._scratch = Scratch(f"team-{job.trial_id}")
        self._answer: dict[str, Any] | None = None
        self._staged: CopyFigures | None = None
        self._files: dict[str, str] = {}
        self._baseline: dict[str, float] | None = None
        self._failure: BaseException | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._train, args=(job,), name="team", daemon=True)
        self._thread.start()

    def next_stage(self) -> Placed | Obtained | None:
        """Like ``EpochSource.next_stage``; the first result is the placement of the processes."""
        if not self._placed:
            self._placed = True
            return Placed(**self._wait()["placed"])
        self._answer = self._ask()
        if "stage" not in self._answer:
            return None
        obtained, self._answer = Obtained(**self._answer["stage"]), None
        return obtained

    def next_epoch(self) -> tuple[EpochReport, float]:
        """Like ``EpochSource.next_epoch``."""
        answer = self._answer or self._ask()
        self._answer = None
        if answer["staged"] is not None:
            self._staged = CopyFigures(**answer["staged"])
        self._files, self._baseline = answer["files"], answer["baseline"]
        report = EpochReport.from_json(answer["report"])
        if report.finished:
            self._stop()  # frees its resources for the next trial on any node
        return report, float(answer["value"])

    def data_staged(self) -> CopyFigures | None:
        """Like ``EpochSource.data_staged``, from process 0."""
        figures, self._staged = self._staged, None
        return figures

    def baseline(self) -> dict[str, float] | None:
        """Like ``EpochSource.baseline``, from process 0."""
        return self._baseline

    def stored_files(self) -> dict[str, str]:
        """Like ``EpochSource.stored_files``, from process 0."""
        files, self._files = self._files, {}
        return files

    def close(self) -> None:
        """End the processes after their current epoch.

        Raises:
            SweepFailedError: If they do not end; the caller's process must end then, so that Ray ends them.
        """
        self._stop()
        self._thread.join(_JOIN_S)
        if self._thread.is_alive():
            raise SweepFailedError(f"the processes that train together do not end within {_JOIN_S:g} s.")
        for queue in (self._orders, self._answers):
            queue.shutdown(force=True)
        with suppress(OSError):  # Ray Train may be writing there still
            self._scratch.close()

    def _stop(self) -> None:
        if not self._stopped and self._thread.is_alive():
            self._orders.put(_STOP)
        self._stopped = True

    def _ask(self) -> dict[str, Any]:
        self._orders.put(_NEXT)
        return self._wait()

    def _wait(self) -> dict[str, Any]:
        while True:
            try:
                answer: dict[str, Any] = json.loads(self._answers.get(timeout=_POLL_S))
                return answer
            except Empty:
                if not self._thread.is_alive():
                    raise reason_of(self._failure) from self._failure

    def _train(self, job: Job) -> None:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        assert job.team is not None, "one process needs no team"
        processes = job.config["compute"]["processes"]
        trainer = TorchTrainer(
            _train_in_team,
            train_loop_config={"job": job.to_json(), "orders": self._orders, "answers": self._answers},
            torch_config=TorchConfig(timeout_s=_COLLECTIVE_S),
            scaling_config=ScalingConfig(
                num_workers=processes,
                use_gpu=job.team.get("GPU", 0) > 0,
                resources_per_worker={name: amount / processes for name, amount in job.team.items()},
                placement_strategy="STRICT_PACK",  # gradients do not travel between rented machines
                label_selector=not_on(job.avoided) or None,
            ),
            run_config=RunConfig(
                name=f"{job.trial_id}-{job.attempt}",
                storage_path=str(self._scratch.path),
                failure_config=FailureConfig(max_failures=0),  # Tune starts another attempt
            ),
        )
        try:
            trainer.fit()
        except BaseException as error:  # noqa: BLE001 - it is raised where the epoch is waited for
            self._failure = error


def reason_of(failure: BaseException | None) -> BaseException:
    """Return the original error: that of one process, or Ray's report of it, rather than its effects on the others."""
    from ray.train import WorkerGroupError

    if not isinstance(failure, WorkerGroupError):
        return failure or SweepFailedError("the processes that train together ended without an error message.")
    return min((unwrapped(error) for _, error in sorted(failure.worker_failures.items())), key=_remoteness)


def _remoteness(error: BaseException) -> int:
    """Return the distance of an error from the cause, when one process fails and the others fail because of that."""
    if isinstance(error, AgrError):
        return 0
    if is_full(error) or is_out_of_memory(error):
        return 1
    return 2 if isinstance(error, RayError) else 3


def _train_in_team(given: dict[str, Any]) -> None:
    """Train in each of the processes."""
    from agr_core.trainer.distributed import Team

    team = Team.joined()
    if team.leads:
        placed = Placed(ray.util.get_node_ip_address(), ray.get_runtime_context().get_node_id())
        given["answers"].put(json.dumps({"placed": asdict(placed)}))
    source = EpochSource(Job.from_json(given["job"]), team=team)
    try:
        while team.told(given["orders"].get() if team.leads else None) == _NEXT:
            answer = _answer(source)
            if team.leads:
                given["answers"].put(json.dumps(answer))
    finally:
        source.close()


def _answer(source: EpochSource) -> dict[str, Any]:
    obtained = source.next_stage()
    if obtained is not None:
        return {"stage": asdict(obtained)}
    report, value = source.next_epoch()
    staged = source.data_staged()
    return {
        "report": report.to_json(),
        "value": value,
        "staged": None if staged is None else asdict(staged),
        "files": source.stored_files(),
        "baseline": source.baseline(),
    }
