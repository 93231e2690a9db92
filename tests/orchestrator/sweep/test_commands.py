"""Commands to a running sweep: each is journalled and obeyed, and a driver that is killed right after changes nothing.

One worker, the real search, the real scheduler and the real journal; only the training is a formula.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agr_core.errors import InputError
from orchestrator.catalog import control
from orchestrator.catalog.summary import read_summary
from orchestrator.journal.events import TrialReopened
from orchestrator.journal.segments import read_events, read_state
from orchestrator.sweep.command_checks import to_retry
from tests.parts.one_worker import EPOCHS, LR, ORDERS, SWEEP, TRIALS, Worker, a_sweep, told
from tests.parts.sweeps import Clock, local, make_run, small_sweep


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_a_driver_killed_right_after_a_command_changes_nothing(
    tmp_path: Path, order: Callable[[Worker], tuple[str, dict[str, Any]]]
) -> None:
    finished = {}
    for name, kill in (("whole", False), ("killed", True)):
        worker = Worker(tmp_path / name, a_sweep())
        worker.train_into_a_trial()
        command, arguments = order(worker)
        received = worker.send(command, **arguments)
        assert (received.command, received.refused) == (command, "")
        assert "@" in received.sender
        assert received.sent is not None
        if kill:
            worker.killed()
        elif command == "pause":
            worker.send("resume")
        worker.train(7)
        if kill:
            worker.killed()
        worker.train()
        assert worker.run.starting.over
        assert worker.run.end("completed").status == "completed"
        finished[name] = told(tmp_path / name)
    assert finished["killed"] == finished["whole"]


def test_paused_nothing_runs_or_begins_and_nothing_is_lost(tmp_path: Path) -> None:
    worker = Worker(tmp_path / "paused", a_sweep())
    worker.train_into_a_trial()
    running = dict(worker.run.live)
    wall = worker.run.wall_s
    worker.send("pause")
    assert not worker.run.live
    worker.clock.now += 3600
    worker.train(5)
    worker.run.flush()
    state, summary = read_state(worker.storage, SWEEP), read_summary(worker.storage, SWEEP)
    assert [state.trials[trial].outcome for trial in running] == ["interrupted"]
    assert (summary.status, summary.trials.interrupted, summary.trials.running) == ("paused", 1, 0)
    assert not worker.run.starting.over, "Tune goes on asking"
    assert worker.run.wall_s == wall + 3, "paused, no wall time passes"

    worker.send("resume")
    worker.train()
    whole = Worker(tmp_path / "whole", a_sweep())
    whole.train()
    for each in (worker, whole):
        each.run.end("completed")
    assert told(tmp_path / "paused") == told(tmp_path / "whole")


def test_a_completed_sweep_is_extended_with_its_whole_history(tmp_path: Path) -> None:
    whole = Worker(tmp_path / "whole", a_sweep(search={"algorithm": "tpe", "trials": TRIALS + 6, "seed": 7}))
    whole.train()
    whole.run.end("completed")
    worker = Worker(tmp_path / "extended", a_sweep())
    worker.train()
    worker.run.end("completed")
    assert len(told(tmp_path / "extended")) == TRIALS
    control.send(worker.storage, SWEEP, "extend", {"trials": 6})
    worker.killed()  # a driver takes it up
    assert (worker.run.planned, worker.run.starting.over) == (TRIALS + 6, False)
    worker.train()
    worker.run.end("completed")
    assert told(tmp_path / "extended") == told(tmp_path / "whole")


def test_a_sweep_that_was_confirmed_and_extended_confirms_its_new_best(tmp_path: Path) -> None:
    sweep = a_sweep(confirm={"top": 2, "seeds": 2}, scheduler="none")
    worker = Worker(tmp_path, sweep)
    worker.train()
    before = [trial.created.confirms for trial in read_state(worker.storage, SWEEP).trials.values()]
    worker.send("extend", trials=10)
    worker.train()
    state = read_state(worker.storage, SWEEP)
    searched = [trial for trial in state.trials.values() if trial.created.confirms is None]
    assert [trial.created.configuration for trial in searched] == list(range(TRIALS + 10))
    ranked = sorted((trial for trial in searched if trial.result), key=lambda trial: trial.result)
    confirmed = [trial.created.confirms for trial in state.trials.values()]
    for best in ranked[:2]:
        assert confirmed.count(best.trial_id) == 2
    assert confirmed[: len(before)] == before


def test_an_enqueued_configuration_comes_next_and_beyond_those_planned(tmp_path: Path) -> None:
    worker = Worker(tmp_path, a_sweep())
    worker.train_into_a_trial()
    given = {"model": {"name": "basic_cnn", "conv_layers": 3}, "optimizer": {"name": "sgd", "lr": 0.05}}
    next_number = worker.run.standing.next_number
    worker.send("enqueue", config=given)
    worker.train()
    created = list(read_state(worker.storage, SWEEP).trials.values())[next_number].created
    assert (created.config["model"]["conv_layers"], created.config["optimizer"]["lr"]) == (3, 0.05)
    assert 0.8 <= created.config["optimizer"]["momentum"] <= 0.99, "what it leaves open is drawn"
    assert len(told(tmp_path)) == TRIALS + 1


def test_a_retried_trial_keeps_its_attempts_and_the_search_learns_how_it_ends(tmp_path: Path) -> None:
    worker = Worker(tmp_path, a_sweep(scheduler="none"))
    worker.train(45)
    failed = worker.trial(3)
    assert read_state(worker.storage, SWEEP).trials[failed].outcome == "failed"
    worker.send("retry", trials=[failed])
    worker.train()
    trial = read_state(worker.storage, SWEEP).trials[failed]
    assert (trial.outcome, trial.attempts, len(trial.reports)) == ("completed", 2, EPOCHS)
    assert worker.run.counts["failed"] == 0
    values = [t.values for t in worker.run.search._study.get_trials() if t.values]
    assert [trial.ended.value] in values if trial.ended else False


def test_a_trial_that_is_continued_has_the_epochs_of_a_longer_training(tmp_path: Path) -> None:
    worker = Worker(tmp_path, a_sweep())
    worker.train()
    state = read_state(worker.storage, SWEEP)
    best = state.best()
    assert best is not None
    worker.send("continue", trial_id=best.trial_id, epochs=20)
    assert worker.run.best is None or worker.run.best.trial_id != best.trial_id, "it has not ended"
    worker.train()
    trial = read_state(worker.storage, SWEEP).trials[best.trial_id]
    assert [report.epoch for report in trial.reports] == list(range(1, 21))
    assert (trial.created.config["schedule"]["epochs"], trial.outcome) == (20, "completed")
    assert trial.created.config_digest != best.created.config_digest
    assert worker.run.best == read_state(worker.storage, SWEEP).winner().best  # type: ignore[union-attr]
    reopened = [event for event in read_events(worker.storage, SWEEP)[0] if isinstance(event, TrialReopened)]
    assert [event.reason for event in reopened] == ["agr continue --epochs 20"]


@pytest.mark.parametrize("algorithm", ["tpe", "random", "branched_gp"])
def test_a_narrowed_sweep_proposes_inside_and_knows_what_lies_outside(tmp_path: Path, algorithm: str) -> None:
    search = {"algorithm": algorithm, "trials": 26, "seed": 7}
    worker = Worker(tmp_path, small_sweep(search=search, scheduler="none"))
    worker.train(110)
    before = worker.run.standing.next_number
    known = len(worker.run.search._study.get_trials())
    worker.send("narrow", domains={**LR, "model": ["basic_cnn"]})
    worker.train()
    trials = list(read_state(worker.storage, SWEEP).trials.values())
    assert any(trial.created.config["optimizer"]["lr"] < 1e-3 for trial in trials[:before])
    for trial in trials[before:]:
        assert 1e-3 <= trial.created.config["optimizer"]["lr"] <= 1e-2
        assert trial.created.config["model"]["name"] == "basic_cnn"
    assert len(worker.run.search._study.get_trials()) == known + len(trials) - before


def test_a_narrowed_grid_leaves_points_out(tmp_path: Path) -> None:
    space = {"batch_size": [16, 32, 64], "optimizer": {"name": "sgd", "lr": {"choice": [0.1, 0.01]}}}
    worker = Worker(tmp_path, small_sweep(space=space, search={"algorithm": "grid"}, scheduler="none"))
    worker.train(2)
    worker.send("narrow", domains={"optimizer.lr": 0.1})
    worker.train()
    points = [
        (trial.created.config["batch_size"], trial.created.config["optimizer"]["lr"])
        for trial in read_state(worker.storage, SWEEP).trials.values()
    ]
    assert points == [(16, 0.1), (32, 0.1), (64, 0.1)]


REFUSED = {
    "an unknown field": ("enqueue", {"config": {"optimiser": "sgd"}}, "optimiser is not a field"),
    "outside the space": ("enqueue", {"config": {"optimizer": {"name": "nadam", "lr": 0.5}}}, "nearest inside is 0.01"),
    "not inside": ("narrow", {"domains": {"optimizer.lr": {"loguniform": [1e-5, 1e-3]}}}, "nearest inside is 0.0001"),
    "one branch": ("narrow", {"domains": {"optimizer.lr": {"loguniform": [1e-4, 1e-3]}}}, "optimizer[sgd].lr=..."),
    "another scale": ("narrow", {"domains": {"optimizer.lr": {"uniform": [1e-3, 1e-2]}}}, "of the same kind"),
    "what is fixed": ("narrow", {"domains": {"batch_size": [16]}}, "batch_size does not vary"),
    "no such budget": ("extend", {"usd": 10}, "no budget.usd to extend. It can be extended by --trials."),
    "nothing to add": ("extend", {}, "--trials 50"),
    "no trial": ("retry", {"trials": ["ffffffff"]}, "no trial 'ffffffff'"),
    "not settable": ("set", {"retries": 3}, "concurrency can"),
    "no share": ("set", {"concurrency": "150%"}, "share of the slots"),
    "another type": ("extend", {"trials": ["many"]}, "its arguments are not those of extend: TypeError"),
    "no command": ("dance", {}, "'dance' is not a command"),
}


@pytest.mark.parametrize(("name", "arguments", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_done_is_journalled_as_refused_and_changes_nothing(
    tmp_path: Path, name: str, arguments: dict[str, Any], reason: str
) -> None:
    worker = Worker(tmp_path, a_sweep())
    worker.train(5)
    received = worker.send(name, **arguments)
    assert reason in received.refused
    assert worker.run.stop is None
    assert worker.run.planned == TRIALS


def test_diverged_trials_are_not_retried_and_length_dependent_schedules_not_continued(tmp_path: Path) -> None:
    worker = Worker(tmp_path, a_sweep(scheduler="none"))
    worker.train(70)
    diverged = worker.trial(6)
    assert f"agr rerun {diverged} --set" in worker.send("retry", trials=[diverged]).refused
    cosine = Worker(tmp_path / "cosine", a_sweep(trial={"schedule": {"name": "cosine", "epochs": EPOCHS}}))
    cosine.train(12)
    first = cosine.trial(0)
    refused = cosine.send("continue", trial_id=first, epochs=12).refused
    assert f"agr rerun {first} --set schedule.epochs=12" in refused
    assert "has 9 epochs already" in worker.send("continue", trial_id=worker.trial(0), epochs=9).refused
    too_many = worker.send("continue", trial_id=worker.trial(0), epochs=200_000).refused
    assert f"trial {worker.trial(0)} cannot train 200000 epochs" in too_many


def test_retry_by_outcome_leaves_out_what_goes_on_by_itself(tmp_path: Path) -> None:
    worker = Worker(tmp_path, a_sweep(scheduler="none"))
    worker.train(45)
    failed = worker.trial(3)
    worker.send("retry", trials=[failed])
    state = read_state(worker.storage, SWEEP)
    assert state.trials[failed].outcome is None
    interrupted = state.trials[worker.trial(0)]
    kept = interrupted.ended
    assert kept is not None
    interrupted.ended = kept.model_copy(update={"outcome": "interrupted", "resumable": True})
    with pytest.raises(InputError, match="has no interrupted trial to retry"):
        to_retry(state, [], ["interrupted"])
    interrupted.ended = kept.model_copy(update={"outcome": "interrupted", "resumable": False})
    assert to_retry(state, [], ["interrupted"]) == [interrupted]


@pytest.mark.parametrize(
    ("trial", "reason"),
    [
        ({"schedule": {"name": "step", "parts": 3, "epochs": EPOCHS}}, "by schedule step with parts"),
        (
            {
                "schedule": {"name": "constant", "epochs": EPOCHS},
                # By the worker's formula the error after epoch 6 is not undercut by 0.25 until epoch 9.
                "early_stopping": {"metric": "val/age_mae", "patience": 3, "min_delta": 0.25},
            },
            "stopped by its own early stopping after 9 epochs",
        ),
    ],
    ids=["parts of the epochs", "early stopping at the last epoch"],
)
def test_a_trial_whose_longer_training_would_differ_is_not_continued(
    tmp_path: Path, trial: dict[str, Any], reason: str
) -> None:
    worker = Worker(tmp_path, a_sweep(trial=trial, scheduler="none"))
    worker.train(12)
    assert reason in worker.send("continue", trial_id=worker.trial(0), epochs=12).refused


def test_a_lower_concurrency_sets_the_newest_trials_aside_until_there_is_room(tmp_path: Path) -> None:
    run = make_run(local(tmp_path), a_sweep(), clock=(clock := Clock()))
    run.begin()
    created = [run.next_trial(4) for _ in range(4)]
    ids = [trial.trial_id for trial in created if trial is not None]
    control.send(run.storage, SWEEP, "set", {"concurrency": "50%"})
    clock.now += 3
    assert run.poll() == ids[2:]
    for trial_id in ids[2:]:
        run.trial_over(trial_id)
    assert run.starting.next_restart(4) is None
    assert run.next_trial(4) is None
    run.decisions.end_trial(ids[0], "failed", "boom")
    run.trial_over(ids[0])
    live = run.starting.next_restart(4)
    assert live is not None
    assert live.trial_id == ids[2], "it goes on before anything new begins"
    assert run.next_trial(4) is None


def test_a_note_is_journalled_in_mid_sweep_and_changes_nothing(tmp_path: Path) -> None:
    plain, noted = Worker(tmp_path / "plain", a_sweep()), Worker(tmp_path / "noted", a_sweep())
    for worker in (plain, noted):
        worker.train_into_a_trial()
    trial = noted.trial(0)
    assert noted.send("note", text="look at this", trial_id=trial).refused == ""
    assert noted.send("tag", tags={"keep": "", "old": None}).refused == ""
    assert "must be a mapping" in noted.send("tag", tags="keep").refused
    noted.killed()
    noted.train()
    plain.train()

    assert told(noted.path) == told(plain.path)
    state = read_state(noted.storage, SWEEP)
    assert state.annotations.texts(trial) == ["look at this"]
    assert read_summary(noted.storage, SWEEP).tags == {"keep": ""}
