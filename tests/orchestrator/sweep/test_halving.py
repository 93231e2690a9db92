"""Successive halving: it decides as Ray Tune's ASHA does on the same reports, in one bracket and in several."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agr_core.objective import Direction
from orchestrator.journal.events import TrialCreated, TrialReopened
from orchestrator.spec.model import AshaSpec, NoScheduler
from orchestrator.stats.eta import Course
from orchestrator.sweep.halving import Halving, tell
from orchestrator.sweep.live_state import Standing
from orchestrator.sweep.settings import course_of
from tests.parts.sweeps import local, make_run, small_sweep

EPOCHS = 30
"""More than three rungs of every case below."""


def halving(brackets: dict[int, int | None]) -> Halving:
    return Halving(direction="minimize", grace=1, factor=2, bracket_of=brackets.__getitem__)


def test_a_trial_is_compared_within_its_bracket_only() -> None:
    scheduler = halving({0: 0, 1: 1, 2: 0})
    for number in (0, 1, 2):
        scheduler.added(f"t{number}", number)
    assert not scheduler.reported("t0", 1, 0.1)
    assert not scheduler.reported("t1", 1, 0.9), "bracket 1 has its first rung at 2"
    assert scheduler.reported("t2", 1, 0.9), "worse than t0 of the same bracket"
    assert not scheduler.reported("t1", 2, 0.9), "the first of its bracket at its first rung"


def test_the_last_bracket_stops_nothing() -> None:
    scheduler = halving({0: 2, 1: 2})
    for number in (0, 1):
        scheduler.added(f"t{number}", number)
    for epoch in (1, 2, 3):
        assert not scheduler.reported("t0", epoch, 0.1)
        assert not scheduler.reported("t1", epoch, 0.9)


def test_a_trial_of_no_bracket_is_never_stopped_and_nobody_is_held_against_it() -> None:
    scheduler = halving({0: 0, 1: None, 2: 0})
    for number in (0, 1, 2):
        scheduler.added(f"t{number}", number)
    assert not scheduler.reported("t0", 1, 0.5)
    assert not scheduler.reported("t1", 1, 0.1), "a confirmation"
    assert not scheduler.reported("t1", 2, 99.0)
    scheduler.ended("t1", 3, 99.0)
    assert not scheduler.reported("t2", 1, 0.4), "better than t0; t1 does not count"


def test_an_epoch_reported_again_decides_and_changes_nothing() -> None:
    scheduler = halving({0: 0, 1: 0})
    scheduler.added("t0", 0)
    scheduler.added("t1", 1)
    assert not scheduler.reported("t0", 1, 0.5)
    assert not scheduler.reported("t0", 1, 99.0)
    assert not scheduler.reported("t1", 1, 0.5), "as good as what t0 had the first time"


@pytest.mark.parametrize(
    ("compared", "confirms", "number"), [(True, None, 7), (False, None, None), (True, "aaaaaaaa", None)]
)
def test_a_trial_that_goes_on_is_compared_unless_it_says_otherwise_or_confirms(
    compared: bool, confirms: str | None, number: int | None
) -> None:
    """A confirmation is trained to its end, also if it failed and is tried again."""
    created = TrialCreated(
        time=0.0, trial_id="t0", number=9, configuration=7, params={}, proposal={}, config={}, config_digest="0" * 64,
        data_uri="synthetic:0", data_digest="0" * 64, split_digest="1" * 64, confirms=confirms,
    )  # fmt: skip
    event = TrialReopened(
        time=1.0, trial_id="t0", reason="agr retry", outcome="failed", created=created, compared=compared, attempt=1,
        epoch=0, value=None, best=None, point=(), kept={}, reported_attempt=None, stages=(),
    )  # fmt: skip
    added: list[tuple[str, int | None]] = []
    scheduler: Any = SimpleNamespace(added=lambda *trial: added.append(trial))
    decided = {"t0": True}
    tell(scheduler, event, standing=cast(Standing, None), decided=decided)
    assert (added, decided) == ([("t0", number)], {})


def of_tune(mode: str, grace: int, factor: int, brackets: int) -> Any:
    from ray.tune.schedulers import AsyncHyperBandScheduler

    return AsyncHyperBandScheduler(
        time_attr="epoch",
        metric="m",
        mode=mode,
        grace_period=grace,
        reduction_factor=factor,
        brackets=brackets,
        max_t=10**9,
    )


@pytest.mark.slow  # importing ray takes seconds
@pytest.mark.parametrize("brackets", [1, 4])
@pytest.mark.parametrize(("grace", "factor"), [(1, 2), (1, 3), (3, 3), (2, 4)])
@pytest.mark.parametrize(("direction", "mode"), [("minimize", "min"), ("maximize", "max")])
def test_it_decides_as_tunes_asha_on_the_same_reports(
    direction: Direction, mode: str, grace: int, factor: int, brackets: int
) -> None:
    """Forty trials side by side; some report an epoch twice, some end by themselves, some skip epochs on a resume."""
    for seed in range(20):
        chance = random.Random(f"{direction}/{grace}/{factor}/{brackets}/{seed}")
        ours = Halving(
            direction=direction, grace=grace, factor=factor, bracket_of=[n % brackets for n in range(40)].__getitem__
        )
        theirs = of_tune(mode, grace, factor, brackets)
        at = {f"t{number}": 0 for number in range(40)}
        for number, trial in enumerate(at):
            ours.added(trial, number)
            theirs._trial_info[trial] = theirs._brackets[number % brackets]
        stopped = 0
        while at:
            trial = chance.choice(list(at))
            at[trial] += chance.choice((0, 1, 1, 1, 1, 1, 2)) or (at[trial] == 0)
            value = round(chance.gauss(5, 1), 1)  # to one digit, so that some are equal
            stand_in, result = SimpleNamespace(trial_id=trial), {"epoch": at[trial], "m": value}
            if at[trial] >= EPOCHS or chance.random() < 0.02:
                ours.ended(trial, at[trial], value)
                theirs.on_trial_complete(None, stand_in, result)
                del at[trial]
                continue
            decided = theirs.on_trial_result(None, stand_in, result) == "STOP"
            assert ours.reported(trial, at[trial], value) == decided
            if decided:
                stopped += 1
                ours.ended(trial, at[trial], value)
                theirs.on_trial_complete(None, stand_in, result)
                del at[trial]
        assert stopped > 0


def test_a_confirmation_and_a_trial_given_more_epochs_are_compared_with_no_other(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep())
    run.begin()
    created = run.next_trial(1)
    assert created is not None
    live = run.live[created.trial_id]
    assert live.compared_as == created.configuration
    assert replace(live, compared=False).compared_as is None
    assert replace(live, created=created.model_copy(update={"confirms": "0123abcd"})).compared_as is None


def test_the_course_of_a_scheduler_has_its_rungs_and_the_share_that_they_stop() -> None:
    asha = AshaSpec(name="asha", grace_epochs=2, reduction_factor=4)
    assert course_of(asha, 9) == Course(9, (2, 8), 0.75)
    assert course_of(NoScheduler(name="none"), 9) == Course(9)
