"""A sweep's journal arrives in the tracker whole, once, and whatever happens on the way."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import DeliveryOwnedError, NotFoundError, TrackerError, TrackerUnavailableError
from orchestrator.journal import read_state
from orchestrator.records import TrialReconfigured, TrialResumed
from orchestrator.sync import BEST_WEIGHTS, ORPHAN_S, Syncer, exclusive
from orchestrator.tracking.memory import MemoryRun, MemoryTracker
from orchestrator.tracking.view import view_key

Recorder = Callable[..., Any]


def run_of(tracker: MemoryTracker, trial_id: str) -> MemoryRun:
    found = [run for run in tracker.all_runs.values() if run.tags.get("agr.trial_id") == trial_id]
    assert len(found) == 1
    return found[0]


def parent_of(tracker: MemoryTracker) -> tuple[str, MemoryRun]:
    found = [(run_id, run) for run_id, run in tracker.all_runs.items() if run.tags["agr.kind"] == "sweep"]
    assert len(found) == 1
    return found[0]


def contents(tracker: MemoryTracker) -> list[Any]:
    """All that people see, without the run IDs."""
    runs = []
    for run in tracker.all_runs.values():
        tags = {name: value for name, value in run.tags.items() if name != "mlflow.parentRunId"}
        points = sorted((point.name, point.step, point.value, point.time) for point in run.metrics)
        runs.append([run.name, run.status, run.start_time, run.end_time, tags, run.params, points, run.artifacts])
    return sorted(runs, key=lambda run: run[0])


class Mortal:
    """A tracker whose process is killed after so many calls."""

    def __init__(self, tracker: MemoryTracker, *, calls: int) -> None:
        self.tracker = tracker
        self.left = calls

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.tracker, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **options: Any) -> Any:
            result = found(*arguments, **options)
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
            return result

        return call


class Unreliable:
    """A tracker each of whose calls fails twice, once before it does anything and once after, and then succeeds."""

    def __init__(self, tracker: MemoryTracker) -> None:
        self.tracker = tracker
        self.calls: Counter[str] = Counter()

    @property
    def uri(self) -> str:
        return self.tracker.uri

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.tracker, name)

        def call(*arguments: Any, **options: Any) -> Any:
            key = f"{name}{[part for part in arguments if not isinstance(part, Path)]}"
            self.calls[key] += 1
            if self.calls[key] == 1:
                raise TrackerUnavailableError("503 before it was done.")
            result = method(*arguments, **options)
            if self.calls[key] == 2:
                raise TrackerUnavailableError("a timeout, and it was done.")
            return result

        return call


def whole_sweep(record_sweep: Recorder, **more: Any) -> Any:
    sweep = record_sweep(**more)
    sweep.trial(0, [9.0, 7.0, 8.0], params={"model.name": "resnet10t", "optimizer.name": "nadam", "optimizer.lr": 0.01})
    sweep.trial(1, [12.0], "pruned", params={"model.name": "basic_cnn", "optimizer.name": "sgd"})
    onehot = {"model.name": "resnet10t", "age.encoding": "onehot", "age.bins": "utk4"}
    sweep.trial(2, [6.0, 5.0], params=onehot, files=True)
    sweep.trial(3, [], "failed", params={"model.name": "basic_cnn"})
    sweep.end()
    return sweep


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
    from orchestrator.records import AttemptFailed

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
    assert sorted(parent.artifacts) == ["provenance.json", "sweep.yaml"]
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


def test_delivery_event_by_event_equals_delivery_at_once(record_sweep: Recorder) -> None:
    at_once, step_by_step = MemoryTracker(), MemoryTracker()
    sweep = record_sweep()
    syncer = Syncer(sweep.storage, step_by_step, sweep.sweep_id)
    syncer.run_once()
    first = sweep.create(0, {"optimizer.name": "nadam"})
    syncer.run_once()
    sweep.start(first)
    syncer.run_once()
    for epoch, value in enumerate([9.0, 7.0], start=1):
        sweep.report(first, epoch, value)
        syncer.run_once()
    assert run_of(step_by_step, first).curve("val/age_mae") == {1: 9.0, 2: 7.0}
    sweep.write_files(first, [9.0, 7.0])
    sweep.end_trial(first, "completed", [9.0, 7.0])
    syncer.run_once()
    sweep.trial(1, [6.0], params={"sampler.name": "weighted"})
    sweep.end()
    syncer.run_once()

    Syncer(sweep.storage, at_once, sweep.sweep_id).run_once()

    assert contents(step_by_step) == contents(at_once)
    assert at_once.experiment_tags == step_by_step.experiment_tags


def test_delivering_again_from_nothing_changes_nothing(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), whole_sweep(record_sweep)
    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()
    before = contents(tracker)

    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()

    assert contents(tracker) == before


def test_a_tracker_that_fails_before_and_after_each_call_ends_up_the_same(record_sweep: Recorder) -> None:
    sweep = whole_sweep(record_sweep)
    calm, stormy = MemoryTracker(), MemoryTracker()
    Syncer(sweep.storage, calm, sweep.sweep_id).run_once()
    waited: list[float] = []

    Syncer(sweep.storage, Unreliable(stormy), sweep.sweep_id).follow(sleep=waited.append)

    assert contents(stormy) == contents(calm)
    assert len(waited) > 20


def test_a_delivery_killed_after_any_call_is_finished_by_the_next(record_sweep: Recorder) -> None:
    sweep = whole_sweep(record_sweep)
    calm = MemoryTracker()
    Syncer(sweep.storage, calm, sweep.sweep_id).run_once()

    tracker, deaths = MemoryTracker(), 0
    while True:
        try:
            Syncer(sweep.storage, Mortal(tracker, calls=deaths + 1), sweep.sweep_id).run_once()
            break
        except KeyboardInterrupt:
            deaths += 1

    assert deaths > 10
    assert contents(tracker) == contents(calm)


def test_a_run_made_twice_by_a_late_creation_is_removed_at_the_end(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), record_sweep()
    trial = sweep.trial(0, [9.0])
    syncer = Syncer(sweep.storage, tracker, sweep.sweep_id)
    syncer.run_once()
    ours = run_of(tracker, trial)
    tracker.all_runs["f" * 32] = MemoryRun(ours.experiment_id, ours.name, ours.start_time, dict(ours.tags))

    sweep.end()
    syncer.run_once()

    assert run_of(tracker, trial) is ours


def test_a_run_made_twice_before_a_restart_is_removed_and_the_one_with_data_kept(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), record_sweep()
    trial = sweep.trial(0, [9.0])
    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()
    ours = run_of(tracker, trial)
    tracker.all_runs["0" * 32] = MemoryRun(ours.experiment_id, ours.name, ours.start_time, dict(ours.tags))
    sweep.end()

    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()

    assert run_of(tracker, trial) is ours


@pytest.mark.parametrize("status", ["interrupted", "stopped"])
def test_an_interrupted_sweep_parks_its_trials_and_a_resumed_one_goes_on_in_the_same_runs(
    record_sweep: Recorder, status: str
) -> None:
    tracker, sweep = MemoryTracker(), record_sweep()
    trial = sweep.create(0)
    sweep.start(trial)
    sweep.report(trial, 1, 9.0)
    if status == "stopped":
        sweep.end_trial(trial, "interrupted", [9.0], resumable=True)
    sweep.end(status)
    syncer = Syncer(sweep.storage, tracker, sweep.sweep_id)
    syncer.run_once()
    assert syncer.finished
    parent_id, parent = parent_of(tracker)
    assert parent.status == ("FINISHED" if status == "stopped" else "KILLED")
    assert run_of(tracker, trial).status == "KILLED"

    sweep.resume()
    if status == "stopped":
        sweep.record(TrialResumed(time=sweep.tick(), trial_id=trial))
    sweep.start(trial, attempt=2)
    for resumed in (syncer, Syncer(sweep.storage, tracker, sweep.sweep_id)):
        resumed.run_once()
        assert not resumed.finished
        assert (parent.status, parent.tags["agr.status"]) == ("RUNNING", "running")
        assert run_of(tracker, trial).status == "RUNNING"
    sweep.report(trial, 2, 7.0, attempt=2)
    sweep.end_trial(trial, "completed", [9.0, 7.0], attempt=2)
    sweep.end()
    resumed.run_once()

    assert parent_of(tracker) == (parent_id, parent)
    assert (parent.status, parent.tags["agr.status"]) == ("FINISHED", "completed")
    run = run_of(tracker, trial)
    assert run.curve("val/age_mae") == {1: 9.0, 2: 7.0}
    assert (run.status, run.tags["agr.rank"]) == ("FINISHED", "1")


def test_children_of_a_deleted_parent_are_given_the_new_one(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), whole_sweep(record_sweep)
    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()
    tracker.delete_run(parent_of(tracker)[0])

    Syncer(sweep.storage, tracker, sweep.sweep_id).run_once()

    parent_id, parent = parent_of(tracker)
    assert parent.status == "FINISHED"
    assert {run.tags.get("mlflow.parentRunId") for run in tracker.all_runs.values()} == {None, parent_id}


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
    assert json.loads(json.loads(view)["state"])["orderByKey"] == "metrics.`mean/age_mae`"


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


def test_a_sweep_that_is_not_there_is_said_to_be_so(record_sweep: Recorder) -> None:
    sweep = record_sweep()

    with pytest.raises(NotFoundError, match="no sweep 'nothing'"):
        Syncer(sweep.storage, MemoryTracker(), "nothing").run_once()


# ---- following


def test_following_ends_with_the_sweep_and_announces_its_run_once(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), record_sweep()
    announced: list[Any] = []
    todo = [lambda: sweep.trial(0, [9.0]), lambda: None, sweep.end]

    syncer = Syncer(sweep.storage, tracker, sweep.sweep_id)
    syncer.follow(announce=announced.append, sleep=lambda _: todo.pop(0)())

    assert not todo
    assert syncer.finished
    assert [place.run_id for place in announced] == [parent_of(tracker)[0]]
    assert "/#/experiments/" in announced[0].link


def test_following_ends_without_a_driver_once_what_it_left_is_delivered(record_sweep: Recorder) -> None:
    tracker, sweep = MemoryTracker(), record_sweep()
    trial = sweep.create(0)
    sweep.start(trial)
    alive = [True, False]

    def sleep(_: float) -> None:
        sweep.report(trial, 1, 9.0)  # the last thing the driver stored

    Syncer(sweep.storage, tracker, sweep.sweep_id).follow(driver_lives=lambda: alive.pop(0), sleep=sleep)

    assert run_of(tracker, trial).curve("val/age_mae") == {1: 9.0}


class Dead(Unreliable):
    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            raise TrackerUnavailableError("nobody answers.")

        return call


def test_without_driver_and_without_tracker_following_gives_up_in_bounded_time(record_sweep: Recorder) -> None:
    sweep, now = record_sweep(), [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    with pytest.raises(TrackerUnavailableError):
        Syncer(sweep.storage, Dead(MemoryTracker()), sweep.sweep_id).follow(
            driver_lives=lambda: False, sleep=sleep, clock=lambda: now[0]
        )

    assert ORPHAN_S < now[0] < 2 * ORPHAN_S


def test_with_a_driver_following_waits_for_the_tracker_ever_more_patiently(record_sweep: Recorder) -> None:
    sweep, pauses = record_sweep(), []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 50:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        Syncer(sweep.storage, Dead(MemoryTracker()), sweep.sweep_id).follow(sleep=sleep)

    assert pauses[:6] == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert set(pauses[5:]) == {30.0}


def test_a_refusal_ends_following_at_once(record_sweep: Recorder) -> None:
    sweep = record_sweep()

    class Refusing(Unreliable):
        def __getattr__(self, name: str) -> Any:
            def call(*arguments: Any, **options: Any) -> Any:
                raise TrackerError("experiment 'faces' was deleted.")

            return call

    with pytest.raises(TrackerError, match="was deleted"):
        Syncer(sweep.storage, Refusing(MemoryTracker()), sweep.sweep_id).follow(sleep=lambda _: pytest.fail("waited"))


def test_one_process_of_a_machine_delivers_a_sweep(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path, "a", timeout_s=0),
        exclusive(tmp_path, "b", timeout_s=0),
        pytest.raises(DeliveryOwnedError, match="by another process"),
        exclusive(tmp_path, "a", timeout_s=0),
    ):
        pass

    with exclusive(tmp_path, "a", timeout_s=0):
        pass


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
