"""Early stopping: asynchronous successive halving (Li et al. 2020), in one bracket or in several (hyperband).

A function of its calls, in order, so replaying a journal restores it. It decides as Ray Tune's
``AsyncHyperBandScheduler`` does on the same reports, except that a trial's bracket follows from its number: Tune draws
it from NumPy's global generator.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np

from agr_core.objective import Direction
from orchestrator.journal.events import Event, TrialCreated, TrialEnded, TrialReopened, TrialReported
from orchestrator.spec.load import Sweep
from orchestrator.spec.model import AshaSpec, HyperbandSpec, NoScheduler
from orchestrator.sweep.live_state import Standing


class EarlyStopping(Protocol):
    """Interface: decide after each epoch whether a trial continues."""

    def added(self, trial_id: str, number: int | None) -> None:
        """Add a trial of configuration ``number``, counted from 0; None: it is not compared with others.

        Its number among all trials would be another one where configurations are repeated with several seeds.
        """
        ...

    def reported(self, trial_id: str, epoch: int, value: float) -> bool:
        """Take an epoch that did not finish the trial; return whether the trial stops after it."""
        ...

    def ended(self, trial_id: str, epoch: int | None, value: float | None) -> None:
        """Take the last report of a trial."""
        ...


class NoStopping:
    """Every trial trains to its end (``EarlyStopping``)."""

    def added(self, trial_id: str, number: int | None) -> None:
        """Do nothing."""

    def reported(self, trial_id: str, epoch: int, value: float) -> bool:  # noqa: ARG002
        """Return False."""
        return False

    def ended(self, trial_id: str, epoch: int | None, value: float | None) -> None:
        """Do nothing."""


class _Bracket:
    """Trials that are compared with each other: their values at each rung, larger being better.

    Rung k is at epoch ``grace * factor**k``, without an end: trials end by themselves.
    """

    def __init__(self, grace: int, factor: int) -> None:
        self._factor = factor
        self._rungs: list[tuple[int, dict[str, float]]] = [(grace, {})]

    def stops(self, trial_id: str, epoch: int, value: float) -> bool:
        """Record the value at the trial's highest new rung; return whether it stops there."""
        while self._rungs[-1][0] * self._factor <= epoch:
            self._rungs.append((self._rungs[-1][0] * self._factor, {}))
        for rung, recorded in reversed(self._rungs):
            if epoch >= rung and trial_id not in recorded:
                stops = bool(recorded) and value < self._cutoff(recorded)
                recorded[trial_id] = value
                return stops
        return False

    def _cutoff(self, recorded: dict[str, float]) -> float:
        return float(np.nanpercentile(list(recorded.values()), (1 - 1 / self._factor) * 100))


class Halving:
    """Successive halving: at each rung a trial stops unless it is among the best ``1 / factor`` of its bracket.

    Args:
        direction: Direction of the objective.
        grace: First rung of bracket 0, in epochs; bracket i leaves out the first i rungs.
        factor: Factor between rungs.
        bracket_of: The bracket of a trial by its number; None: it is compared with no other.
    """

    def __init__(
        self, *, direction: Direction, grace: int, factor: int, bracket_of: Callable[[int], int | None]
    ) -> None:
        self._sign = -1.0 if direction == "minimize" else 1.0
        self._grace = grace
        self._factor = factor
        self._bracket_of = bracket_of
        self._brackets: dict[int, _Bracket] = {}
        self._of_trial: dict[str, _Bracket | None] = {}

    def added(self, trial_id: str, number: int | None) -> None:
        """Add a trial to its bracket; a continued one stays in it."""
        index = None if number is None else self._bracket_of(number)
        if index is None:
            self._of_trial[trial_id] = None
            return
        new = _Bracket(self._grace * self._factor**index, self._factor)
        self._of_trial[trial_id] = self._brackets.setdefault(index, new)

    def reported(self, trial_id: str, epoch: int, value: float) -> bool:
        """Return whether the trial stops after this epoch. A repeated report decides nothing."""
        bracket = self._of_trial[trial_id]
        return bracket is not None and bracket.stops(trial_id, epoch, self._sign * value)

    def ended(self, trial_id: str, epoch: int | None, value: float | None) -> None:
        """Record the last report, with which later trials are compared."""
        bracket = self._of_trial.pop(trial_id, None)
        if bracket is not None and epoch is not None and value is not None:
            bracket.stops(trial_id, epoch, self._sign * value)


def early_stopping(sweep: Sweep) -> EarlyStopping:
    """Return the early stopping of a sweep file's ``scheduler``."""
    spec = sweep.spec
    bracket_of: Callable[[int], int]
    match spec.scheduler:
        case NoScheduler():
            return NoStopping()
        case AshaSpec() as halving:
            bracket_of = _one_bracket
        case HyperbandSpec() as halving:
            assert spec.search is not None, "load_sweep fills it in"
            bracket_of = partial(halving.bracket, max_epochs=sweep.max_epochs, seed=spec.search.seed)
    return Halving(
        direction=spec.objectives[0].direction,
        grace=halving.grace_epochs,
        factor=halving.reduction_factor,
        bracket_of=bracket_of,
    )


def _one_bracket(_: int) -> int:
    return 0


def tell(scheduler: EarlyStopping, event: Event, standing: Standing, decided: dict[str, bool]) -> None:
    """Pass an event that ``standing`` has not applied yet to ``scheduler``.

    ``decided`` gets, by trial, whether the scheduler stops it after its last epoch.
    """
    match event:
        case TrialCreated():
            scheduler.added(event.trial_id, None if event.confirms is not None else event.configuration)
        case TrialReopened():
            decided.pop(event.trial_id, None)
            compared = event.compared and event.created.confirms is None
            scheduler.added(event.trial_id, event.created.configuration if compared else None)
        case TrialReported() if not event.finished and event.trial_id in standing.live:
            if event.epoch > standing.live[event.trial_id].epoch:
                decided[event.trial_id] = scheduler.reported(event.trial_id, event.epoch, event.value)
        case TrialEnded() if not event.resumable:
            trial = standing.live[event.trial_id]
            scheduler.ended(event.trial_id, trial.epoch or None, trial.value)
        case _:
            pass
