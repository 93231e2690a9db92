"""One sweep from YAML to re-run, and the same again."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.catalog.summary import read_summary, write_summary
from orchestrator.journal.events import TrialReported
from orchestrator.journal.segments import JournalWriter, read_segments
from orchestrator.storage import layout, open_storage

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def submitted(shared_agr: Any) -> dict[str, Any]:
    (shared_agr.home / "mlflow.db").unlink()  # a new user has none
    result: dict[str, Any] = shared_agr.json("submit", shared_agr.sweep_file())
    return result


@pytest.fixture(scope="module")
def rows(shared_agr: Any, submitted: dict[str, Any]) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = shared_agr.json("leaderboard", submitted["sweep_id"])
    return listed


def test_submit_prints_the_result_as_json(submitted: dict[str, Any]) -> None:
    assert re.fullmatch(r"tiny-\d{8}-\d{6}-[0-9a-f]{4}", submitted["sweep_id"])
    assert submitted["status"] == "completed"
    assert set(submitted["trials"]) == {"completed", "pruned", "diverged", "failed", "interrupted"}
    assert sum(submitted["trials"].values()) == 14
    assert submitted["trials"]["completed"] >= 1
    assert submitted["trials"]["pruned"] >= 1
    assert submitted["trials"]["failed"] == 0
    assert submitted["mlflow"]["run_id"]


def test_the_baseline_is_known_before_the_first_epoch_is_shown_and_journalled_once(
    shared_agr: Any, submitted: dict[str, Any]
) -> None:
    kinds = [event["kind"] for event in shared_agr.events(submitted["sweep_id"])]
    assert kinds.count("baseline_measured") == 1
    assert kinds.index("baseline_measured") < kinds.index("trial_reported")


def test_the_leaderboard_ranks_completed_trials_and_lists_all(
    submitted: dict[str, Any], rows: list[dict[str, Any]]
) -> None:
    assert len(rows) == 14
    ranked = [row for row in rows if row["rank"] is not None]
    assert {row["outcome"] for row in ranked} == {"completed"}
    assert [row["rank"] for row in ranked] == list(range(1, len(ranked) + 1))
    assert [row["value"] for row in ranked] == sorted(row["value"] for row in ranked)
    assert ranked[0]["trial_id"] == submitted["best"]["trial_id"]
    assert all(row["run_id"] for row in rows)
    assert rows[0]["params"].keys() >= {"optimizer.name", "optimizer.lr"}


def test_test_figures_exist_for_the_winner_only(submitted: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    read = [row["trial_id"] for row in rows if any(name.startswith("test/") for name in row["metrics"])]
    assert read == [submitted["best"]["trial_id"]]


def test_mlflow_has_one_parent_and_one_run_for_each_trial(shared_agr: Any, submitted: dict[str, Any]) -> None:
    with sqlite3.connect(shared_agr.home / "mlflow.db") as database:
        tags = database.execute("select run_uuid, key, value from tags").fetchall()
        metrics = database.execute("select count(*) from metrics where key = 'val/age_mae'").fetchone()[0]
    of_sweep = {run for run, key, value in tags if key == "agr.sweep_id" and value == submitted["sweep_id"]}
    trials = [value for run, key, value in tags if key == "agr.trial_id" and run in of_sweep]
    parents = [value for run, key, value in tags if key == "mlflow.parentRunId" and run in of_sweep]
    outcomes = [value for run, key, value in tags if key == "agr.outcome" and run in of_sweep]
    assert len(trials) == len(set(trials)) == 14
    assert parents == [submitted["mlflow"]["run_id"]] * 14
    assert sorted(set(outcomes)) == ["completed", "pruned"]
    reported = [event for event in shared_agr.events(submitted["sweep_id"]) if event["kind"] == "trial_reported"]
    assert metrics == len(reported)


def test_show_has_the_complete_configuration(shared_agr: Any, submitted: dict[str, Any]) -> None:
    shown = shared_agr.json("show", submitted["best"]["trial_id"][:6])
    assert shown["trial_id"] == submitted["best"]["trial_id"]
    assert shown["config"]["model"]["base_features"] == 4
    assert shown["config"]["compute"]["threads"] == 1
    assert shown["provenance"]
    assert shown["outcome"] == "completed"


def test_status_list_and_logs_tell_of_the_sweep(shared_agr: Any, submitted: dict[str, Any]) -> None:
    assert shared_agr.summaries()[0]["sweep_id"] == submitted["sweep_id"]
    assert "completed" in shared_agr.run("status", submitted["sweep_id"]).stdout
    assert "epoch 5" in shared_agr.run("logs", submitted["best"]["trial_id"]).stdout


@pytest.fixture(scope="module")
def rerun_that_names_imports(shared_agr: Any, submitted: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """The best trial, run again by a driver that says on stderr what it imports."""
    saying = replace(shared_agr, environment={**shared_agr.environment, "PYTHONPROFILEIMPORTTIME": "1"})
    done: subprocess.CompletedProcess[str] = saying.run("rerun", submitted["best"]["trial_id"], "--json")
    return done


def test_the_best_trial_is_trained_again_to_the_last_bit(
    submitted: dict[str, Any], rerun_that_names_imports: subprocess.CompletedProcess[str]
) -> None:
    again = json.loads(rerun_that_names_imports.stdout)
    assert (again["identical"], again["max_abs_diff"]) == (True, 0.0)
    assert again["drift"] == []
    assert again["metrics"] == again["original_metrics"]
    assert again["metrics"]["best/age_mae"] == submitted["best"]["value"]


def test_a_driver_leaves_mlflow_to_its_writer(rerun_that_names_imports: subprocess.CompletedProcess[str]) -> None:
    imported = {line.rpartition("|")[2].strip() for line in rerun_that_names_imports.stderr.splitlines()}
    assert "ray.tune" in imported
    assert "mlflow" not in imported


def test_a_pruned_trial_is_trained_again_for_as_many_epochs(shared_agr: Any, rows: list[dict[str, Any]]) -> None:
    pruned = next(row for row in rows if row["outcome"] == "pruned")
    again = shared_agr.json("rerun", pruned["trial_id"])
    assert again["identical"]
    reported = [event for event in shared_agr.events(again["sweep_id"]) if event["kind"] == "trial_reported"]
    assert len(reported) == pruned["epochs"]


def test_a_fork_differs_and_is_not_compared(shared_agr: Any, submitted: dict[str, Any]) -> None:
    again = shared_agr.json("rerun", submitted["best"]["trial_id"], "--set", "batch_size=30")
    assert again["fork"]
    assert not again["identical"]
    shown = shared_agr.json("show", again["trial_id"])
    assert shown["config"]["batch_size"] == 30


def test_the_same_seed_gives_the_same_sweep_and_nothing_of_ray_is_printed(
    shared_agr: Any, submitted: dict[str, Any], read_histories: Callable[..., Any]
) -> None:
    done = shared_agr.embedded().run("submit", shared_agr.sweep_file(), "--json")
    again = json.loads(done.stdout)
    assert again["sweep_id"] != submitted["sweep_id"]
    first, second = (read_histories(shared_agr.events(one["sweep_id"])) for one in (submitted, again))
    assert first == second

    lines = done.stderr.splitlines()
    assert [line for line in lines if "ray" in line.lower() and "/" not in line] == ["starting Ray ..."]
    assert not [line for line in lines if "Warning" in line or "INFO" in line]
    assert len([line for line in lines if re.search(r"\d/14 ", line)]) == 14


def test_resuming_a_completed_sweep_does_nothing(shared_agr: Any, submitted: dict[str, Any]) -> None:
    before = shared_agr.events(submitted["sweep_id"])
    assert "nothing to resume" in shared_agr.run("resume", submitted["sweep_id"]).stderr
    assert shared_agr.events(submitted["sweep_id"]) == before


def test_variants_with_repeats_are_ranked_by_their_mean(shared_agr: Any) -> None:
    file = shared_agr.sweep_file(
        name="ablation",
        space=None,
        search=None,
        scheduler={"name": "none"},
        repeat={"seeds": 2},
        keep={"gender": {"metric": "val/gender_acc", "direction": "maximize"}},
        variants={
            "base": {"optimizer": {"name": "nadam", "lr": 0.001}},
            "slow": {"from": "base", "optimizer": {"lr": 0.00001}},
            "grey": {"from": "base", "image": {"color": "grey"}},
            "sgd": {"optimizer": {"name": "sgd", "lr": 0.01}},
        },
    )
    result = shared_agr.json("submit", file)
    assert result["trials"]["completed"] == 8
    rows = shared_agr.json("leaderboard", result["sweep_id"])
    by_variant: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_variant.setdefault(row["variant"], []).append(row)
    assert {variant: len(rows) for variant, rows in by_variant.items()} == dict.fromkeys(
        ("base", "slow", "grey", "sgd"), 2
    )
    means = {variant: sum(row["value"] for row in rows) / 2 for variant, rows in by_variant.items()}
    ranks = {variant: rows[0]["rank"] for variant, rows in by_variant.items()}
    assert sorted(ranks, key=ranks.__getitem__) == sorted(means, key=means.__getitem__)
    # An ablation without early stopping: every variant's test part is read.
    assert all(any(name.startswith("test/") for name in row["metrics"]) for row in rows)
    assert all(row["metrics"]["best.gender/gender_acc"] >= row["metrics"]["best/gender_acc"] for row in rows)
    apart = next(row for row in rows if row["metrics"]["best.gender/loss"] != row["metrics"]["best/loss"])
    assert apart["metrics"]["best.gender.test/loss"] != apart["metrics"]["test/loss"]
    again = shared_agr.json("rerun", f"{apart['trial_id']}@gender")
    assert again["identical"]
    assert again["metrics"]["best/loss"] == apart["metrics"]["best.gender/loss"]


def test_the_journal_is_readable_json(shared_agr: Any, submitted: dict[str, Any]) -> None:
    events = shared_agr.events(submitted["sweep_id"])
    assert events[0]["kind"] == "sweep_started"
    assert events[-1]["kind"] == "sweep_ended"
    assert json.dumps(events)
    assert sum(event["kind"] == "test_read" for event in events) == 1


def test_nothing_is_pickled_in_the_storage(shared_agr: Any, submitted: dict[str, Any]) -> None:
    files = [path for path in (shared_agr.home / "storage").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".json", ".jsonl", ".safetensors", ".parquet", ".txt"}
    assert not [path for path in files if path.read_bytes()[:2] in (b"\x80\x04", b"\x80\x05")]
    assert isinstance(Path(shared_agr.home), Path)


def test_a_rerun_that_comes_out_otherwise_says_so_and_exits_with_1(
    shared_agr: Any, submitted: dict[str, Any], tmp_path: Path
) -> None:
    """A journal with one figure changed, and its chain made anew, stands for a trial that cannot be repeated."""
    other = replace(shared_agr, home=tmp_path / "other")
    shutil.copytree(shared_agr.home, other.home)
    best, sweep_id = submitted["best"]["trial_id"], submitted["sweep_id"]
    storage = open_storage(str(other.home / "storage"))
    segments = list(read_segments(storage, sweep_id))
    writer = JournalWriter(storage, sweep_id)
    changed = 0
    for segment in segments:
        storage.delete(layout.segment(sweep_id, segment.number))
        for event in segment.events:
            if isinstance(event, TrialReported) and event.trial_id == best and event.epoch == 1:
                metrics = event.metrics | {"val/age_loss": event.metrics["val/age_loss"] + 0.5}
                event = event.model_copy(update={"metrics": metrics})
                changed += 1
            writer.append(event)
        writer.flush()
    write_summary(storage, read_summary(storage, sweep_id).model_copy(update={"journal": writer.head}))
    assert changed == 1
    again = other.json("rerun", best, code=1)
    assert not again["identical"]
    assert again["max_abs_diff"] == pytest.approx(0.5)
    assert len(again["differences"]) == 1
