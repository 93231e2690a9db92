"""What MLflow shows of a sweep and its trials."""

from __future__ import annotations

import json
from typing import Any

import pytest

from orchestrator.journal.events import DriverStarted, SplitAudited, TrialReconfigured
from orchestrator.journal.segments import read_state
from orchestrator.simulation.memory_tracker import MemoryTracker
from orchestrator.sweep.command_checks import reopened
from orchestrator.tracking.delivery import BEST_WEIGHTS, Syncer
from orchestrator.tracking.view import view_key

from ..conftest import Recorder, parent_of, run_of, whole_sweep


def test_a_sweep_becomes_a_parent_with_one_run_per_trial(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), whole_sweep(record_sweep)

    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()

    parent_id, parent = parent_of(tracker)
    children = [run for run in tracker.all_runs.values() if run is not parent]
    assert parent.name == sweep.sweep_id
    assert [run.name for run in children] == [
        "000 resnet10t nadam",
        "001 basic_cnn sgd",
        "002 resnet10t onehot/utk4",
        "003 basic_cnn",
    ]
    assert {run.tags["mlflow.parentRunId"] for run in children} == {parent_id}
    assert [run.status for run in children] == ["FINISHED", "KILLED", "FINISHED", "FAILED"]
    assert {run.experiment_id for run in tracker.all_runs.values()} == {tracker.experiments["faces"]}


def test_a_leaking_split_is_a_tag_of_the_sweep_and_of_its_trials(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), record_sweep()
    clean = sweep.trial(0, [9.0])
    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()
    assert "agr.leaks" not in parent_of(tracker)[1].tags | run_of(tracker, clean).tags
    split = read_state(sweep.storage, sweep.sweep_id).trials[clean].created
    audited = SplitAudited(
        time=sweep.tick(), data_digest=split.data_digest, split_digest=split.split_digest, leaks=13, conflicts=0
    )
    sweep.record(audited)
    leaking = sweep.trial(1, [8.0])
    sweep.end()
    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()
    assert run_of(tracker, leaking).tags["agr.leaks"] == "13"
    assert parent_of(tracker)[1].tags["agr.leaks"] == "13"


def test_a_trial_shows_its_whole_configuration_curves_best_epoch_and_tags(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), record_sweep()
    trial = sweep.trial(0, [9.0, 7.0, 8.0], params={"optimizer.name": "nadam", "optimizer.lr": 0.01}, variant="plain")
    sweep.end()

    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()

    run = run_of(tracker, trial)
    assert list(run.params)[:2] == ["optimizer.name", "optimizer.lr"]
    assert (run.params["optimizer.lr"], run.params["schedule.epochs"], run.params["data.split.seed"]) == (0.01, 6, 42)
    assert run.curve("val/age_mae") == {1: 9.0, 2: 7.0, 3: 8.0}
    assert run.curve("best/age_mae") == {2: 7.0}
    assert run.curve("best/gender_acc") == {2: 1 - 7.0 / 40}
    assert not any(name.startswith("best/train") for name in (point.name for point in run.metrics))
    wanted = {
        "agr.sweep_id": sweep.sweep_id,
        "agr.trial_id": trial,
        "agr.kind": "trial",
        "agr.number": "0",
        "agr.outcome": "completed",
        "agr.epochs": "3",
        "agr.best_epoch": "2",
        "agr.rank": "1",
        "agr.variant": "plain",
        "agr.config_digest": "0" * 64,
        "agr.data_digest": "d" * 64,
        "agr.split_digest": "5" * 64,
    }
    assert wanted.items() <= run.tags.items()


def test_run_times_are_those_of_training_not_of_delivery(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), record_sweep()
    trial = sweep.create(0)
    sweep.tick(100)
    sweep.start(trial)
    started = sweep.now
    sweep.report(trial, 1, 9.0)
    sweep.end_trial(trial, "completed", [9.0])
    ended = sweep.now
    sweep.end()

    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()

    run = run_of(tracker, trial)
    assert (run.start_time, run.end_time) == (started, ended)
    assert parent_of(tracker)[1].start_time == sweep.started.time


def test_an_undefined_metric_is_absent(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), record_sweep()
    trial = sweep.trial(0, [9.0])

    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()

    names = {point.name for point in run_of(tracker, trial).metrics}
    assert "val/age_mae" in names
    assert "val/age_interval_mae" not in names


def test_a_finished_trial_has_its_record_log_and_pictures(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), record_sweep()
    trial = sweep.trial(0, [9.0, 7.0], files=True)

    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()

    artifacts = run_of(tracker, trial).artifacts
    assert sorted(artifacts) == [
        "log.txt",
        "metrics.jsonl",
        "plots/curves.png",
        "plots/val_gender_confusion.png",
        "trial.json",
    ]
    assert json.loads(artifacts["trial.json"])["trial_id"] == trial
    assert all(data.startswith(b"\x89PNG") for name, data in artifacts.items() if name.endswith(".png"))


def test_a_trial_that_failed_before_it_wrote_anything_still_has_its_record_and_error(record_sweep: Recorder) -> None:
    from orchestrator.journal.events import AttemptFailed

    tracker, sweep = MemoryTracker(), record_sweep()
    trial = sweep.create(0)
    sweep.start(trial)
    sweep.record(
        AttemptFailed(
            time=sweep.tick(), trial_id=trial, attempt=0, error="no such image", details="Traceback ...", charged=True
        )
    )
    sweep.end_trial(trial, "failed", [], error="no such image")

    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()

    run = run_of(tracker, trial)
    assert json.loads(run.artifacts["trial.json"])["config"]["model"]["name"] == "basic_cnn"
    assert b"no such image\nTraceback" in run.artifacts["errors.txt"]
    assert (run.tags["agr.error"], run.status) == ("no such image", "FAILED")


def test_the_parent_shows_the_sweep_file_and_how_it_ended(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), whole_sweep(record_sweep)

    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()

    _, parent = parent_of(tracker)
    assert {"provenance.json", "sweep.yaml", "report/report.html", "report/curves.png"} <= parent.artifacts.keys()
    assert parent.artifacts["report/curves.png"].startswith(b"\x89PNG")
    assert b"algorithm: tpe" in parent.artifacts["sweep.yaml"]
    assert parent.params["objective.metric" if "objective" in sweep.started.document else "search.algorithm"] == "tpe"
    assert parent.tags["mlflow.note.content"].startswith("Which small model reads faces best?")
    assert parent.tags["agr.objective"] == "minimize val/age_mae"
    assert parent.tags["agr.tags"] == "cpu, example"
    assert (parent.status, parent.tags["agr.status"]) == ("FINISHED", "completed")
    assert (parent.curve("trials/completed"), parent.curve("trials/pruned")) == ({0: 2.0}, {0: 1.0})
    best = next(run for run in tracker.all_runs.values() if run.tags.get("agr.rank") == "1")
    assert parent.tags["agr.best_trial"] == best.tags["agr.trial_id"]


def test_only_the_best_trials_have_weights(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), record_sweep()
    trials = [sweep.trial(number, [10.0 - number], files=True) for number in range(BEST_WEIGHTS + 2)]
    pruned = sweep.trial(9, [0.1], "pruned", files=True)
    sweep.end()

    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()

    with_weights = {
        run.tags["agr.trial_id"]: run.artifacts["weights/best.safetensors"]
        for run in tracker.all_runs.values()
        if "weights/best.safetensors" in run.artifacts
    }
    assert with_weights == {trial: f"weights of {trial}, 1".encode() for trial in trials[-BEST_WEIGHTS:]}
    assert "agr.rank" not in run_of(tracker, pruned).tags
    config = json.loads(run_of(tracker, trials[-1]).artifacts["weights/config.json"])
    assert config["schedule"]["epochs"] == 6


def test_test_figures_arrive_after_the_trial_was_closed(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), record_sweep()
    trial = sweep.trial(0, [9.0, 7.0])
    syncer = Syncer(sweep.storage, tracker, sweep.sweep_id)
    syncer.run_once()
    assert run_of(tracker, trial).status == "FINISHED"

    sweep.read_test(trial, {"test/age_mae": 7.5})
    sweep.end()
    syncer.run_once()

    run = run_of(tracker, trial)
    assert run.curve("test/age_mae") == {2: 7.5}
    assert run.status == "FINISHED"
    assert "plots/test_gender_confusion.png" in run.artifacts
    assert parent_of(tracker)[1].tags["agr.test_reads"] == "1"


def test_a_rerun_names_its_original(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), record_sweep(rerun_of="0badcafe")
    trial = sweep.trial(0, [9.0])

    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()

    assert run_of(tracker, trial).tags["agr.rerun_of"] == "0badcafe"


def test_ranks_of_repeated_configurations_are_shared_by_their_seeds(record_sweep: Recorder) -> None:
    tracker = MemoryTracker()
    sweep = record_sweep(document={"repeat": {"seeds": 2}})
    for number, value in enumerate([9.0, 8.0, 5.0, 6.0]):
        sweep.trial(number, [value], configuration=number // 2, repeat=number % 2)
    sweep.end()

    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()

    runs = sorted((run for run in tracker.all_runs.values() if "agr.rank" in run.tags), key=lambda run: run.name)
    assert [run.tags["agr.rank"] for run in runs] == ["2", "2", "1", "1"]
    assert [run.curve("mean/age_mae") for run in runs] == [{0: 8.5}, {0: 8.5}, {0: 5.5}, {0: 5.5}]
    assert runs[0].name == "000 seed 42"
    tags = tracker.experiment_tags[tracker.experiments["faces"]]
    view = tags[f"mlflow.sharedViewState.{view_key(sweep.sweep_id)}"]
    assert json.loads(json.loads(view)["state"])["orderByKey"] == "metrics.`rank`"
    assert "metrics.`mean/age_mae`" in json.loads(json.loads(view)["state"])["selectedColumns"]


def test_the_view_gains_a_column_with_the_first_trial_of_a_branch(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), record_sweep()
    syncer = Syncer(sweep.storage, tracker, sweep.sweep_id)
    seen = []
    for number, params in enumerate([{"optimizer.lr": 0.1}, {"optimizer.lr": 0.2}, {"optimizer.lr": 0.3, "seed": 7}]):
        sweep.trial(number, [9.0], params=params)
        syncer.run_once()
        tags = tracker.experiment_tags[tracker.experiments["faces"]]
        view = json.loads(tags[f"mlflow.sharedViewState.{view_key(sweep.sweep_id)}"])
        columns = json.loads(view["state"])["selectedColumns"]
        seen.append([column for column in columns if column.startswith("params.")])
    assert seen == [["params.`optimizer.lr`"], ["params.`optimizer.lr`"], ["params.`optimizer.lr`", "params.`seed`"]]


def confirmed_sweep(record_sweep: Recorder, **more: Any) -> Any:
    """Three configurations: the best of the search turns out second, and the unconfirmed one looks better than both."""
    sweep = record_sweep(document={"search": {"algorithm": "grid"}, "confirm": {"top": 2, "seeds": 2}}, **more)
    originals = [
        sweep.trial(number, [9.0, value], params={"optimizer.lr": rate})
        for number, (value, rate) in enumerate([(6.0, 0.1), (6.5, 0.2), (7.0, 0.3)])
    ]
    for number, (which, seed, value) in enumerate([(0, 1, 8.0), (1, 1, 7.4), (0, 2, 8.4), (1, 2, 7.8)], start=3):
        rate = (0.1, 0.2)[which]
        sweep.trial(
            number,
            [9.0, value],
            params={"optimizer.lr": rate, "seed": seed},
            configuration=which,
            repeat=seed - 1,
            confirms=originals[which],
        )
    sweep.end()
    return sweep


def test_under_confirm_the_rank_is_a_figure_that_the_view_sorts_by(record_sweep: Recorder) -> None:
    tracker = MemoryTracker()
    sweep = confirmed_sweep(record_sweep)

    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()

    runs = sorted((run for run in tracker.all_runs.values() if "agr.rank" in run.tags), key=lambda run: run.name)
    assert [run.tags["agr.rank"] for run in runs] == ["2", "1", "3", "2", "1", "2", "1"]
    assert [run.curve("rank") for run in runs] == [{0: float(run.tags["agr.rank"])} for run in runs]
    means = [run.curve("mean/age_mae") for run in runs]
    assert means[:3] == [{0: pytest.approx(8.2)}, {0: pytest.approx(7.6)}, {}]
    assert [run.name.split(" seed ")[1] for run in runs] == ["42", "42", "42", "1", "1", "2", "2"]
    tags = tracker.experiment_tags[tracker.experiments["faces"]]
    state = json.loads(json.loads(tags[f"mlflow.sharedViewState.{view_key(sweep.sweep_id)}"])["state"])
    assert state["orderByKey"] == "metrics.`rank`"


def test_a_trial_whose_batch_was_halved_shows_what_it_trains(record_sweep: Recorder) -> None:
    """MLflow lets no param change, so none is delivered while the batch may still be halved."""
    document = {"name": "faces", "search": {"algorithm": "tpe", "trials": 4}, "out_of_memory": "halve_batch"}
    tracker, sweep = MemoryTracker(), record_sweep(document=document)
    syncer = Syncer(sweep.storage, tracker, sweep.sweep_id)
    trial = sweep.create(0, {"batch_size": 64})
    sweep.start(trial)
    syncer.run_once()
    assert run_of(tracker, trial).params == {}

    config = {**read_state(sweep.storage, sweep.sweep_id).trials[trial].created.config, "batch_size": 32}
    half = {
        "params": {"batch_size": 32},
        "config_digest": "h" * 64,
        "reason": "half the batch (64 to 32): out of memory",
    }
    sweep.record(TrialReconfigured(time=sweep.tick(), trial_id=trial, config=config, **half))
    sweep.start(trial, attempt=1)
    sweep.report(trial, 1, 5.0, attempt=1)
    sweep.end_trial(trial, "completed", [5.0], attempt=1)
    sweep.end()
    syncer.run_once()
    run = run_of(tracker, trial)
    assert run.params["batch_size"] == 32
    assert run.tags["agr.config_digest"] == "h" * 64
    assert run.tags["agr.reconfigured"] == half["reason"]


def test_a_continued_trial_keeps_its_run_and_its_test_metrics_are_those_of_the_new_weights(
    record_sweep: Recorder,
) -> None:
    """MLflow lets no param change, so the longer schedule is a tag."""
    tracker, sweep = MemoryTracker(), record_sweep()
    syncer = Syncer(sweep.storage, tracker, sweep.sweep_id)
    trial = sweep.create(0)
    sweep.start(trial)
    sweep.report(trial, 1, 5.0)
    sweep.end_trial(trial, "completed", [5.0])
    sweep.read_test(trial, {"test/age_mae": 5.5})
    sweep.end()
    syncer.run_once()
    before = dict(run_of(tracker, trial).params)
    assert before["schedule.epochs"] == 6

    state = read_state(sweep.storage, sweep.sweep_id)
    created = state.trials[trial].created
    longer = {**created.config, "schedule": {**created.config["schedule"], "epochs": 8}}
    goes_on = reopened(
        state.trials[trial],
        state.started,
        created=created.model_copy(update={"config": longer, "config_digest": "c" * 64}),
        compared=False,
        reason="agr continue --epochs 8",
        time=sweep.tick(),
    )
    sweep.record(DriverStarted(time=sweep.tick(), driver_id="1", host="here", pid=2, resumed=True), goes_on)
    for each in (syncer, Syncer(sweep.storage, tracker, sweep.sweep_id)):  # also one that knows nothing of before
        each.run_once()
    assert read_state(sweep.storage, sweep.sweep_id).trials[trial].test == {}
    sweep.start(trial, attempt=1)
    sweep.report(trial, 2, 4.0, attempt=1)
    sweep.end_trial(trial, "completed", [5.0, 4.0], attempt=1)
    sweep.read_test(trial, {"test/age_mae": 4.5})
    sweep.end()
    syncer.run_once()
    run = run_of(tracker, trial)
    assert run.params == before
    assert (run.tags["agr.reopened"], run.tags["agr.config_digest"]) == ("agr continue --epochs 8", "c" * 64)
    assert run.curve("test/age_mae") == {1: 5.5, 2: 4.5}


def test_the_tracker_notes_its_sizes_from_a_hundred_runs_and_when_they_have_doubled(record_sweep: Recorder) -> None:
    noted: list[int] = []

    class Noting(MemoryTracker):
        def note_sizes(self) -> None:
            noted.append(len(self.all_runs) - 1)

    tracker, sweep = Noting(), record_sweep()
    syncer = Syncer(sweep.storage, tracker, sweep.sweep_id)
    for number in range(210):
        trial = sweep.create(number)
        sweep.start(trial)
        if number % 10 == 9:
            syncer.run_once()
    assert noted == [100, 200]
