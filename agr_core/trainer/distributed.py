"""One trial trained by several processes: what they share, and what is summed up over them.

Each batch is shared out: process r of R takes a contiguous part of it, so that one step sees the images, in the order
and with the augmentation, that one process would see. Gradients are averaged over the images by torch's
DistributedDataParallel, every process makes the same update, and predictions are gathered before figures are computed.
Who starts the processes, and joins them into torch's default process group, is not the trainer's business.

Not as in one process: dropout is drawn by each process for its own images; batch norm normalises each process's part
by itself, and its running statistics are those of process 0; MixUp finds an image's partner in the same part; a task
whose labels are not all known weighs each part by its images, as ``accumulate`` does. So the number of processes is
part of the configuration (``compute.processes``), and the same number gives the same bits again.
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
    """The processes that train a trial together, seen by process ``rank`` of ``size``; ``size`` 1: it is alone."""

    rank: int = 0
    size: int = 1

    @classmethod
    def joined(cls) -> Team:
        """The processes of torch's default process group."""
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and reports."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module | None:
        """``model``, its gradients averaged over the team in ``backward``; None if this process is alone."""
        if self.size == 1:
            return None
        # With find_unused_parameters gradients keep the buckets of the first step; else DDP forms new ones after it, in
        # which sums are made in another order, and a resumed training would differ from one that was not interrupted.
        # It is needed anyway: experts of a cascade may have no image.
        return DistributedDataParallel(model, find_unused_parameters=True, forward_sync_buffers=False)

    @contextmanager
    def summing(self, wrapped: nn.Module | None, *, now: bool) -> Iterator[None]:
        """Forward and backward pass of a batch; gradients are averaged over the team only if ``now``."""
        if isinstance(wrapped, DistributedDataParallel) and not now:
            with wrapped.no_sync():
                yield
        else:
            yield

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Average gradients that no wrapped model takes care of."""
        if self.size > 1:
            for parameter in parameters:
                if parameter.grad is not None:
                    distributed.all_reduce(parameter.grad)
                    parameter.grad /= self.size

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a 0-d tensor over the team; not finite if one of them is not."""
        if self.size == 1:
            return value
        mean = value.detach().clone()
        distributed.all_reduce(mean)
        return mean / self.size

    def take_buffers(self, *modules: nn.Module) -> None:
        """Give every process the buffers of process 0: statistics of batch norm.

        The group's backend must know the device they are on: NCCL, which GPUs use, takes none from the CPU.
        """
        if self.size > 1:
            for module in modules:
                for buffer in module.buffers():
                    distributed.broadcast(buffer, src=0)

    def gather(self, value: Any) -> list[Any]:
        """What each process has, in the order of their ranks, for all of them."""
        if self.size == 1:
            return [value]
        gathered: list[Any] = [None] * self.size
        distributed.all_gather_object(gathered, value)
        return gathered

    def told(self, value: Any) -> Any:
        """What process 0 says, for all of them."""
        if self.size == 1:
            return value
        said = [value]
        distributed.broadcast_object_list(said, src=0)
        return said[0]


ALONE = Team()
