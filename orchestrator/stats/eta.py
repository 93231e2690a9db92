"""Estimate of a running sweep's remaining time, with its uncertainty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 200
"""Number of simulated futures."""

FEWEST = 3
"""Minimum number of ended trials for an estimate."""

_PRIOR = 4.0
"""Weight, in trials, of the prior that a rung stops as many trials as if all were equally good."""

_MOST_CELLS = 200_000
"""Maximum of trials times futures drawn one by one; with more trials, their sum is drawn as a normal variable."""

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Length:
    """Epochs and seconds of a trial that ended by itself or by the scheduler."""

    epochs: int
    seconds: float


@dataclass(frozen=True)
class Eta:
    """Seconds until the sweep is over: median, 10 % and 90 % quantiles."""

    p10: float
    p50: float
    p90: float


@dataclass(frozen=True)
class Course:
    """Schedule of trials: the epochs of a full training, and the rungs at which the scheduler stops trials."""

    epochs: int = 1
    rungs: tuple[int, ...] = ()
    """Epochs at which trials are compared, ascending."""
    stopped_share: float = 0.0
    """Share that a rung is to stop: 1 - 1 / ``reduction_factor``."""


def eta(
    ended: Sequence[Length],
    running: Sequence[Length],
    to_begin: int,
    slots: int,
    course: Course,
    *,
    seed: int = 0,
) -> Eta | None:
    """Estimate the remaining time from the trials so far.

    Each future draws the share that each rung stops (a beta distribution) and the speeds of trials (the Bayesian
    bootstrap, Rubin 1981, over the observed ones). A running trial keeps its speed and the rungs that it has passed.
    Trials then go to the slot that is free first.

    A rung compares a trial with those that reached it before, so it stops few of the first: among n equally good ones
    it stops the next with probability ``(q (n - 1) + 1) / (n + 1)``, where q is the share that it aims at, and the
    first never. The expected share of the trials to come follows from that, times the ratio of the stops seen to those
    expected so far, which is below 1 where a search proposes better and better trials.

    Args:
        ended: Epochs and seconds of trials that ended by themselves or by the scheduler.
        running: Progress of living trials; the seconds include the current epoch.
        to_begin: Number of trials that are planned and have not begun.
        slots: Number of concurrent trials.
        course: Schedule of trials.
        seed: Seed of the draws.

    Returns:
        None before ``FEWEST`` trials with an epoch have ended.
    """
    speeds = np.array([length.seconds / length.epochs for length in ended if length.epochs])
    if len(speeds) < FEWEST or slots < 1:
        return None
    generator = np.random.default_rng(seed)
    futures = _Futures(ended, running, to_begin, course, speeds, generator)
    ends = np.array([futures.end(slots) for _ in range(DRAWS)])
    p10, p50, p90 = np.quantile(ends, (0.1, 0.5, 0.9))
    return Eta(float(p10), float(p50), float(p90))


class _Futures:
    """Simulated futures of a sweep."""

    def __init__(
        self,
        ended: Sequence[Length],
        running: Sequence[Length],
        to_begin: int,
        course: Course,
        speeds: _Floats,
        generator: np.random.Generator,
    ) -> None:
        self._running, self._course, self._speeds, self._random = running, course, speeds, generator
        self._bounds = np.array([*course.rungs, course.epochs])
        self._to_begin = to_begin
        self._stops: list[tuple[float, float]] = []  # of each rung: the expected share, and its weight in trials
        coming = float(to_begin)
        for rung in course.rungs:
            stopped = sum(length.epochs == rung for length in ended)
            seen = stopped + sum(length.epochs > rung for length in (*ended, *running))
            share = _stopped_later(stopped, seen, coming, course.stopped_share)
            self._stops.append((share, seen + _PRIOR))
            coming *= 1 - share

    def end(self, slots: int) -> float:
        """Seconds until the last trial is over, in one future."""
        stops = [float(self._random.beta(weight * share, weight * (1 - share))) for share, weight in self._stops]
        weights = self._random.dirichlet(np.ones(len(self._speeds)))
        free = np.zeros(slots)
        for index, trial in enumerate(self._running[:slots]):
            free[index] = self._remaining(trial, stops, weights)
        waiting = len(self._running) - len(self._running[:slots]) + self._to_begin
        chances = np.diff([0.0, *(1 - np.cumprod([1 - stop for stop in stops])), 1.0])
        epochs = self._random.choice(self._bounds, size=min(waiting, _MOST_CELLS), p=chances)
        seconds = epochs * self._random.choice(self._speeds, size=len(epochs), p=weights)
        if waiting * DRAWS > _MOST_CELLS:
            work = waiting * float(seconds.mean())
            return float(max(free.max(), (free.sum() + work) / slots + float(seconds.mean()) / 2))
        for duration in seconds:
            free[free.argmin()] += duration
        return float(free.max())

    def _remaining(self, trial: Length, stops: Sequence[float], weights: _Floats) -> float:
        """Seconds of a running trial, which has passed the rungs before its last epoch."""
        if trial.epochs:
            speed = trial.seconds / (trial.epochs + 0.5)
        else:
            slower = self._speeds >= trial.seconds
            speed = (
                self._random.choice(self._speeds[slower], p=weights[slower] / weights[slower].sum())
                if slower.any()
                else trial.seconds
            )
        last = self._course.epochs
        for rung, stop in zip(self._course.rungs, stops, strict=True):
            if trial.epochs < rung and self._random.random() < stop:
                last = rung
                break
        return float(max(0.0, max(last, trial.epochs + 1) * speed - trial.seconds))


def _stopped_later(stopped: int, seen: int, coming: float, share: float) -> float:
    """Return the expected share of the trials to come that a rung stops.

    Args:
        stopped: Number of trials that it has stopped.
        seen: Number of trials that have reached it.
        coming: Number of trials that may reach it yet.
        share: Share that it aims at.
    """
    expected = sum(_stop_chance(before, share) for before in range(seen))
    ratio = (stopped + _PRIOR * share) / (expected + _PRIOR * share)
    later = _stop_chance(seen + coming / 2, share)
    return float(min(0.99, max(0.01, later * ratio)))  # a beta distribution has no mean of 0 or 1


def _stop_chance(before: float, share: float) -> float:
    """Return the chance that a rung stops the next of equally good trials; ``before`` of them reached it."""
    return 0.0 if before < 1 else (share * (before - 1) + 1) / (before + 1)
