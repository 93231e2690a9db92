"""Learning rate schedules: pure functions of the step, and the plateau rule as a pure function of its state.

Each agrees with the scheduler of ``torch.optim.lr_scheduler`` named in its docstring.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from agr_core.config import (
    ConstantSchedule,
    CosineSchedule,
    OneCycleSchedule,
    PlateauSchedule,
    ScheduleConfig,
    StepSchedule,
    SwaAveraging,
    TrialConfig,
)

_SMALLEST_FALL = 1e-8
"""Smallest reduction of the rate that is applied; ``eps`` of torch's ReduceLROnPlateau."""


@dataclass(frozen=True)
class PlateauState:
    """Current rate, best value so far and number of epochs since then."""

    lr: float
    best: float | None = None
    bad_epochs: int = 0


def trial_lr_at(config: TrialConfig, *, step: int, steps_per_epoch: int, plateau: PlateauState) -> float:
    """Return the learning rate of a trial's optimizer step: ``lr_at``, or the averaging's rate once it starts."""

    def scheduled(step: int) -> float:
        return lr_at(
            config.schedule, step=step, steps_per_epoch=steps_per_epoch, peak_lr=config.optimizer.lr, plateau=plateau
        )

    averaging = config.averaging
    if not isinstance(averaging, SwaAveraging) or averaging.lr is None:
        return scheduled(step)
    epochs = step // steps_per_epoch - averaging.start_epoch
    if epochs < 0:
        return scheduled(step)
    # torch's SWALR: changes once per epoch, along a cosine, from the schedule's last rate.
    share = min(1.0, epochs / averaging.anneal_epochs) if averaging.anneal_epochs else 1.0
    return _cosine_between(scheduled(averaging.start_epoch * steps_per_epoch - 1), averaging.lr, share)


def lr_at(
    schedule: ScheduleConfig, *, step: int, steps_per_epoch: int, peak_lr: float, plateau: PlateauState | None = None
) -> float:
    """Return the learning rate of optimizer step ``step``, counted from 0 over the whole training.

    Args:
        schedule: The schedule; its ``epochs`` determine the total number of steps.
        step: From 0 to ``epochs * steps_per_epoch - 1``.
        steps_per_epoch: Number of optimizer steps per epoch.
        peak_lr: The optimizer's configured rate.
        plateau: State of the plateau schedule; other schedules have none.
    """
    match schedule:
        case ConstantSchedule():
            return peak_lr
        case CosineSchedule():
            return peak_lr * _cosine(schedule, step, steps_per_epoch)
        case StepSchedule():
            done = step if schedule.unit == "step" else step // steps_per_epoch
            return peak_lr * schedule.gamma ** _falls(schedule, done)
        case OneCycleSchedule():
            return peak_lr * _one_cycle(schedule, step, steps_per_epoch * schedule.epochs)
        case PlateauSchedule():
            return peak_lr if plateau is None else plateau.lr


def _cosine(schedule: CosineSchedule, step: int, steps_per_epoch: int) -> float:
    """Return the rate of LinearLR up to the peak, then CosineAnnealingLR (Loshchilov and Hutter 2017, no restarts)."""
    warmup = schedule.warmup_epochs * steps_per_epoch
    if step < warmup:
        return (step + 1) / warmup  # starts above 0: a first step at rate 0 would be wasted
    decay = schedule.epochs * steps_per_epoch - warmup
    return _cosine_between(1.0, schedule.final_ratio, (step - warmup) / decay)


def _falls(schedule: StepSchedule, done: int) -> int:
    """Return the number of rate reductions after ``done`` epochs or steps: MultiStepLR, or StepLR for ``every``."""
    if schedule.every is not None:
        return done // schedule.every
    return sum(milestone <= done for milestone in schedule.falls)


def _one_cycle(schedule: OneCycleSchedule, step: int, total_steps: int) -> float:
    """Return the rate of OneCycleLR with cosine annealing in two phases: up to the peak, then far below the start."""
    first = 1.0 / schedule.div_factor
    last = first / schedule.final_div_factor
    peak_step = schedule.pct_start * total_steps - 1
    if step < peak_step:
        return _cosine_between(first, 1.0, step / peak_step)
    return _cosine_between(1.0, last, (step - peak_step) / (total_steps - 1 - peak_step))


def _cosine_between(start: float, end: float, share: float) -> float:
    """Interpolate from ``start`` at share 0 to ``end`` at share 1 along half a cosine."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def after_epoch(schedule: PlateauSchedule, state: PlateauState, value: float) -> PlateauState:
    """Return the state after an epoch with metric ``value``: ReduceLROnPlateau with a relative threshold."""
    if _is_better(schedule, value, state.best):
        return PlateauState(lr=state.lr, best=value)
    bad_epochs = state.bad_epochs + 1
    if bad_epochs <= schedule.patience:
        return PlateauState(lr=state.lr, best=state.best, bad_epochs=bad_epochs)
    lower = max(state.lr * schedule.factor, schedule.min_lr)
    return PlateauState(lr=lower if state.lr - lower > _SMALLEST_FALL else state.lr, best=state.best)


def _is_better(schedule: PlateauSchedule, value: float, best: float | None) -> bool:
    if best is None:
        return True
    if schedule.direction == "minimize":
        return value < best * (1 - schedule.threshold)
    return value > best * (1 + schedule.threshold)
