"""Measure memory and speed of one configuration: three training steps and one evaluation, in a process of their own.

Nothing is stored: there is no trial. The steps are those of a real epoch, which ends early. The process has a limit of
main memory, which Ray's own threads in a worker would not survive; so a worker starts it as ``python -m
orchestrator.worker.measure``, with the job on standard input.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import math
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from agr_core.config import TrialConfig
from agr_core.data.loading.node_copy import CopyFigures
from agr_core.errors import AgrError, InputError
from agr_core.objective import Objective
from orchestrator.assets.datasets import room_of, stage
from orchestrator.assets.weights import stage_weights
from orchestrator.provenance import hardware
from orchestrator.settings import Settings
from orchestrator.storage import open_patiently
from orchestrator.worker.job import Job
from orchestrator.worker.scratch import Scratch

if TYPE_CHECKING:
    from agr_core.batch import Batch
    from agr_core.data.loading.trial_data import TrialData
    from agr_core.trainer.distributed import Team

STEPS = 3
"""Optimizer steps that are trained at least."""

MEASURED_S = 4.0
"""Steps after the first go on this long, in seconds: single short steps differ too much."""

_STILL = 1e-12
"""Learning rate of the measurement: a rate at the end of its range must not make the loss infinite."""


@dataclass(frozen=True)
class Measured:
    """Figures of one configuration."""

    hardware: str
    images_per_s: float
    """Images a second into training, of all processes of the trial."""
    epoch_s: float
    """Seconds of a whole epoch with evaluation and checkpoint, by these speeds."""
    start_s: float
    """Seconds from the beginning of the process' work to the first step: imports, data, model."""
    build_s: float
    """The part of ``start_s`` that a warm worker repeats for each trial."""
    main_gb: float | None
    gpu_gb: float | None
    gpu_total_gb: float | None = None
    """Memory of the GPU."""


class FewSteps:
    """A trial's data whose training epochs end after a few steps; everything else is as it is.

    Args:
        data: The data.
        batches: Smallest number of batches.
        at_least_s: Seconds that the batches after the first take at least.
        agree: For a team, whose processes must end at the same batch: returns the number that its first process
            computes from the first ``batches``. None: each batch decides by the clock.

    Attributes:
        marks: Time at which each batch was asked for, and the end.
        images: Number of images of each batch.
    """

    def __init__(
        self,
        data: TrialData,
        *,
        batches: int,
        at_least_s: float = MEASURED_S,
        agree: Callable[[int], int] | None = None,
        now: Any = time.perf_counter,
    ) -> None:
        self._data = data
        self._at_least_s = at_least_s
        self._batches = batches
        self._agree = agree
        self._now = now
        self.marks: list[float] = []
        self.images: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._data, name)

    def train_batches(self, epoch: int) -> Iterator[Batch]:
        """Return the first batches of an epoch, counted from 0."""
        agreed = 0
        for batch in self._data.train_batches(epoch):
            self.marks.append(self._now())
            self.images.append(batch.images_of_all)
            yield batch
            measured_s = self._now() - self.marks[min(1, len(self.marks) - 1)]
            if len(self.images) < self._batches:
                continue
            if self._agree is None and measured_s >= self._at_least_s:
                break
            if self._agree is not None:
                agreed = agreed or self._agree(self._enough(measured_s))
                if len(self.images) >= agreed:
                    break
        self.marks.append(self._now())

    def _enough(self, measured_s: float) -> int:
        """Return how many batches take long enough, a multiple of the smallest number, if the others are as fast."""
        a_batch_s = max(1e-9, measured_s) / max(1, len(self.images) - 1)
        return self._batches * max(1, math.ceil((1 + self._at_least_s / a_batch_s) / self._batches))

    def images_per_s(self) -> float:
        """Return the images a second of the later half of the batches.

        The first batch also waits for lazy initialisation, and the next ones are slower too: of 60 batches of a small
        network the early ones took a fifth longer than those of later epochs.
        """
        first = len(self.images) // 2
        return sum(self.images[first:]) / max(1e-9, self.marks[-1] - self.marks[first])


def measure(job: Job, *, memory_bytes: float | None, gpu_share: float, team: Team | None = None) -> Measured:
    """Train a few steps of ``job.config`` and evaluate once.

    Args:
        job: The configuration, its data and weights; its IDs are not used.
        memory_bytes: Main memory that this process may hold; None: no limit.
        gpu_share: Share of a GPU that the trial may hold, as ``resources.gpus``; 1 or more: all of it.
        team: Processes that train it together; this is one of them.

    Raises:
        MemoryError: If it needs more main memory; also RuntimeError, as torch does.
        RuntimeError: If it needs more memory of the GPU.
        InputError: If its data or model cannot be trained.
    """
    began = time.perf_counter()
    import torch

    from agr_core.data.loading.trial_data import TrialData
    from agr_core.trainer.distributed import ALONE
    from agr_core.trainer.loop import Training

    team = team or ALONE
    settings, storage = Settings.from_environment(), open_patiently(job.storage)
    config = _still(TrialConfig.from_document(job.config))
    figures = CopyFigures()
    staged = stage(job.data, storage=storage, cache=settings.cache, figures=figures)
    weights = None
    if job.weights_sha256 is not None:
        weights = stage_weights(job.weights_sha256, storage=storage, cache=settings.cache, figures=figures)
    if 0 < gpu_share < 1 and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(gpu_share)
    built = time.perf_counter()
    data = TrialData.open(
        config,
        packed=staged.packed,
        split=staged.split,
        cache=settings.cache,
        figures=figures,
        room=room_of(settings.cache),
        part=(team.rank, team.size),
    )
    if memory_bytes is not None:
        _limit_main_memory(memory_bytes)  # only now: libraries reserve gigabytes of address space when they are loaded
    agree = team.told if team.size > 1 else None
    few = FewSteps(data, batches=STEPS * config.accumulate, agree=agree, now=_now)
    objective = Objective.model_validate(job.objective)
    keep = {label: Objective.model_validate(each) for label, each in job.keep.items()}
    further = [Objective.model_validate(each) for each in job.further]
    training = Training(config, few, objective, keep, further=further, weights=weights, team=team)
    try:
        began_epoch = _now()
        report = training.run_epoch()
        evaluated_s = (_now() - began_epoch) - (few.marks[-1] - few.marks[0])
        with contextlib.closing(Scratch("check")) as scratch:
            saving = time.perf_counter()
            training.save(scratch.path)
            saved_s = time.perf_counter() - saving
        speed = few.images_per_s()
        return Measured(
            hardware=hardware(),
            images_per_s=speed,
            epoch_s=data.images_per_epoch / speed + evaluated_s + saved_s,
            start_s=few.marks[0] - began,
            build_s=few.marks[0] - built,
            main_gb=report.metrics.get("memory/main_gb"),
            gpu_gb=report.metrics.get("memory/gpu_gb"),
            gpu_total_gb=torch.cuda.get_device_properties(0).total_memory / 1e9
            if "memory/gpu_gb" in report.metrics
            else None,
        )
    finally:
        training.close()
        data.close()


def _now() -> float:
    """Return the time when the GPU has done all that was asked of it."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def _still(config: TrialConfig) -> TrialConfig:
    """Return the configuration with a learning rate that changes no weight to speak of."""
    return config.model_copy(update={"optimizer": config.optimizer.model_copy(update={"lr": _STILL})})


def _limit_main_memory(memory_bytes: float) -> None:
    """Limit what this process may hold; address space that it has reserved and does not use is not counted."""
    from agr_core.trainer.memory import reserved_bytes

    reserved = reserved_bytes()
    if reserved is None:
        return  # not Linux: what it holds is still measured
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    wanted = int(memory_bytes) + reserved
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


_KILL_WITH_PARENT = 1
"""``PR_SET_PDEATHSIG`` of prctl."""

_ALLOCATION = re.compile(
    r"bad_alloc|Resource temporarily unavailable|[Cc]annot allocate memory|DefaultCPUAllocator: .*memory"
)
"""In the text of an error of code that could not allocate, or that had no memory for a thread's stack."""


def measure_apart(job: Job, *, memory_bytes: float | None, gpu_share: float) -> Measured:
    """Measure in a child process; arguments and errors as in ``measure``.

    Raises:
        MemoryError: Also if the system killed the process.
    """
    given = {"job": job.to_json(), "memory_bytes": memory_bytes, "gpu_share": gpu_share}
    done = subprocess.run(
        [sys.executable, "-P", "-m", __name__],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=False,
    )
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    if done.returncode == -signal.SIGKILL:
        raise MemoryError("the process was killed, as the system does when memory runs out")
    if done.returncode and memory_bytes is not None and _ALLOCATION.search(done.stderr):
        raise MemoryError(last)
    if done.returncode:
        raise RuntimeError(f"the process ended with code {done.returncode}: {last}")
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    match answer["error"]:
        case None:
            return Measured(**answer["measured"])
        case "memory":
            raise MemoryError(answer["text"])
        case "input":
            raise InputError(answer["text"])
        case _:
            raise RuntimeError(answer["text"])


def main() -> None:
    """Measure the job on standard input and print the answer as the last line."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_KILL_WITH_PARENT, signal.SIGKILL)
    given = json.load(sys.stdin)
    answer: dict[str, Any] = {"error": None, "text": ""}
    try:
        job = Job.from_json(given["job"])
        measured = measure(job, memory_bytes=given["memory_bytes"], gpu_share=given["gpu_share"])
        answer["measured"] = asdict(measured)
    except (MemoryError, AgrError, RuntimeError, OSError) as error:
        lacks_memory = isinstance(error, MemoryError) or _ALLOCATION.search(str(error)) is not None
        kind = "memory" if lacks_memory else "input" if isinstance(error, InputError) else "other"
        answer |= {"error": kind, "text": str(error) or type(error).__name__}
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


if __name__ == "__main__":
    main()
