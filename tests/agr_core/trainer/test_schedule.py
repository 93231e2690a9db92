from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch.optim import lr_scheduler

from agr_core.config import PlateauSchedule, ScheduleConfig
from agr_core.trainer.schedule import PlateauState, after_epoch, lr_at

PEAK = 0.1
STEPS_PER_EPOCH = 7


def _schedule(**fields: Any) -> ScheduleConfig:
    schedule: ScheduleConfig = TypeAdapter(ScheduleConfig).validate_python(fields)
    return schedule


def _ours(schedule: ScheduleConfig) -> list[float]:
    steps = schedule.epochs * STEPS_PER_EPOCH
    return [lr_at(schedule, step=step, steps_per_epoch=STEPS_PER_EPOCH, peak_lr=PEAK) for step in range(steps)]


def _optimizer(lr: float = PEAK) -> torch.optim.SGD:
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def _torchs(optimizer: torch.optim.Optimizer, scheduler: Any, *, steps: int, steps_per_turn: int = 1) -> list[float]:
    """The rates of torch's scheduler, which is stepped every ``steps_per_turn`` optimizer steps."""
    rates = []
    for step in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if (step + 1) % steps_per_turn == 0:
            scheduler.step()
    return rates


def test_constant_schedule_stays_at_the_peak() -> None:
    assert set(_ours(_schedule(name="constant", epochs=3))) == {PEAK}


@pytest.mark.parametrize("warmup_epochs", [0, 2])
@pytest.mark.parametrize("final_ratio", [0.0, 0.25])
def test_cosine_schedule_equals_torchs_linear_warmup_then_cosine_annealing(
    warmup_epochs: int, final_ratio: float
) -> None:
    ours = _ours(_schedule(name="cosine", epochs=5, warmup_epochs=warmup_epochs, final_ratio=final_ratio))
    warmup = warmup_epochs * STEPS_PER_EPOCH
    steps = 5 * STEPS_PER_EPOCH
    optimizer = _optimizer()
    cosine = lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps - warmup, eta_min=final_ratio * PEAK)
    scheduler: Any = cosine
    if warmup:
        optimizer = _optimizer()
        linear = lr_scheduler.LinearLR(optimizer, start_factor=1 / warmup, total_iters=warmup - 1)
        cosine = lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps - warmup, eta_min=final_ratio * PEAK)
        scheduler = lr_scheduler.SequentialLR(optimizer, [linear, cosine], milestones=[warmup])
    assert ours == pytest.approx(_torchs(optimizer, scheduler, steps=steps), rel=1e-9)


def test_cosine_schedule_is_half_of_the_peak_midway_through_the_decay() -> None:
    schedule = _schedule(name="cosine", epochs=100, warmup_epochs=10)
    assert lr_at(schedule, step=55, steps_per_epoch=1, peak_lr=PEAK) == pytest.approx(PEAK / 2)


def test_step_schedule_with_milestones_equals_torchs_multi_step() -> None:
    schedule = _schedule(name="step", epochs=6, milestones=(2, 5), gamma=0.3)
    optimizer = _optimizer()
    scheduler = lr_scheduler.MultiStepLR(optimizer, milestones=[2, 5], gamma=0.3)
    expected = _torchs(optimizer, scheduler, steps=6 * STEPS_PER_EPOCH, steps_per_turn=STEPS_PER_EPOCH)
    assert _ours(schedule) == pytest.approx(expected, rel=1e-12)


def test_step_schedule_with_every_equals_torchs_step() -> None:
    schedule = _schedule(name="step", epochs=7, every=3, gamma=0.5)
    optimizer = _optimizer()
    scheduler = lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.5)
    expected = _torchs(optimizer, scheduler, steps=7 * STEPS_PER_EPOCH, steps_per_turn=STEPS_PER_EPOCH)
    assert _ours(schedule) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("fields", "theirs"),
    [
        ({"milestones": (10, 11, 40)}, lambda o: lr_scheduler.MultiStepLR(o, milestones=[10, 11, 40], gamma=0.3)),
        ({"every": 9}, lambda o: lr_scheduler.StepLR(o, step_size=9, gamma=0.3)),
    ],
    ids=["milestones", "every"],
)
def test_step_schedule_counted_in_steps_equals_torchs_stepped_each_step(fields: dict[str, Any], theirs: Any) -> None:
    schedule = _schedule(name="step", epochs=6, unit="step", gamma=0.3, **fields)
    optimizer = _optimizer()
    assert _ours(schedule) == pytest.approx(_torchs(optimizer, theirs(optimizer), steps=6 * STEPS_PER_EPOCH), rel=1e-12)


@pytest.mark.parametrize("epochs", [1, 2, 9])
@pytest.mark.parametrize("pct_start", [0.05, 0.3, 0.5])
def test_one_cycle_schedule_equals_torchs(epochs: int, pct_start: float) -> None:
    schedule = _schedule(name="one_cycle", epochs=epochs, pct_start=pct_start, div_factor=10.0, final_div_factor=100.0)
    steps = epochs * STEPS_PER_EPOCH
    optimizer = _optimizer()
    scheduler = lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=PEAK,
        total_steps=steps,
        pct_start=pct_start,
        div_factor=10.0,
        final_div_factor=100.0,
        cycle_momentum=False,
    )
    assert _ours(schedule) == pytest.approx(_torchs(optimizer, scheduler, steps=steps), rel=1e-9)


def test_one_cycle_schedule_that_peaks_at_its_first_step_starts_at_the_peak() -> None:
    schedule = _schedule(name="one_cycle", epochs=4, pct_start=0.25)  # torch divides by zero here
    assert lr_at(schedule, step=0, steps_per_epoch=1, peak_lr=PEAK) == PEAK


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize(
    "settings",
    [
        {"patience": 0},
        {"patience": 2, "factor": 0.5},
        {"patience": 1, "factor": 0.5, "threshold": 0.05},
        {"patience": 0, "factor": 0.1, "min_lr": 0.003},
        {"patience": 0, "factor": 0.001, "min_lr": 0.0},
    ],
    ids=["impatient", "patient", "coarse", "floor", "below 1e-8"],
)
def test_plateau_schedule_equals_torchs(settings: dict[str, Any], direction: str) -> None:
    schedule = _schedule(name="plateau", epochs=60, direction=direction, **settings)
    assert isinstance(schedule, PlateauSchedule)
    values = (torch.rand(60, generator=torch.Generator().manual_seed(3)) + 0.5).tolist()
    optimizer = _optimizer()
    scheduler = lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode="min" if direction == "minimize" else "max",
        factor=schedule.factor,
        patience=schedule.patience,
        threshold=schedule.threshold,
        min_lr=schedule.min_lr,
    )
    state = PlateauState(lr=PEAK)
    for value in values:
        scheduler.step(value)
        state = after_epoch(schedule, state, value)
        assert state.lr == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-12)
        assert lr_at(schedule, step=0, steps_per_epoch=1, peak_lr=PEAK, plateau=state) == state.lr
    assert state.lr < PEAK


@pytest.mark.parametrize(("epochs", "falls"), [(30, (8, 15, 23)), (60, (15, 30, 45)), (2, (1, 1)), (1, ())])
def test_parts_fall_at_the_ends_of_equal_parts_however_many_epochs_there_are(epochs: int, falls: tuple[int]) -> None:
    """Report S0: 1, 0.2, 0.04, 0.008 at the quarters of its epochs (S0-T4)."""
    document = {"name": "step", "epochs": epochs, "parts": 4, "gamma": 0.2}
    schedule: Any = TypeAdapter(ScheduleConfig).validate_python(document)
    assert schedule.falls == falls
    rates = [lr_at(schedule, step=epoch, steps_per_epoch=1, peak_lr=1.0) for epoch in range(epochs)]
    assert rates == pytest.approx([0.2 ** sum(fall <= epoch for fall in falls) for epoch in range(epochs)])
