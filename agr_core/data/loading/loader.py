"""Batch loader: gathers pixels and labels of rows, augments training images, keeps the order.

B: images in the batch; S: ``image.size``; C: 3 channels, or 1 of luminance.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from agr_core.batch import Batch, Labels
from agr_core.data.augment.augment import Augment, centre_crop, sample_seed, to_grey
from agr_core.data.loading.cache import Pixels

_BATCHES_AHEAD = 2
"""Maximum number of batches each worker prepares ahead, which bounds memory."""


@dataclass(frozen=True)
class Job:
    """One batch to make: its rows (B,) and, if its images are augmented, the seed of each (B,).

    ``whole``: as in ``Batch``.
    """

    rows: NDArray[np.int64]
    seeds: tuple[int, ...] | None = None
    whole: int = 0


class BatchMaker:
    """Makes the batch of a job; thread-safe.

    Args:
        pixels: The images.
        labels: Labels of every row of the sample table.
        size: Side S of a batch's images; larger ones are cropped, at random by ``augment``, else from the centre.
        grey: Whether images are converted to luminance, before augmentation.
        augment: Factory of a pipeline, called once per thread, because a pipeline must not be shared.
    """

    def __init__(
        self, pixels: Pixels, labels: Labels, *, size: int, grey: bool, augment: Callable[[], Augment | None]
    ) -> None:
        self._pixels = pixels
        self._labels = labels
        self._size = size
        self._grey = grey
        self._build_augment = augment
        self._of_thread = threading.local()

    def make(self, job: Job) -> Batch:
        """Return the batch of a job. Its images are stored as (B, S, S, C), torch's ``channels_last`` format."""
        images = self._pixels.gather(job.rows)
        if self._grey:
            images = to_grey(images)
        if job.seeds is not None and (augment := self._augment()) is not None:
            images = self._changed(images, job.seeds, augment)
        images = centre_crop(images, self._size)
        rows = torch.from_numpy(job.rows)
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2)
        return Batch(images=pixels, labels=self._labels.take(rows), rows=rows, whole=job.whole)

    def _changed(self, images: NDArray[np.uint8], seeds: tuple[int, ...], augment: Augment) -> NDArray[np.uint8]:
        """Return the augmented images (B, D, D, C), in place where the size does not change."""
        same = images.shape[1] == self._size
        changed = images if same else np.empty((len(images), self._size, self._size, images.shape[3]), np.uint8)
        for index, seed in enumerate(seeds):
            changed[index] = augment(images[index], seed)
        return changed

    def _augment(self) -> Augment | None:
        if not hasattr(self._of_thread, "augment"):
            self._of_thread.augment = self._build_augment()
        augment: Augment | None = self._of_thread.augment
        return augment


def training_jobs(
    order: NDArray[np.int64],
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    augmented: bool,
    part: tuple[int, int] = (0, 1),
) -> Iterator[Job]:
    """Yield the batches of a training epoch.

    An image's seed depends on its position in the order, so that repetitions of an image differ.

    Args:
        order: The rows as drawn (n,).
        batch_size: Number of images per batch.
        seed: Seed of the trial.
        epoch: Index of the epoch, counted from 0.
        augmented: Whether images are augmented.
        part: (r, R): process r takes the r-th of R contiguous parts of each batch; their sizes differ by at most one
            image.
    """
    rank, processes = part
    for start, stop in batch_bounds(len(order), batch_size, processes=processes):
        first, last = (start + (stop - start) * edge // processes for edge in (rank, rank + 1))
        seeds = tuple(sample_seed(seed, epoch, index) for index in range(first, last)) if augmented else None
        yield Job(order[first:last], seeds, whole=stop - start)


def batch_bounds(n: int, batch_size: int, *, processes: int = 1) -> list[tuple[int, int]]:
    """Return start and stop of each training batch: ``batch_size`` images each, the remainder in the last.

    A single remaining image is added to the batch before it, because batch normalisation cannot train on one image and
    no image is dropped. If several ``processes`` share each batch, a remainder of fewer than two images per process is
    added to the batch before it.
    """
    bounds = [(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]
    if batch_size > 1 and len(bounds) > 1 and bounds[-1][1] - bounds[-1][0] < 2 * processes:
        bounds[-2:] = [(bounds[-2][0], n)]
    return bounds


def in_order(make: Callable[[Job], Batch], jobs: Iterable[Job], workers: int) -> Iterator[Batch]:
    """Yield the batches of the jobs in order, made here (``workers=0``) or ahead of time by worker threads.

    The bits do not depend on ``workers``, because a job determines its batch. Threads are sufficient, because most time
    is spent in OpenCV and NumPy, which release the interpreter lock.
    """
    if workers == 0:
        yield from map(make, jobs)
        return
    ahead: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="loader") as pool:
        try:
            for job in jobs:
                ahead.append(pool.submit(make, job))
                if len(ahead) > workers * _BATCHES_AHEAD:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:  # the trainer may stop within an epoch, or a batch may fail
            for future in ahead:
                future.cancel()
