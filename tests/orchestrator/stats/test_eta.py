"""The time left, against the true end of drawn sweeps: asked at a third of the way, 8 of 10 ends lie inside."""

from __future__ import annotations

import heapq
import random

import numpy as np

from orchestrator.stats.eta import FEWEST, Course, Length, eta

TRIALS = 40
SLOTS = 4
COURSE = Course(epochs=27, rungs=(1, 3, 9), stopped_share=2 / 3)


def drawn_sweep(seed: int) -> list[Length]:
    """Trials as ASHA leaves them, each held against those before it; models differ in speed by a factor of four."""
    draw = random.Random(seed)
    lengths = []
    recorded: dict[int, list[float]] = {rung: [] for rung in COURSE.rungs}
    for _ in range(TRIALS):
        epochs, worth = COURSE.epochs, draw.gauss(0.0, 1.0)
        for rung, others in recorded.items():
            value = worth + draw.gauss(0.0, 0.5)
            stops = bool(others) and value < np.percentile(others, 100 * COURSE.stopped_share)
            others.append(value)
            if stops:
                epochs = rung
                break
        epoch_s = draw.choice((1.0, 2.0, 4.0)) * draw.uniform(0.9, 1.1)
        lengths.append(Length(epochs, epochs * epoch_s))
    return lengths


def spans(lengths: list[Length]) -> list[tuple[float, float]]:
    """Start and end of each trial on the slots, in seconds."""
    free = [0.0] * SLOTS
    found = []
    for length in lengths:
        start = heapq.heappop(free)
        found.append((start, start + length.seconds))
        heapq.heappush(free, start + length.seconds)
    return found


def test_the_interval_covers_the_true_end_in_70_to_90_of_100_drawn_sweeps() -> None:
    inside = said = 0
    for seed in range(200):
        lengths = drawn_sweep(seed)
        times = spans(lengths)
        end = max(stop for _, stop in times)
        now = end / 3
        ended = [length for length, (_, stop) in zip(lengths, times, strict=True) if stop <= now]
        running = [
            Length(int((now - start) / length.seconds * length.epochs), now - start)
            for length, (start, stop) in zip(lengths, times, strict=True)
            if start <= now < stop
        ]
        to_begin = sum(start > now for start, _ in times)
        found = eta(ended, running, to_begin, SLOTS, COURSE, seed=seed)
        if found is not None:  # at a third, fewer than FEWEST may have ended
            said += 1
            inside += found.p10 <= end - now <= found.p90
    assert said >= 190
    assert 0.7 <= inside / said <= 0.9, inside


def test_there_is_no_estimate_before_a_few_trials_have_ended() -> None:
    assert eta([Length(1, 5.0)] * (FEWEST - 1), [], 10, SLOTS, Course()) is None
    found = eta([Length(1, 5.0)] * FEWEST, [], 8, SLOTS, Course())
    assert found is not None
    assert (found.p10, found.p50, found.p90) == (10.0, 10.0, 10.0), "two rounds of five seconds"


def test_many_trials_are_summed_and_not_drawn_one_by_one() -> None:
    ended = [Length(1, 4.0), Length(1, 6.0)] * 100
    found = eta(ended, [], 100_000, 10, Course())
    assert found is not None
    assert abs(found.p50 - 50_000) < 2_000
