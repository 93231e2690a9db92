"""A sweep on the local stack: S3 storage, MLflow on PostgreSQL, and no secret anywhere."""

from __future__ import annotations

import json
import os
import shlex
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.services]


@pytest.fixture(scope="module")
def stack(shared_agr: Any) -> Iterator[Any]:
    """``agr`` in a shell that did ``eval "$(agr stack env)"``."""
    del shared_agr.environment["RAY_ADDRESS"]  # workers of a cluster have its environment, not this shell's
    shared_agr.run("stack", "up")
    try:
        for word in shlex.split(shared_agr.run("stack", "env").stdout.replace(";", " ")):
            if "=" in word:
                name, value = word.split("=", 1)
                shared_agr.environment[name] = value
        shared_agr.environment["RAY_TMPDIR"] = str(_short_folder())
        yield shared_agr
    finally:
        shared_agr.run("stack", "down")


def _short_folder() -> Path:
    """Ray's sockets need a short path, and the session folder must be this test's own to be searched."""
    folder = Path("/tmp") / f"agr-ray-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def submitted(stack: Any) -> dict[str, Any]:
    stack.run("data", "synth", "-o", "s3://agr/faces", "--images", "300", "--size", "32")
    result: dict[str, Any] = stack.json(
        "submit",
        stack.sweep_file(search={"algorithm": "random", "trials": 4, "seed": 1}, scheduler={"name": "none"}),
        "--set",
        "trial.data.source=s3://agr/faces",
        "--set",
        "trial.schedule.epochs=2",
    )
    return result


def search_runs(stack: Any, submitted: dict[str, Any]) -> list[dict[str, Any]]:
    query = {
        "experiment_ids": [submitted["mlflow"]["experiment_id"]],
        "filter": f"tags.`agr.sweep_id` = '{submitted['sweep_id']}'",
        "max_results": 100,
    }
    request = urllib.request.Request(
        f"{stack.environment['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/runs/search",
        data=json.dumps(query).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        runs: list[dict[str, Any]] = json.load(answer)["runs"]
    return runs


def tags(run: dict[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["data"]["tags"]}


def test_every_trial_is_in_mlflow_under_one_parent(stack: Any, submitted: dict[str, Any]) -> None:
    assert submitted["trials"]["completed"] == 4
    runs = search_runs(stack, submitted)
    trials = [run for run in runs if "agr.trial_id" in tags(run)]
    assert len(trials) == 4
    assert {tags(run)["mlflow.parentRunId"] for run in trials} == {submitted["mlflow"]["run_id"]}
    for run in trials:
        assert tags(run)["agr.outcome"] == "completed"
        assert {"optimizer.lr", "model.name"} <= {param["key"] for param in run["data"]["params"]}
        assert {"val/age_mae", "best/age_mae"} <= {metric["key"] for metric in run["data"]["metrics"]}


def test_the_artifacts_of_a_trial_are_in_mlflow(stack: Any, submitted: dict[str, Any]) -> None:
    run = next(run for run in search_runs(stack, submitted) if "agr.trial_id" in tags(run))
    names: set[str] = set()
    folders = [""]
    while folders:
        folder = folders.pop()
        url = f"{stack.environment['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/artifacts/list?run_id={run['info']['run_id']}"
        with urllib.request.urlopen(f"{url}&path={folder}" if folder else url) as answer:
            for file in json.load(answer).get("files", []):
                names.add(file["path"])
                if file["is_dir"]:
                    folders.append(file["path"])
    assert {"trial.json", "metrics.jsonl"} <= names
    assert any(name.endswith(".png") and "confusion" in name for name in names)


def test_the_best_trial_runs_again_from_s3(stack: Any, submitted: dict[str, Any]) -> None:
    again = stack.json("rerun", submitted["best"]["trial_id"])
    assert (again["identical"], again["max_abs_diff"]) == (True, 0.0)


def test_leaderboard_and_status_read_from_s3(stack: Any, submitted: dict[str, Any]) -> None:
    assert len(stack.json("leaderboard", submitted["sweep_id"])) == 4
    shown = stack.run("leaderboard", submitted["sweep_id"])
    assert "viewStateShareKey" in shown.stdout + shown.stderr
    assert stack.summaries()[-1]["status"] == "completed"


def test_no_credential_is_written_anywhere(stack: Any, submitted: dict[str, Any]) -> None:
    """Ray's session, journals and checkpoints in S3, MLflow's database, all logs, our home."""
    secrets = [stack.environment["AWS_SECRET_ACCESS_KEY"].encode(), stack.environment["AWS_ACCESS_KEY_ID"].encode()]
    # Who is meant to have them: the identities of the S3 server and the stack's own record, readable by us alone.
    meant = {path for path in (stack.home / "stack").rglob("*") if path.is_file() and path.stat().st_mode & 0o077 == 0}
    meant = {path for path in meant if path.suffix in (".json", ".env")}
    searched = 0
    found = []
    for folder in (stack.home, _short_folder()):
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and path not in meant:
                searched += 1
                content = path.read_bytes()
                found += [path for secret in secrets if secret in content]
    assert searched > 100, "the folders to be searched are not where this test looks"
    assert any("session_" in str(path) for path in _short_folder().rglob("*")), "Ray's session is not where we look"
    assert found == []


def test_a_bucket_that_is_not_there_is_one_clear_error(stack: Any) -> None:
    done = stack.run("submit", stack.sweep_file(), "--storage", "s3://no-such-bucket-here/x", code=1)
    assert "no-such-bucket-here" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_wrong_credentials_are_one_clear_error_that_does_not_repeat_them(stack: Any) -> None:
    wrong = "wrong-secret-0123456789"
    right = dict(stack.environment)
    stack.environment["AWS_SECRET_ACCESS_KEY"] = wrong
    try:
        done = stack.run("submit", stack.sweep_file(), code=1)
    finally:
        stack.environment.update(right)
    assert len(done.stderr.strip().splitlines()) == 1
    assert wrong not in done.stderr
    assert "AWS_SECRET_ACCESS_KEY" in done.stderr or "credentials" in done.stderr


def test_mlflow_that_does_not_answer_is_refused_at_the_start(stack: Any) -> None:
    right = dict(stack.environment)
    stack.environment["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
    try:
        done = stack.run("submit", stack.sweep_file(), code=1)
    finally:
        stack.environment.update(right)
    assert "http://127.0.0.1:9" in done.stderr
    assert "agr stack up" in done.stderr
