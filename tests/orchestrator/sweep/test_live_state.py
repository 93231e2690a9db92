"""What a driver remembers is the fold of its journal, whatever has happened, at any point."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))
from orchestrator.catalog import control
from orchestrator.journal.segments import read_events
from orchestrator.spec.load import Sweep
from orchestrator.storage.base import Storage
from orchestrator.sweep.live_state import Standing
from orchestrator.sweep.run import SweepRun
from tests.parts.sweeps import Clock, Deaf, local, make_run, report, small_sweep

SWEEP = "small-20260101-000000-abcd"
RANDOM = small_sweep(search={"algorithm": "random", "trials": 6, "seed": 7}, scheduler="none")


def told(run: SweepRun) -> list[Any]:
    """What its search knows."""
    return [
        (trial.state, trial.params, trial.values, trial.intermediate_values)
        for trial in run.search._study.get_trials(deepcopy=False)
    ]


def assert_is_the_fold_of_its_journal(run: SweepRun, storage: Storage, sweep: Sweep) -> None:
    run.flush()
    other = make_run(storage, sweep, clock=run.clock)
    folded = Standing(run.started, other.search, other.standing.confirmation)
    for event in read_events(storage, SWEEP)[0]:
        folded.apply(event)
    assert folded == run.standing
    assert told(other) == told(run)


class Drivers:
    """Drives one sweep step by step, by one driver after the other."""

    def __init__(self, storage: Storage, sweep: Sweep) -> None:
        self.storage, self.sweep, self.clock = storage, sweep, Clock()
        self.run = self.take(1)
        self.run.begin()

    def take(self, next_segment: int) -> SweepRun:
        repeat = self.sweep.spec.repeat
        seeds = 1 if repeat is None else repeat.seeds
        run = make_run(self.storage, self.sweep, clock=self.clock, next_segment=next_segment, retries=1, seeds=seeds)
        run.fits_elsewhere = lambda node_id: bool({"a", "b"} - {node_id} - run.standing.health.quarantined)
        return run

    def step(self, action: str, number: int) -> None:
        """``number`` picks the trial and its figures."""
        self.clock.now += 1 + number
        if action == "propose":
            self.run.next_trial(8)
        elif action == "resume":
            events, last = read_events(self.storage, SWEEP)
            self.run = self.take(last + 1)
            self.run.replay(events, Deaf())
        elif action == "stop a dead driver":
            control.send(self.storage, SWEEP, "stop")
            self.step("resume", 0)
        elif action == "stop":
            control.send(self.storage, SWEEP, "stop")
            self.clock.now += 5
            for trial_id in self.run.poll():
                self.run.trial_over(trial_id)
            self.run.end("stopped", "agr stop")
            self.step("resume", 0)
        elif self.run.live:
            self.to_a_trial(action, list(self.run.live)[number % len(self.run.live)], number)

    def to_a_trial(self, action: str, trial_id: str, number: int) -> None:
        run = self.run
        trial = run.live[trial_id]
        if action == "start":
            run.attempt_started(trial_id, "10.0.0.1", "ab"[number % 2])
        elif action == "place":
            run.team_placed(trial_id, "10.0.0.2", "ab"[number % 2])
        elif action == "stage":
            run.data_staged(trial_id, {"fetched_bytes": number, "spent_s": 0.5, "saved_s": 0.25})
        elif action in ("report", "finish"):
            run.epoch_reported(trial_id, report(trial.epoch + 1, 9.0 - number, finished=action == "finish"))
            if action == "finish":
                run.trial_over(trial_id)
        elif action in ("fail", "lose", "crowd"):
            cause = {"fail": "error", "lose": "node_lost", "crowd": "out_of_memory"}[action]
            if run.attempt_failed(trial_id, error=f"error {number}", cause=cause) == "give up":  # type: ignore[arg-type]
                run.trial_over(trial_id)
        elif action == "diverge":
            run.decisions.end_trial(trial_id, "diverged", "the loss is not finite")
            run.trial_over(trial_id)
        elif action == "hang":
            self.clock.now += 1e5
            run.newly_hung()


ACTIONS = ("propose", "start", "place", "stage", "report", "finish", "fail", "lose", "crowd", "diverge", "hang")
STEPS = st.lists(
    st.tuples(
        st.sampled_from((*ACTIONS, "propose", "report", "resume", "stop", "stop a dead driver")), st.integers(0, 3)
    )
)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_after_any_steps_a_standing_is_the_fold_of_its_journal(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        drivers = Drivers(local(Path(folder)), RANDOM)
        for action, number in steps:
            drivers.step(action, number)
            assert_is_the_fold_of_its_journal(drivers.run, drivers.storage, RANDOM)


def test_the_steps_reach_all_that_a_driver_remembers(tmp_path: Path) -> None:
    """So that the property above cannot hold for want of events."""
    drivers = Drivers(local(tmp_path), RANDOM)
    steps = ["propose", "propose", "propose", "start", "place", "stage", "report", "fail", "start", "lose", "resume"]
    for action in [*steps, "finish", "stop", "start", "fail", "fail", "propose", "diverge", "resume"]:
        drivers.step(action, 0)
        assert_is_the_fold_of_its_journal(drivers.run, drivers.storage, RANDOM)
    standing = drivers.run.standing
    assert +standing.totals.outcomes == {"completed": 1, "failed": 1, "diverged": 1}
    assert (standing.drivers, standing.first_attempt, len(standing.live)) == (4, 6, 1)
    assert standing.best is not None
    assert standing.copies
    assert standing.obeyed


def test_a_sweep_stopped_by_first_trials_that_fail_alike_is_the_fold_of_its_journal(tmp_path: Path) -> None:
    drivers = Drivers(local(tmp_path), RANDOM)
    drivers.run.fits_elsewhere = lambda _: False
    for action, number in [("propose", 0), ("propose", 0), ("fail", 0), ("fail", 2), ("propose", 0), ("fail", 0)]:
        drivers.step(action, number)
        for trial_id in list(drivers.run.live)[:2]:
            drivers.run.attempt_failed(trial_id, error="no such layer")
        assert_is_the_fold_of_its_journal(drivers.run, drivers.storage, RANDOM)
    assert drivers.run.stop is not None
    drivers.step("stop a dead driver", 0)
    assert_is_the_fold_of_its_journal(drivers.run, drivers.storage, RANDOM)
    assert drivers.run.stop is None
    assert not drivers.run.standing.alike


@pytest.mark.parametrize(
    ("algorithm", "changes"),
    [("tpe", {}), ("random", {"repeat": {"seeds": 2}}), ("tpe", {"confirm": {"top": 2, "seeds": 2}})],
)
def test_a_whole_sweep_that_is_killed_now_and_then_is_the_fold_of_its_journal_at_each_epoch(
    tmp_path: Path, algorithm: str, changes: dict[str, Any]
) -> None:
    sweep = small_sweep(search={"algorithm": algorithm, "trials": 5, "seed": 7}, scheduler="none", **changes)
    drivers = Drivers(local(tmp_path), sweep)
    epochs = 0
    while not drivers.run.proposals_over or drivers.run.live:
        for action in ("propose", "propose", "start", "report", "report", "finish"):
            drivers.step(action, epochs % 3)
            assert_is_the_fold_of_its_journal(drivers.run, drivers.storage, sweep)
        epochs += 1
        if epochs % 4 == 0:
            drivers.step("resume", 0)
    assert drivers.run.counts["completed"] >= 5
    assert drivers.run.standing.drivers > 1
