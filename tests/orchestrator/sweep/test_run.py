from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from agr_core.errors import ConfigError, DataError
from agr_core.reporting import EpochReport
from orchestrator.catalog import control
from orchestrator.errors import SweepOwnedError
from orchestrator.journal.events import ControlReceived, DataRef, Event, TrialEnded, TrialReported, TrialResumed
from orchestrator.journal.segments import read_events, read_state
from orchestrator.storage import layout
from tests.parts.sweeps import Clock, Deaf, local, make_run, report, small_sweep

SWEEP = "small-20260101-000000-abcd"


def test_a_trial_runs_from_proposal_to_completed(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep())
    run.begin()
    created = run.next_trial(1)
    assert created is not None
    run.attempt_started(created.trial_id, "10.0.0.1")
    run.epoch_reported(created.trial_id, report(1, 9.0))
    run.epoch_reported(created.trial_id, report(2, 7.0))
    run.epoch_reported(created.trial_id, report(3, 8.0, finished=True))
    run.trial_over(created.trial_id)
    run.end("completed")

    state = read_state(local(tmp_path), SWEEP)
    trial = state.trials[created.trial_id]
    assert trial.ended is not None
    assert (trial.outcome, trial.ended.value, trial.ended.best_epoch, trial.ended.epochs) == ("completed", 7.0, 2, 3)
    assert state.status == "completed"
    assert run.best == (created.trial_id, (7.0,))


def test_each_split_is_audited_once_before_the_first_trial_on_it(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep())
    asked: list[DataRef] = []

    def audit(data: DataRef) -> tuple[int, int]:
        asked.append(data)
        return 3, 1

    run.audit = audit
    run.begin()
    created = [run.next_trial(2), run.next_trial(2)]
    run.flush()
    assert asked == [created[0].data]  # type: ignore[union-attr]
    events, _ = read_events(local(tmp_path), SWEEP)
    kinds = [event.kind for event in events]
    assert kinds.count("split_audited") == 1
    assert kinds.index("split_audited") < kinds.index("trial_created")
    state = read_state(local(tmp_path), SWEEP)
    assert [state.leaks_of(trial) for trial in state.trials.values()] == [3, 3]
    assert state.audits[created[0].split_digest].conflicts == 1  # type: ignore[union-attr]


def test_a_split_that_is_refused_makes_no_trial(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep())

    def refuse(_: DataRef) -> tuple[int, int]:
        raise DataError("it leaks")

    run.audit = refuse
    run.begin()
    with pytest.raises(DataError, match="it leaks"):
        run.next_trial(1)
    assert not run.live


def test_a_trial_that_did_not_finish_was_pruned_by_the_scheduler(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep())
    run.begin()
    created = run.next_trial(1)
    assert created is not None
    run.epoch_reported(created.trial_id, report(1, 9.0))
    run.trial_over(created.trial_id)
    assert run.counts == {"pruned": 1}
    assert run.best is None


def test_no_more_trials_live_than_there_is_room_for(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep())
    run.begin()
    assert run.next_trial(2) is not None
    assert run.next_trial(2) is not None
    assert run.next_trial(2) is None


def test_concurrency_bounds_the_living_trials(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep(), concurrency=1)
    run.begin()
    assert run.next_trial(8) is not None
    assert run.next_trial(8) is None


def test_the_sweep_is_over_after_the_trials_asked_for(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep(search={"algorithm": "random", "trials": 2, "seed": 1}))
    run.begin()
    for _ in range(2):
        created = run.next_trial(1)
        assert created is not None
        run.trial_over(created.trial_id)
    assert run.proposals_over
    assert run.next_trial(1) is None


def test_a_paused_sweep_is_not_over_although_it_has_no_trial_left_to_begin(tmp_path: Path) -> None:
    """It may be extended before it goes on."""
    run = make_run(local(tmp_path), small_sweep(search={"algorithm": "random", "trials": 1}))
    run.begin()
    created = run.next_trial(1)
    assert created is not None
    run.record(ControlReceived(time=1.0, command="pause", key="1"))
    assert not run.starting.over
    run.record(ControlReceived(time=2.0, command="resume", key="2"))
    assert run.starting.over


def test_repeated_configurations_differ_in_their_seed_only(tmp_path: Path) -> None:
    sweep = small_sweep(search={"algorithm": "random", "trials": 2, "seed": 1}, scheduler="none", repeat={"seeds": 3})
    run = make_run(local(tmp_path), sweep, seeds=3)
    run.begin()
    trials = [run.next_trial(100) for _ in range(7)]
    assert trials.pop() is None
    configs = [trial.config for trial in trials if trial is not None]
    assert [config["seed"] for config in configs] == [42, 43, 44, 42, 43, 44]
    without_seed = [json.dumps({**config, "seed": 0}, sort_keys=True) for config in configs]
    assert len(set(without_seed[:3])) == len(set(without_seed[3:])) == 1
    assert without_seed[0] != without_seed[3]
    assert [trial.configuration for trial in trials if trial is not None] == [0, 0, 0, 1, 1, 1]
    assert (run.planned, len(run.search._study.get_trials())) == (6, 2)  # the search hears of each once


def test_an_epoch_that_is_journalled_is_not_journalled_again(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep())
    run.begin()
    created = run.next_trial(1)
    assert created is not None
    for epoch in (1, 2, 1, 2, 3):
        run.epoch_reported(created.trial_id, report(epoch, 5.0))
    run.flush()
    events, _ = read_events(local(tmp_path), SWEEP)
    assert [event.epoch for event in events if isinstance(event, TrialReported)] == [1, 2, 3]


def test_an_epoch_that_stands_twice_in_a_journal_counts_as_it_was_first(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep())
    run.begin()
    created = run.next_trial(1)
    assert created is not None
    run.epoch_reported(created.trial_id, report(1, 5.0))
    again = TrialReported(time=1.0, trial_id=created.trial_id, attempt=3, epoch=1, metrics={}, value=4.0)
    run.record(again)
    trial = run.live[created.trial_id]
    assert (trial.value, trial.best, trial.reported_attempt) == (5.0, (1, 5.0), 0)


def test_nobody_hears_of_an_event_before_it_is_stored(tmp_path: Path) -> None:
    heard: list[Event] = []
    run = make_run(local(tmp_path), small_sweep(), heard=heard)
    run.begin()
    stored = len(heard)
    run.next_trial(1)
    assert len(heard) == stored
    run.flush()
    assert len(heard) == stored + 1
    assert len(read_events(local(tmp_path), SWEEP)[0]) == len(heard)


def test_a_second_driver_is_refused_because_the_sweep_is_owned(tmp_path: Path) -> None:
    first = make_run(local(tmp_path), small_sweep())
    first.begin()
    events, last = read_events(local(tmp_path), SWEEP)
    second = make_run(local(tmp_path), small_sweep(), next_segment=last + 1)
    second.replay(events, Deaf())
    first.next_trial(1)
    with pytest.raises(SweepOwnedError, match=SWEEP):
        first.flush()


def test_failures_up_to_the_retries_are_retried_and_a_lost_node_is_not_charged(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep(), retries=1)
    run.begin()
    created = run.next_trial(1)
    assert created is not None
    trial = created.trial_id
    run.epoch_reported(trial, report(1, 5.0))
    assert run.attempt_failed(trial, error="node lost", cause="node_lost") == "retry"
    assert run.attempt_failed(trial, error="boom") == "retry"
    assert run.attempt_failed(trial, error="boom") == "give up"
    assert run.poll() == [trial]
    run.trial_over(trial)
    ended = read_state(local(tmp_path), SWEEP).trials[trial].ended
    assert ended is not None
    assert (ended.outcome, ended.error) == ("failed", "boom")


def test_first_trials_that_fail_alike_stop_the_sweep_with_the_error(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep(), retries=5)
    run.begin()
    trials = [run.next_trial(2) for _ in range(2)]
    for trial in (trials[0], trials[0], trials[1]):
        assert trial is not None
        assert run.stop is None
        run.attempt_failed(trial.trial_id, error="ValueError: no such layer")
    assert run.stop is not None
    assert run.stop.status == "failed"
    assert "no such layer" in run.stop.reason
    assert run.next_trial(3) is None


def test_one_trial_that_fails_alike_in_all_its_attempts_stops_no_sweep(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep(), retries=3)
    run.begin()
    created = run.next_trial(1)
    assert created is not None
    verdicts = [run.attempt_failed(created.trial_id, error="ValueError: no such layer") for _ in range(4)]
    assert verdicts == ["retry", "retry", "retry", "give up"]
    run.trial_over(created.trial_id)
    assert run.stop is None
    assert run.next_trial(1) is not None


def test_the_trial_whose_failure_stops_the_sweep_has_failed_and_is_not_resumed(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep(), retries=0)
    run.begin()
    trials = [run.next_trial(4) for _ in range(4)]
    for trial in trials[:3]:
        assert trial is not None
        assert run.attempt_failed(trial.trial_id, error="ImportError: no module") == "give up"
    assert run.stop is not None
    run.close_all()
    run.end(run.stop.status, run.stop.reason)

    assert read_state(local(tmp_path), SWEEP).counts() == {
        "completed": 0, "pruned": 0, "diverged": 0, "failed": 3, "interrupted": 1
    }  # fmt: skip
    events, last = read_events(local(tmp_path), SWEEP)
    second = make_run(local(tmp_path), small_sweep(), next_segment=last + 1, retries=0)
    second.replay(events, Deaf())
    assert trials[3] is not None
    assert list(second.live) == [trials[3].trial_id]
    assert (second.counts["failed"], second.counts["interrupted"]) == (3, 0)


def test_trials_that_say_they_failed_alike_stop_the_sweep_too(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep())
    run.begin()
    for _ in range(3):
        created = run.next_trial(1)
        assert created is not None
        run.decisions.end_trial(created.trial_id, "failed", "DataError: no images")
        run.trial_over(created.trial_id)
    assert run.stop is not None
    assert "no images" in run.stop.reason


def test_stop_and_kill_are_obeyed_once(tmp_path: Path) -> None:
    clock = Clock()
    storage = local(tmp_path)
    run = make_run(storage, small_sweep(), clock=clock)
    run.begin()
    first, second = run.next_trial(2), run.next_trial(2)
    assert first is not None
    assert second is not None
    control.send(storage, SWEEP, "kill", {"trial_id": first.trial_id})
    clock.now += 3
    assert run.poll() == [first.trial_id]
    run.trial_over(first.trial_id)
    control.send(storage, SWEEP, "stop")
    clock.now += 3
    assert run.poll() == [second.trial_id]
    run.trial_over(second.trial_id)
    run.end("stopped", "agr stop")
    commands = [e for e in read_events(storage, SWEEP)[0] if e.kind == "control_received"]
    assert len(commands) == 2


def test_a_stopped_trial_resumes_with_its_sweep_and_a_killed_one_does_not(tmp_path: Path) -> None:
    clock, storage = Clock(), local(tmp_path)
    first = make_run(storage, small_sweep(), clock=clock)
    first.begin()
    killed, stopped = first.next_trial(2), first.next_trial(2)
    assert killed is not None
    assert stopped is not None
    first.epoch_reported(stopped.trial_id, report(1, 6.0))
    control.send(storage, SWEEP, "kill", {"trial_id": killed.trial_id})
    control.send(storage, SWEEP, "stop")
    clock.now += 3
    for trial in first.poll():
        first.trial_over(trial)
    first.end("stopped", "agr stop")
    assert read_state(storage, SWEEP).counts()["interrupted"] == first.counts["interrupted"] == 2

    deaf = Deaf()
    events, last = read_events(storage, SWEEP)
    second = make_run(storage, small_sweep(), clock=clock, next_segment=last + 1)
    second.replay(events, deaf)
    second.flush()
    assert list(second.live) == [stopped.trial_id]
    assert second.live[stopped.trial_id].epoch == 1
    assert second.poll() == []
    assert [told[:2] for told in deaf.told if told[0] == "ended"] == [("ended", killed.trial_id)]
    assert read_state(storage, SWEEP).counts()["interrupted"] == second.counts["interrupted"] == 1
    second.epoch_reported(stopped.trial_id, report(2, 5.0, finished=True))
    second.trial_over(stopped.trial_id)
    assert read_state(storage, SWEEP).trials[stopped.trial_id].outcome == "completed"


def test_a_trial_that_was_set_aside_goes_on_as_another_attempt_if_a_worker_had_begun_it(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep())
    run.begin()
    begun, queued = run.next_trial(2), run.next_trial(2)
    assert begun is not None
    assert queued is not None
    run.attempt_started(begun.trial_id, "10.0.0.1")
    for trial in (begun, queued):
        run.record(TrialEnded(time=1.0, trial_id=trial.trial_id, outcome="interrupted", epochs=0, resumable=True))
        run.record(TrialResumed(time=2.0, trial_id=trial.trial_id))
    attempts = {trial_id: (trial.attempt, trial.running) for trial_id, trial in run.live.items()}
    assert attempts == {begun.trial_id: (1, False), queued.trial_id: (0, False)}, "its worker may still write attempt 0"


def test_an_objective_no_epoch_reports_is_named_with_the_nearest(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep())
    run.begin()
    created = run.next_trial(1)
    assert created is not None
    with pytest.raises(ConfigError, match=r"val/age_mae.*Did you mean 'val/age_mse'"):
        run.epoch_reported(created.trial_id, EpochReport(epoch=1, metrics={"val/age_mse": 1.0}))


def test_the_summary_has_what_list_and_status_show(tmp_path: Path) -> None:
    storage = local(tmp_path)
    run = make_run(storage, small_sweep())
    run.begin()
    run.next_trial(1)
    run.flush()
    summary = json.loads(storage.read(layout.summary(SWEEP)))
    assert summary["status"] == "running"
    assert summary["trials"]["running"] == 1
    assert summary["planned"] == 30
    assert summary["best"] is None


def test_the_best_epoch_of_each_label_is_recorded(tmp_path: Path) -> None:
    keep = {"loss": {"metric": "val/loss", "direction": "minimize"}}
    run = make_run(local(tmp_path), small_sweep(keep=keep))
    run.begin()
    created = run.next_trial(1)
    assert created is not None
    for epoch, (mae, loss) in enumerate([(9.0, 3.0), (7.0, 1.0), (5.0, 2.0)], start=1):
        metrics = {"val/age_mae": mae, "val/loss": loss}
        run.epoch_reported(created.trial_id, EpochReport(epoch=epoch, metrics=metrics, finished=epoch == 3))
    run.trial_over(created.trial_id)
    trial = read_state(local(tmp_path), SWEEP).trials[created.trial_id]
    assert trial.kept_epochs == {"best": 3, "loss": 2}


def test_stages_are_journalled_once_a_trial_and_counted(tmp_path: Path) -> None:
    stages = [{"id": "pre", "tasks": ["age"]}, {"id": "fine"}]
    trial = {"schedule": {"name": "constant", "epochs": 9}, "stages": stages}
    sweep = small_sweep(trial=trial, space={"batch_size": [8, 16]}, search={"algorithm": "grid"})
    run = make_run(local(tmp_path), sweep)
    run.begin()
    first, second = run.next_trial(2), run.next_trial(2)
    assert first is not None
    assert second is not None
    (ref,) = first.stages
    assert second.stages == first.stages
    assert first.config_digest != second.config_digest
    figures = {"stage": "pre", "key": ref.key, "weights_sha256": "w" * 64, "epochs": 9, "best_epoch": 4, "value": 1.5}
    run.stage_obtained(first.trial_id, figures | {"seconds": 60.0}, trained=True)
    run.stage_obtained(second.trial_id, figures | {"seconds": 1.0}, trained=False)
    run.stage_obtained(second.trial_id, figures | {"seconds": 0.0}, trained=False)  # a further attempt
    run.flush()
    state = read_state(local(tmp_path), SWEEP)
    assert state.totals.by_stage() == run.summary("running").stages == {"trained": 1, "reused": 1}
    assert [event.kind for event in state.trials[first.trial_id].stages.values()] == ["stage_trained"]

    again = make_run(local(tmp_path), sweep, next_segment=3)
    again.replay(read_events(local(tmp_path), SWEEP)[0], Deaf())
    again.stage_obtained(first.trial_id, figures | {"seconds": 0.0}, trained=True)
    assert again.summary("running").stages == {"trained": 1, "reused": 1}


def test_which_node_has_which_data_is_known_from_what_trials_staged_there(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep())
    run.begin()
    first, second = run.next_trial(8), run.next_trial(8)
    assert first is not None
    assert second is not None
    run.attempt_started(first.trial_id, "10.0.0.1", "a")
    run.attempt_started(second.trial_id, "10.0.0.2", "b")
    run.data_staged(second.trial_id, {"fetched_bytes": 1, "spent_s": 1.0, "saved_s": 0.0})
    assert run.standing.staged == {"b": {second.data_digest}}


def test_what_trials_fetched_and_were_spared_is_summed_in_the_summary_also_after_a_resume(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep())
    run.begin()
    assert run.summary("running").data == {}
    for fetched_bytes, spent_s, saved_s in ((5000, 2.5, 0.0), (0, 0.25, 2.25)):
        created = run.next_trial(8)
        assert created is not None
        figures = {"fetched_bytes": fetched_bytes, "spent_s": spent_s, "saved_s": saved_s}
        run.data_staged(created.trial_id, figures)
    sums = {"fetched_bytes": 5000, "spent_s": 2.75, "saved_s": 2.25}
    assert run.summary("running").data == sums

    run.flush()
    events, last = read_events(local(tmp_path), SWEEP)
    again = make_run(local(tmp_path), small_sweep(), next_segment=last + 1)
    again.replay(events, Deaf())
    assert again.summary("running").data == sums


RANDOM = {"algorithm": "random", "trials": 4, "seed": 7}


def test_with_folds_each_configuration_is_trained_on_each_fold_in_turn(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), small_sweep(folds=3, scheduler="none", search=RANDOM), folds=3, seeds=3)
    run.begin()
    created = [run.next_trial(8) for _ in range(6)]
    assert [(each.configuration, each.repeat, each.config["data"]["split"]["fold"]) for each in created if each] == [
        (configuration, fold, fold) for configuration in (0, 1) for fold in (0, 1, 2)
    ]
