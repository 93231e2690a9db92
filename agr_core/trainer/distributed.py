"""Data-parallel training of one trial by several processes.

Each batch is divided: process r of R takes a contiguous part of it. One step therefore sees the same images in the same
order and with the same augmentation as with one process. torch's DistributedDataParallel averages gradients over the
images, every process makes the same update, and predictions are gathered before metrics are computed. The caller starts
the processes and joins them into torch's default process group.

Differences from one process: each process draws dropout for its own images; batch norm normalises each process's part
separately, and its running statistics are those of process 0; MixUp chooses an image's partner within the part; a task
with unknown labels weights each part by its number of images, as ``accumulate`` does. Therefore the number of processes
is part of the configuration (``compute.processes``), and the same number reproduces the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Team:
    """The processes that train a trial together, seen from process ``rank`` of ``size``; ``size`` 1: no team."""

    rank: int = 0
    size: int = 1

    @classmethod
    def joined(cls) -> Team:
        """Return the processes of torch's default process group."""
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def leads(self) -> bool:
        """Whether this process writes and reports for the team (rank 0)."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module | None:
        """Return ``model`` with gradients averaged over the team in ``backward``; None if there is one process."""
        if self.size == 1:
            return None
        # With find_unused_parameters, gradients keep the buckets of the first step. Otherwise DDP rebuilds them after
        # it, which changes the order of sums, and a resumed training would differ from an uninterrupted one. Cascades
        # need it anyway: an expert may have no image in a batch.
        return DistributedDataParallel(model, find_unused_parameters=True, forward_sync_buffers=False)

    @contextmanager
    def summing(self, wrapped: nn.Module | None, *, now: bool) -> Iterator[None]:
        """Run a batch's forward and backward pass in the block; average gradients over the team only if ``now``."""
        if isinstance(wrapped, DistributedDataParallel) and not now:
            with wrapped.no_sync():
                yield
        else:
            yield

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average the gradients of parameters that no wrapped model contains."""
        if self.size > 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    distributed.all_reduce(parameter.grad)
                    parameter.grad /= self.size

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a 0-d tensor over the team; not finite if any process's value is not."""
        if self.size == 1:
            return value
        mean = value.detach().clone()
        distributed.all_reduce(mean)
        return mean / self.size

    def take_buffers(self, *modules: nn.Module) -> None:
        """Copy the buffers of process 0, which are batch norm statistics, to every process.

        The group's backend must support their device: NCCL, used on GPUs, does not send CPU tensors.
        """
        if self.size > 1:
            for module in modules:
                for buffer in module.buffers():
                    distributed.broadcast(buffer, src=0)

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value to all processes, in the order of ranks."""
        if self.size == 1:
            return [value]
        gathered: list[Any] = [None] * self.size
        distributed.all_gather_object(gathered, value)
        return gathered

    def told(self, value: Any) -> Any:
        """Return the value of process 0 to all processes."""
        if self.size == 1:
            return value
        said = [value]
        distributed.broadcast_object_list(said, src=0)
        return said[0]


ALONE = Team()
