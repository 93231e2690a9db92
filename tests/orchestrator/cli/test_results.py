"""``agr leaderboard``, ``list``, ``status``, ``logs``: tables for people, JSON for programs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import Result

from orchestrator.journal.events import AttemptFailed, SplitAudited
from orchestrator.journal.segments import read_state
from orchestrator.settings import Settings
from orchestrator.storage import layout
from orchestrator.tracking import open_tracker
from orchestrator.tracking.delivery import Syncer

Recorder = Callable[..., Any]


def deliver(sweep: Any) -> str:
    """Bring the sweep into the embedded MLflow; returns the sweep's run."""
    settings = Settings.from_environment()
    syncer = Syncer(sweep.storage, open_tracker(settings.tracking_uri, settings.mlflow_artifacts), sweep.sweep_id)
    syncer.run_once()
    assert syncer.place is not None
    return syncer.place.run_id


def quickstart(record_sweep: Recorder) -> Any:
    sweep = record_sweep()
    sweep.trial(0, [9.0, 7.0], params={"model.name": "resnet10t", "optimizer.name": "sgd", "optimizer.lr": 0.01234567})
    sweep.trial(1, [12.0], "pruned", params={"model.name": "basic_cnn", "optimizer.name": "nadam"})
    sweep.trial(2, [6.0, 5.0], params={"model.name": "basic_cnn", "optimizer.name": "nadam", "optimizer.lr": 0.001})
    return sweep


@pytest.mark.parametrize(
    "command",
    [["list"], ["status", "faces"], ["leaderboard", "faces"], ["show", "TRIAL"], ["compare", "TRIAL"]],
    ids=lambda command: command[0],
)
def test_what_reads_a_sweep_starts_without_the_heavy_packages(record_sweep: Recorder, command: list[str]) -> None:
    sweep = quickstart(record_sweep)
    trial = sweep.trial(3, [8.0])
    words = [trial if word == "TRIAL" else word for word in command]
    code = (
        "import sys; from typer.testing import CliRunner; from orchestrator.cli.main import app\n"
        f"assert CliRunner().invoke(app, {[*words, '--storage', sweep.storage.uri]}).exit_code == 0\n"
        "print([name for name in ('torch', 'ray', 'mlflow', 'boto3', 'pandas', 'scipy') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "[]"


# ---- leaderboard


def test_leaderboard_json_is_the_documented_shape_with_mlflow_runs(
    record_sweep: Recorder, agr: Callable[..., Result], embedded_mlflow: None
) -> None:
    sweep = quickstart(record_sweep)
    sweep.end()
    deliver(sweep)

    found = json.loads(agr("leaderboard", "faces", "--json").stdout)

    assert [(row["rank"], row["outcome"], row["value"], row["epochs"]) for row in found] == [
        (1, "completed", 5.0, 2),
        (2, "completed", 7.0, 2),
        (None, "pruned", 12.0, 1),
    ]
    documented = {"rank", "trial_id", "run_id", "outcome", "value", "epochs", "params", "metrics"}
    assert all(documented <= row.keys() for row in found)
    assert len({row["run_id"] for row in found}) == 3
    # Each run ID leads back to its trial.
    shown = json.loads(agr("show", found[0]["run_id"], "--json").stdout)
    assert (shown["trial_id"], shown["run_id"]) == (found[0]["trial_id"], found[0]["run_id"])


def test_leaderboard_warns_of_a_split_that_leaks(agr: Callable[..., Result], record_sweep: Recorder) -> None:
    sweep = quickstart(record_sweep)
    assert "leaks" not in agr("leaderboard", sweep.sweep_id).stderr
    created = next(iter(read_state(sweep.storage, sweep.sweep_id).trials.values())).created
    sweep.record(
        SplitAudited(
            time=sweep.tick(), data_digest=created.data_digest, split_digest=created.split_digest, leaks=13, conflicts=0
        )
    )
    shown = agr("leaderboard", sweep.sweep_id)
    assert "3 of 3 trials of" in shown.stderr
    assert "up to 13 groups of one picture or one subject are in several parts" in shown.stderr


def test_leaderboard_json_does_without_an_mlflow_that_is_down(
    record_sweep: Recorder, agr: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    quickstart(record_sweep)

    result = agr("leaderboard", "faces", "--json")

    assert [row["run_id"] for row in json.loads(result.stdout)] == [None, None, None]
    assert "warning: run_id is null: MLflow at http://127.0.0.1:9 does not answer" in result.stderr


def test_leaderboard_table_shows_what_varies_and_fits_a_hundred_columns(
    record_sweep: Recorder, agr: Callable[..., Result]
) -> None:
    sweep = quickstart(record_sweep)
    best = sweep.create(3, {"model.name": "resnet10t", "age.encoding": "label_distribution", "age.bins": "every2"})
    sweep.start(best)

    lines = agr("leaderboard", "faces").stdout.splitlines()

    assert max(len(line) for line in lines) <= 100
    assert lines[0].split()[:3] == ["#", "trial", "model"]
    assert lines[0].split()[-2:] == ["epochs", "outcome"]
    assert [line.split()[-1] for line in lines[2:6]] == ["completed", "completed", "pruned", "running"]
    assert lines[2].split()[0] == "1"
    assert "5.000" in lines[2]
    assert "resnet10t" in lines[3]
    assert "minimize; reads of the test part: 0." in "\n".join(lines)
    assert "agr ui" in lines[-1]


def test_leaderboard_table_of_repeats_has_a_row_per_configuration_with_mean_and_interval(
    record_sweep: Recorder, agr: Callable[..., Result]
) -> None:
    sweep = record_sweep(document={"repeat": {"seeds": 2}})
    for number, (variant, value) in enumerate([("plain", 6.0), ("plain", 8.0), ("smooth", 5.0), ("smooth", 5.5)]):
        sweep.trial(number, [value], configuration=number // 2, repeat=number % 2, variant=variant)
    sweep.trial(4, [4.0], configuration=2, repeat=0, variant="half")

    text = agr("leaderboard", "faces").stdout
    lines = text.splitlines()

    assert [line.split()[-1] for line in lines[2:5]] == ["completed", "completed", "completed"]
    # Student's t of one degree of freedom is 12.706: 12.706 * 0.35355 / sqrt(2) and 12.706 * 1.41421 / sqrt(2).
    assert "smooth" in lines[2]
    assert "5.250 ± 3.2 " in lines[2]
    assert "plain" in lines[3]
    assert "7.000 ± 13 " in lines[3]
    assert "1 of 2 seeds completed" in lines[4]
    assert "±: half of the 95 % interval of the mean over seeds" in text


def test_leaderboard_ranks_confirmed_configurations_by_their_mean_and_says_tie(
    record_sweep: Recorder, agr: Callable[..., Result]
) -> None:
    sweep = record_sweep(document={"confirm": {"top": 2, "seeds": 3}})
    searched = [sweep.trial(number, [value], params={"batch_size": 16}) for number, value in enumerate([4.0, 5.0, 6.0])]
    fresh = [[7.0, 8.0, 9.0], [7.1, 7.8, 9.2]]
    for repeat, seed in enumerate((1, 2, 3)):
        for configuration in (0, 1):
            sweep.trial(
                3 + 2 * repeat + configuration,
                [fresh[configuration][repeat]],
                params={"batch_size": 16, "seed": seed},
                configuration=configuration,
                repeat=repeat,
                confirms=searched[configuration],
            )

    text = agr("leaderboard", "faces").stdout
    found = json.loads(agr("leaderboard", "faces", "--json").stdout)

    lines = text.splitlines()
    assert "8.000 ± 2.5" in lines[2]
    assert lines[2].split()[-1] == "confirmed"
    assert "8.033 ± 2.7" in lines[3]
    assert lines[3].split()[-2:] == ["confirmed,", "tie"]
    assert lines[4].split()[:2] == ["3", searched[2]]
    assert "confirmed: means over fresh seeds, for the value with its 95 % interval" in text
    second = [row for row in found if row["rank"] == 2]
    assert {row["against_first"] for row in second} == {"tie"}
    assert [row.get("confirms") for row in second] == [searched[1]] * 3 + [None]


def test_leaderboard_ranks_by_another_metric_and_keeps_the_top(
    record_sweep: Recorder, agr: Callable[..., Result]
) -> None:
    quickstart(record_sweep)

    found = json.loads(agr("leaderboard", "faces", "--metric", "gender_acc", "--top", "1", "--json").stdout)

    assert [(row["rank"], row["value"]) for row in found] == [(1, 1 - 5.0 / 40)]
    assert "best/gender_acc, maximize" in agr("leaderboard", "faces", "--metric", "gender_acc").stdout


def test_leaderboard_counts_reads_of_the_test_part_and_shows_what_was_read(
    record_sweep: Recorder, agr: Callable[..., Result]
) -> None:
    sweep = quickstart(record_sweep)
    sweep.read_test(sweep.trial(3, [4.0], params={"model.name": "resnet10t"}), {"test/age_mae": 4.25})

    text = agr("leaderboard", "faces").stdout

    assert "reads of the test part: 1." in text
    assert "4.25" in text


@pytest.mark.services
def test_leaderboard_prints_the_link_of_the_saved_view(
    record_sweep: Recorder, agr: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, mlflow_server: Any
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    sweep = record_sweep(experiment="with-link")
    sweep.trial(0, [9.0])
    assert "agr sync" in agr("leaderboard", "faces").stdout.splitlines()[-1]

    deliver(sweep)

    link = agr("leaderboard", "faces").stdout.splitlines()[-1].removeprefix("In MLflow: ")
    assert link.startswith(f"{mlflow_server.uri}/#/experiments/")
    assert "viewStateShareKey=" in link


def test_leaderboard_of_sweeps_that_cannot_be_compared_is_refused(
    record_sweep: Recorder, agr: Callable[..., Result]
) -> None:
    quickstart(record_sweep)
    other = record_sweep("other-20260103-030405-beef")
    other.create(0, split_digest="6" * 64)

    result = agr("leaderboard", "faces", "other", code=2)

    assert result.stderr.startswith("error: these sweeps were validated on different splits")


def test_leaderboard_warns_of_a_sweep_that_varies_its_split(record_sweep: Recorder, agr: Callable[..., Result]) -> None:
    sweep = quickstart(record_sweep)
    sweep.create(3, split_digest="6" * 64)

    assert "warning: this sweep varies the split" in agr("leaderboard", "faces").stderr


def test_leaderboard_of_a_sweep_without_trials_is_empty(record_sweep: Recorder, agr: Callable[..., Result]) -> None:
    record_sweep()

    assert json.loads(agr("leaderboard", "faces", "--json").stdout) == []
    assert "minimize" in agr("leaderboard", "faces").stdout


def test_leaderboard_of_a_sweep_whose_first_epoch_runs_lists_its_trials(
    record_sweep: Recorder, agr: Callable[..., Result]
) -> None:
    sweep = record_sweep()
    trial = sweep.create(0)
    sweep.start(trial)

    assert trial in agr("leaderboard", sweep.sweep_id).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("leaderboard", "nothing"), "no sweep starts with 'nothing'"),
        (("leaderboard", "faces", "--metric", "age_mea"), "Did you mean"),
        (("show", "zzzz"), "no trial starts with 'zzzz'"),
        (("status", "nothing"), "no sweep starts with 'nothing'"),
        (("logs", "zzzz"), "no trial starts with 'zzzz'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_is_not_there_is_one_clear_line(
    record_sweep: Recorder, agr: Callable[..., Result], arguments: tuple[str, ...], message: str
) -> None:
    quickstart(record_sweep)

    result = agr(*arguments, code=2)

    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_of_several_sweeps_of_a_name_the_newest_is_shown_and_the_others_are_named(
    record_sweep: Recorder, agr: Callable[..., Result]
) -> None:
    older, newer = record_sweep(), record_sweep("faces-20260103-030405-beef")
    record_sweep("faces2-20260103-030405-beef")
    older.trial(0, [9.0])
    newer.trial(0, [9.0])

    result = agr("status", "faces")
    assert result.stderr.splitlines()[0] == f"{newer.sweep_id} (1 older: {older.sweep_id})"
    assert newer.sweep_id in result.stdout
    assert older.sweep_id not in agr("status", newer.sweep_id).stderr
    assert f"{older.sweep_id}, {newer.sweep_id}, faces2" in agr("status", "face", code=2).stderr


def test_list_leaves_out_what_never_ran_a_trial_unless_all_is_asked_for(
    record_sweep: Recorder, agr: Callable[..., Result]
) -> None:
    ran, refused = record_sweep(), record_sweep("faces-20260103-030405-beef")
    ran.trial(0, [9.0])
    ran.end()
    refused.end("failed", "nothing fits")

    result = agr("list")
    assert (ran.sweep_id in result.stdout, refused.sweep_id in result.stdout) == (True, False)
    assert "1 that never ran a trial is not listed; --all lists all." in result.stderr
    assert [one["sweep_id"] for one in json.loads(agr("list", "--json").stdout)] == [ran.sweep_id]
    assert {one["sweep_id"] for one in json.loads(agr("list", "--json", "--all").stdout)} == {
        refused.sweep_id,
        ran.sweep_id,
    }


def test_list_says_that_this_machines_own_folder_has_other_sweeps(
    record_sweep: Recorder, agr: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    record_sweep().trial(0, [9.0])
    home = tmp_path / "home"
    shutil.copytree(tmp_path / "storage", home / "storage")
    monkeypatch.setenv("AGR_HOME", str(home))
    assert agr("list").stderr == ""

    monkeypatch.setenv("AGR_STORAGE", str(tmp_path / "other"))
    copy = f"agr storage copy {home / 'storage'} {tmp_path / 'other'}"
    assert f"1 sweep is in {home / 'storage'}, this machine's own storage. Move: {copy}" in agr("list").stderr


# ---- list and status


def test_list_json_is_the_documented_shape_newest_first(record_sweep: Recorder, agr: Callable[..., Result]) -> None:
    quickstart(record_sweep).end()

    [found] = json.loads(agr("list", "--json").stdout)

    assert found.keys() == {"sweep_id", "name", "status", "trials", "best", "tags", "notes", "annotated_trials"}
    assert found["trials"] == {
        "completed": 2, "pruned": 1, "diverged": 0, "failed": 0, "interrupted": 0, "running": 0,
    }  # fmt: skip
    assert (found["status"], found["best"]["value"]) == ("completed", 5.0)


def test_list_is_a_table_that_fits_a_hundred_columns(record_sweep: Recorder, agr: Callable[..., Result]) -> None:
    sweep = quickstart(record_sweep)
    sweep.end()

    lines = agr("list").stdout.splitlines()

    assert max(len(line) for line in lines) <= 100
    assert lines[2].split()[:2] == [sweep.sweep_id, "completed"]
    assert "2 completed, 1 pruned" in lines[2]


def test_list_of_an_empty_storage_says_how_to_begin(agr: Callable[..., Result]) -> None:
    result = agr("list")

    assert "agr submit" in result.stderr
    assert json.loads(agr("list", "--json").stdout) == []


def test_status_of_a_running_sweep_says_what_runs_where(record_sweep: Recorder, agr: Callable[..., Result]) -> None:
    sweep = record_sweep()
    sweep.now = time.time()
    trial = sweep.create(0)
    sweep.start(trial)

    found = json.loads(agr("status", "faces", "--json").stdout)

    assert found["status"] == "running"
    assert found["nodes"] == {"node-1": [trial]}
    assert found["heartbeat_age_s"] < 30
    text = agr("status", "faces").stdout
    assert "node-1" in text
    assert trial in text
    assert "last heartbeat" in text


def test_status_tells_trials_that_wait_for_a_worker_from_those_that_run(
    record_sweep: Recorder, agr: Callable[..., Result]
) -> None:
    sweep = record_sweep()
    sweep.now = time.time()
    running, failed, created = (sweep.create(number) for number in range(3))
    sweep.start(running)
    sweep.report(running, 1, 5.0)
    sweep.start(failed)
    sweep.record(
        AttemptFailed(time=sweep.now, trial_id=failed, attempt=0, error="gone", charged=False, cause="node_lost")
    )

    found = json.loads(agr("status", "faces", "--json").stdout)

    assert (found["trials"]["running"], found["waiting"], found["nodes"]) == (3, 2, {"node-1": [running]})
    text = agr("status", "faces").stdout
    assert "1 running, 2 waiting" in text
    assert f"{running} (epoch 1 of " in text
    assert failed not in text
    assert created not in text


def test_open_trials_of_an_interrupted_sweep_are_not_said_to_run(
    record_sweep: Recorder, agr: Callable[..., Result]
) -> None:
    sweep = record_sweep()
    sweep.trial(0, [9.0])
    sweep.create(1)
    sweep.end("interrupted", "by a signal")

    for command in (("list",), ("status", sweep.sweep_id), ("leaderboard", sweep.sweep_id)):
        text = agr(*command).output
        assert "to resume" in text
        assert "running" not in text


def test_status_of_a_lost_sweep_names_agr_resume(record_sweep: Recorder, agr: Callable[..., Result]) -> None:
    sweep = record_sweep()
    sweep.fall_silent()

    result = agr("status", "faces")

    assert "lost" in result.stdout
    assert f"agr resume {sweep.sweep_id}" in result.stderr


# ---- logs


def test_logs_prints_what_the_last_attempt_said(record_sweep: Recorder, agr: Callable[..., Result]) -> None:
    sweep = record_sweep()
    trial = sweep.create(0)
    for attempt in (2, 10):
        sweep.storage.write(
            f"{layout.attempt(sweep.sweep_id, trial, attempt)}/log.txt", f"attempt {attempt}\n".encode()
        )

    assert agr("logs", trial).stdout == "attempt 10\n"


def test_logs_of_a_trial_without_one_says_so(record_sweep: Recorder, agr: Callable[..., Result]) -> None:
    trial = record_sweep().create(0)

    assert "has no log" in agr("logs", trial, code=2).stderr


def test_logs_follows_until_the_trial_has_ended(
    record_sweep: Recorder, agr: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.cli.results._FOLLOW_S", 0.05)
    sweep = record_sweep()
    trial = sweep.create(0)
    key = f"{layout.attempt(sweep.sweep_id, trial, 0)}/log.txt"

    def train() -> None:
        for text in ("epoch 1\n", "epoch 1\nepoch 2\n"):
            time.sleep(0.2)
            sweep.storage.write(key, text.encode())
        sweep.end_trial(trial, "completed", [9.0, 8.0])

    training = Thread(target=train)
    training.start()
    result = agr("logs", trial, "--follow")
    training.join()

    assert result.stdout == "epoch 1\nepoch 2\n"


def test_the_table_shows_a_hundred_configurations_and_counts_the_others(
    record_sweep: Recorder, agr: Callable[..., Result]
) -> None:
    sweep = record_sweep()
    for number in range(104):
        sweep.trial(number, [5.0 + number], "failed" if number == 50 else "completed")
    sweep.create(104)

    shown = agr("leaderboard", "faces").output
    assert [line.split()[0] for line in shown.splitlines() if line.split()[:1] != ["#"]][1:101] == [
        str(rank) for rank in range(1, 101)
    ]
    assert "and 3 completed, 1 failed, 1 open: --top 105 shows those with a rank, --json all." in shown
    assert "\n103 " in agr("leaderboard", "faces", "--top", "105").output
    assert len(json.loads(agr("leaderboard", "faces", "--json").stdout)) == 105
