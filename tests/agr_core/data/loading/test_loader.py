from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agr_core.batch import Batch, Labels
from agr_core.data.loading.loader import Job, batch_bounds, in_order


@given(n=st.integers(0, 400), batch_size=st.integers(1, 70))
def test_batches_cover_every_image_once_and_none_of_several_holds_a_single_one(n: int, batch_size: int) -> None:
    bounds = batch_bounds(n, batch_size)
    assert [row for start, stop in bounds for row in range(start, stop)] == list(range(n))
    sizes = [stop - start for start, stop in bounds]
    assert all(size == batch_size for size in sizes[:-1])
    if batch_size > 1 and n > 1:
        assert all(1 < size <= batch_size + 1 for size in sizes)


@pytest.mark.parametrize(
    ("n", "batch_size", "sizes"),
    [(10, 4, [4, 4, 2]), (9, 4, [4, 5]), (8, 4, [4, 4]), (3, 8, [3]), (1, 8, [1]), (3, 1, [1, 1, 1]), (5, 2, [2, 3])],
)
def test_a_single_image_left_over_joins_the_batch_before(n: int, batch_size: int, sizes: list[int]) -> None:
    assert [stop - start for start, stop in batch_bounds(n, batch_size)] == sizes


NO_LABELS = Labels(*(torch.zeros(0) for _ in range(5)))


def make(job: Job) -> Batch:
    """A batch that takes the longer the earlier its rows are."""
    time.sleep(0.002 * max(0, 10 - int(job.rows[0])))
    return Batch(torch.zeros(0), NO_LABELS, torch.from_numpy(job.rows))


JOBS = [Job(np.array([number])) for number in range(20)]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_come_in_the_order_of_their_jobs(workers: int) -> None:
    assert [int(batch.rows[0]) for batch in in_order(make, JOBS, workers)] == list(range(20))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_batch_reaches_the_trainer(workers: int) -> None:
    def fail(job: Job) -> Batch:
        if job.rows[0] == 7:
            raise OSError("disk gone")
        return make(job)

    batches = in_order(fail, JOBS, workers)
    assert [int(next(batches).rows[0]) for _ in range(7)] == list(range(7))
    with pytest.raises(OSError, match="disk gone"):
        next(batches)


def test_workers_stay_a_few_batches_ahead_and_end_when_the_trainer_stops_early() -> None:
    made: list[int] = []

    def count(job: Job) -> Batch:
        made.append(int(job.rows[0]))
        return make(job)

    batches = in_order(count, (Job(np.array([number])) for number in range(1000)), 2)
    next(batches)
    time.sleep(0.2)
    assert len(made) <= 6
    batches.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("loader")]
