"""What becomes of attempts that fail: retried, halved, ended, their node quarantined, or the whole sweep stopped."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from agr_core.config import TrialConfig
from orchestrator.journal.events import TrialCreated
from orchestrator.journal.outcome import Cause
from orchestrator.journal.segments import read_events, read_state
from orchestrator.sweep.decisions import Ending
from orchestrator.sweep.run import SweepRun
from tests.parts.sweeps import Clock, Deaf, local, make_run, report, small_sweep

SWEEP = "small-20260101-000000-abcd"
FULL = "StorageFullError: writing 'a' in /data failed: No space left on device. The disk of /data is full."
OUT = "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."


@pytest.fixture
def run(tmp_path: Path, request: pytest.FixtureRequest) -> SweepRun:
    run = make_run(local(tmp_path), small_sweep(), **getattr(request, "param", {}))
    run.begin()
    return run


def start(run: SweepRun, node: str = "a") -> TrialCreated:
    created = run.next_trial(100)
    assert created is not None
    run.attempt_started(created.trial_id, f"10.0.0.{ord(node)}", node)
    return created


# ---- out of memory


@pytest.mark.parametrize("run", [{"out_of_memory": "halve_batch"}], indirect=True)
def test_out_of_memory_halves_the_batch_which_is_the_trials_own_from_then_on(run: SweepRun, tmp_path: Path) -> None:
    created = start(run)
    assert run.attempt_failed(created.trial_id, error=OUT, cause="out_of_memory") == "retry"
    run.epoch_reported(created.trial_id, report(1, 5.0, finished=True))
    run.trial_over(created.trial_id)

    trial = read_state(local(tmp_path), SWEEP).trials[created.trial_id]
    assert trial.outcome == "completed"
    assert trial.created.config == {**created.config, "batch_size": created.config["batch_size"] // 2}
    assert not any(failure.charged for failure in trial.failures)
    assert trial.reconfigured is not None
    assert OUT in trial.reconfigured.reason
    digest = TrialConfig.from_document(trial.created.config).digest(
        data_digest=created.data_digest, split_digest=created.split_digest
    )
    assert trial.created.config_digest == digest != created.config_digest


@pytest.mark.parametrize("run", [{"out_of_memory": "halve_batch"}], indirect=True)
def test_a_batch_is_halved_once_and_then_the_trial_is_infeasible(run: SweepRun) -> None:
    created = start(run)
    run.attempt_failed(created.trial_id, error=OUT, cause="out_of_memory")
    assert run.attempt_failed(created.trial_id, error=OUT, cause="out_of_memory") == "give up"
    assert run.decisions.endings[created.trial_id] == Ending("failed", f"infeasible: {OUT}")


@pytest.mark.parametrize("run", [{"out_of_memory": "infeasible"}], indirect=True)
def test_an_infeasible_trial_ends_at_once_and_stops_no_sweep(run: SweepRun, tmp_path: Path) -> None:
    for _ in range(5):
        created = start(run)
        assert run.attempt_failed(created.trial_id, error=OUT, cause="out_of_memory") == "give up"
        run.trial_over(created.trial_id)
    assert run.stop is None
    assert run.counts == {"failed": 5}
    assert read_state(local(tmp_path), SWEEP).trials[created.trial_id].ended.error == f"infeasible: {OUT}"  # type: ignore[union-attr]


def test_a_model_that_cannot_be_built_is_not_tried_again_and_stops_no_sweep(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep(), retries=3)
    run.begin()
    for _ in range(5):
        created = start(run)
        assert run.attempt_failed(created.trial_id, error="ModelError: no", cause="unfit_model") == "give up"
        assert run.trial_over(created.trial_id) == "failed"
    assert run.stop is None


@pytest.mark.parametrize("policy", ["halve_batch", "infeasible"])
def test_out_of_memory_after_an_epoch_is_a_failure_like_any_other(policy: Any, tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep(), out_of_memory=policy, retries=1)
    run.begin()
    created = start(run)
    run.epoch_reported(created.trial_id, report(1, 5.0))
    assert run.attempt_failed(created.trial_id, error=OUT, cause="out_of_memory") == "retry"
    assert run.live[created.trial_id].created.config == created.config
    assert run.attempt_failed(created.trial_id, error=OUT, cause="out_of_memory") == "give up"


@pytest.mark.parametrize("policy", ["retry", "halve_batch", "infeasible"])
def test_a_trial_that_gets_more_memory_is_tried_again_as_it_is_and_charged_nothing(policy: Any, tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep(), out_of_memory=policy, retries=0)
    created = start(run)
    run.attempt_started(created.trial_id, "a", "node a")
    assert run.attempt_failed(created.trial_id, error=OUT, cause="out_of_memory", crowded=True) == "retry"
    assert not run.live[created.trial_id].reconfigured
    verdict = run.attempt_failed(created.trial_id, error=OUT, cause="out_of_memory")
    assert verdict == ("retry" if policy == "halve_batch" else "give up"), "with no more to give"


def test_out_of_memory_is_retried_where_the_sweep_says_nothing(run: SweepRun) -> None:
    created = start(run)
    verdicts = [run.attempt_failed(created.trial_id, error=OUT, cause="out_of_memory") for _ in range(4)]
    assert verdicts == ["retry", "retry", "retry", "give up"]
    assert run.stop is None, "it says nothing of trials with a smaller batch"


def test_a_varied_batch_size_shows_the_half_among_the_params(tmp_path: Path) -> None:
    sweep = small_sweep(space={"batch_size": [64]}, search={"algorithm": "grid"})
    run = make_run(local(tmp_path), sweep, out_of_memory="halve_batch")
    run.begin()
    created = start(run)
    run.attempt_failed(created.trial_id, error=OUT, cause="out_of_memory")
    assert run.live[created.trial_id].created.params == {"batch_size": 32}


def test_a_batch_of_one_cannot_be_halved(tmp_path: Path) -> None:
    trial = {"schedule": {"name": "constant", "epochs": 9}, "batch_size": 1}
    run = make_run(local(tmp_path), small_sweep(trial=trial), out_of_memory="halve_batch")
    run.begin()
    assert run.attempt_failed(start(run).trial_id, error=OUT, cause="out_of_memory") == "give up"


def test_a_resumed_sweep_keeps_the_halved_batch(tmp_path: Path) -> None:
    first = make_run(local(tmp_path), small_sweep(), out_of_memory="halve_batch")
    first.begin()
    created = start(first)
    first.attempt_failed(created.trial_id, error=OUT, cause="out_of_memory")
    first.flush()
    events, last = read_events(local(tmp_path), SWEEP)
    second = make_run(local(tmp_path), small_sweep(), out_of_memory="halve_batch", next_segment=last + 1)
    second.replay(events, Deaf())
    assert second.live[created.trial_id].created.config["batch_size"] == created.config["batch_size"] // 2
    assert second.attempt_failed(created.trial_id, error=OUT, cause="out_of_memory") == "give up"


# ---- nodes


def two_nodes(run: SweepRun) -> SweepRun:
    """Nodes a and b, of which one that is quarantined runs no trial."""
    run.fits_elsewhere = lambda node: bool({"a", "b"} - {node} - run.standing.health.quarantined)
    return run


def test_a_node_that_fails_trial_after_trial_is_quarantined_and_charged_for_nothing(
    run: SweepRun, tmp_path: Path
) -> None:
    two_nodes(run)
    trials = [start(run, "b") for _ in range(2)]
    run.epoch_reported(start(run, "a").trial_id, report(1, 5.0))
    for trial in (trials[0], trials[1], trials[0]):
        assert run.attempt_failed(trial.trial_id, error="RuntimeError: broken") == "retry"
    assert run.standing.health.quarantined == {"b"}
    assert [run.live[trial.trial_id].charged for trial in trials] == [0, 0]
    assert run.summary("running").document(0.0)["quarantined"] == [
        {"node": "10.0.0.98", "error": "RuntimeError: broken"}
    ]
    run.flush()
    (event,) = read_state(local(tmp_path), SWEEP).quarantined
    assert (event.node_id, event.failures) == ("b", 3)


def test_one_trial_that_fails_on_a_node_says_nothing_of_the_node(run: SweepRun) -> None:
    two_nodes(run)
    trial = start(run, "b").trial_id
    for _ in range(4):
        run.attempt_failed(trial, error="boom")
    assert not run.standing.health.quarantined


def test_one_trial_that_trained_elsewhere_does(run: SweepRun) -> None:
    two_nodes(run)
    trial = start(run, "a").trial_id
    run.epoch_reported(trial, report(1, 5.0))
    run.attempt_failed(trial, error="node lost", cause="node_lost")
    run.attempt_started(trial, "10.0.0.98", "b")
    for _ in range(3):
        assert run.attempt_failed(trial, error="boom") == "retry"
    assert run.standing.health.quarantined == {"b"}


def test_an_epoch_in_between_clears_a_node(run: SweepRun) -> None:
    two_nodes(run)
    trials = [start(run, "b").trial_id for _ in range(3)]
    run.attempt_failed(trials[0], error="boom")
    run.attempt_failed(trials[1], error="boom")
    run.epoch_reported(trials[2], report(1, 5.0))
    run.attempt_failed(trials[0], error="boom")
    assert not run.standing.health.quarantined


def test_the_last_node_is_never_quarantined(run: SweepRun) -> None:
    run.epoch_reported(start(run, "a").trial_id, report(1, 5.0))
    for _ in range(5):
        run.attempt_failed(start(run, "a").trial_id, error="boom")
    assert not run.standing.health.quarantined


def test_trials_that_end_themselves_speak_against_their_node_too(run: SweepRun) -> None:
    two_nodes(run)
    for _ in range(3):
        trial = start(run, "b").trial_id
        run.decisions.end_trial(trial, "failed", "DataError: no such folder")
        run.trial_over(trial)
    assert run.standing.health.quarantined == {"b"}
    assert run.stop is None, "only one of two nodes has been tried"


def test_what_fails_on_a_second_node_too_stops_the_sweep(run: SweepRun) -> None:
    two_nodes(run)
    for node in ("a", "a", "b"):
        run.attempt_failed(start(run, node).trial_id, error="no such layer")
    assert run.stop is not None
    assert "no such layer" in run.stop.reason


def test_what_fails_on_every_node_stops_the_sweep_although_the_first_was_quarantined(run: SweepRun) -> None:
    two_nodes(run)
    for node in ("a", "a", "a", "b", "b"):
        run.attempt_failed(start(run, node).trial_id, error="no such layer")
        assert run.stop is None
    assert run.standing.health.quarantined == {"a"}
    run.attempt_failed(start(run, "b").trial_id, error="no such layer")
    assert run.stop is not None


def test_what_fails_alike_on_one_node_stops_no_sweep_also_after_its_quarantine(run: SweepRun) -> None:
    two_nodes(run)
    for trial in [start(run, "b").trial_id for _ in range(6)]:
        run.attempt_failed(trial, error="no such layer")
    assert run.standing.health.quarantined == {"b"}
    assert run.stop is None, "the other node has not tried it"


def test_a_resumed_sweep_counts_anew_what_fails_alike(run: SweepRun, tmp_path: Path) -> None:
    """Whoever resumes it has mended the cause, or means to see more of it."""
    for _ in range(2):
        run.attempt_failed(start(run).trial_id, error="no such layer")
    run.flush()
    events, last = read_events(local(tmp_path), SWEEP)
    second = make_run(local(tmp_path), small_sweep(), next_segment=last + 1)
    second.replay(events, Deaf())
    for stopped in (False, False, True):
        second.attempt_failed(start(second).trial_id, error="no such layer")
        assert (second.stop is not None) == stopped


def test_a_quarantine_outlives_its_driver(run: SweepRun, tmp_path: Path) -> None:
    two_nodes(run)
    for _ in range(3):
        run.attempt_failed(start(run, "b").trial_id, error="boom")
    run.flush()
    events, last = read_events(local(tmp_path), SWEEP)
    second = make_run(local(tmp_path), small_sweep(), next_segment=last + 1)
    second.replay(events, Deaf())
    assert second.standing.health.quarantined == {"b"}


def test_what_fails_on_a_node_that_is_quarantined_already_is_not_charged(run: SweepRun) -> None:
    two_nodes(run)
    trials = [start(run, "b").trial_id for _ in range(4)]
    run.epoch_reported(start(run, "a").trial_id, report(1, 5.0))
    for trial in trials:
        run.attempt_failed(trial, error="boom")
    assert run.standing.health.quarantined == {"b"}
    assert [run.live[trial].charged for trial in trials] == [0, 0, 0, 0]


# ---- full disks, missing plug-ins


@pytest.mark.parametrize("cause", ["disk_full", "no_plugin"])
@pytest.mark.parametrize("run", [{"retries": 0}], indirect=True)
def test_a_node_that_is_unfit_itself_gets_no_more_trials_and_none_is_charged(run: SweepRun, cause: Cause) -> None:
    two_nodes(run)
    trials = [start(run, "b").trial_id for _ in range(2)]
    for trial in trials:
        assert run.attempt_failed(trial, error=FULL, cause=cause) == "retry"
    assert run.standing.health.quarantined == {"b"}
    assert [run.live[trial].charged for trial in trials] == [0, 0]
    assert [event.failures for event in run.standing.quarantines] == [1], "it is quarantined once"
    assert run.stop is None


@pytest.mark.parametrize("run", [{"retries": 0}], indirect=True)
def test_the_last_node_with_a_full_disk_stops_the_sweep_which_can_be_resumed(run: SweepRun, tmp_path: Path) -> None:
    two_nodes(run)
    trials = [start(run, node).trial_id for node in "ab"]
    run.epoch_reported(trials[0], report(1, 5.0))
    for trial in trials:
        assert run.attempt_failed(trial, error=FULL, cause="disk_full") == "retry"
    assert run.stop is not None
    assert (run.stop.status, FULL in run.stop.reason, "resume" in run.stop.reason) == ("failed", True, True)
    run.close_all()
    run.end(run.stop.status, run.stop.reason)

    events, last = read_events(local(tmp_path), SWEEP)
    second = make_run(local(tmp_path), small_sweep(), next_segment=last + 1, retries=0)
    second.replay(events, Deaf())
    assert set(second.live) == set(trials)
    assert [second.live[trial].charged for trial in trials] == [0, 0]
    assert second.stop is None


# ---- hung trials


def hung_after(run: SweepRun, clock: Clock, seconds: int) -> list[str]:
    """What is named as hung while the driver looks once a second for so long."""
    named = []
    for _ in range(seconds):
        clock.now += 1
        named += run.newly_hung()
    return named


def test_a_trial_that_says_nothing_for_too_long_is_named_once_an_attempt(tmp_path: Path) -> None:
    clock = Clock()
    run = make_run(local(tmp_path), small_sweep(), clock=clock, report_limit_s=60.0)
    run.begin()
    trial = start(run).trial_id
    assert hung_after(run, clock, 59) == []
    run.epoch_reported(trial, report(1, 5.0))
    assert hung_after(run, clock, 60) == []
    assert hung_after(run, clock, 5) == [trial]
    run.attempt_failed(trial, error="no report for 60 s", cause="hung")
    assert hung_after(run, clock, 61) == [], "it waits for a worker"
    run.attempt_started(trial, "10.0.0.1", "a")
    assert hung_after(run, clock, 61) == [trial]


def test_while_the_driver_waits_for_the_storage_no_trial_hangs(tmp_path: Path) -> None:
    clock = Clock()
    run = make_run(local(tmp_path), small_sweep(), clock=clock, report_limit_s=60.0)
    run.begin()
    trial = start(run).trial_id
    assert hung_after(run, clock, 50) == []
    clock.now += 300  # of which what the trial said, and that it waited too, is not known
    assert run.newly_hung() == []
    assert hung_after(run, clock, 60) == []
    assert hung_after(run, clock, 1) == [trial]


def test_a_trial_that_waits_for_a_worker_after_resume_is_not_hung(tmp_path: Path) -> None:
    clock = Clock()
    first = make_run(local(tmp_path), small_sweep(), clock=clock, report_limit_s=60.0)
    first.begin()
    start(first)
    first.flush()
    clock.now += 1000
    events, last = read_events(local(tmp_path), SWEEP)
    second = make_run(local(tmp_path), small_sweep(), clock=clock, report_limit_s=60.0, next_segment=last + 1)
    second.replay(events, Deaf())
    assert second.newly_hung() == []
