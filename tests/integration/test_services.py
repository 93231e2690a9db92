"""A sweep on the local stack: S3 storage, MLflow on PostgreSQL, and no secret anywhere.

And the same sweep while all three services are killed in its middle, which changes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import time
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.services.record import StackFolder
from tests.integration.conftest import Agr
from tests.parts.s3 import S3Server

pytestmark = [pytest.mark.slow, pytest.mark.services]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agr]:
    """``agr`` in a shell that did ``eval "$(agr stack env)"``; a Ray for each sweep, whose workers see this shell."""
    agr = Agr(tmp_path_factory.mktemp("stack") / "home")
    agr.run("stack", "up")
    try:
        for word in shlex.split(agr.run("stack", "env").stdout.replace(";", " ")):
            if "=" in word:
                name, value = word.split("=", 1)
                agr.environment[name] = value
        agr.environment["RAY_TMPDIR"] = str(_short_folder())
        yield agr
    finally:
        agr.run("stack", "down")


def _short_folder() -> Path:
    """Ray's sockets need a short path, and the session folder must be this test's own to be searched."""
    folder = Path("/tmp") / f"agr-ray-{os.getpid()}"
    folder.mkdir(exist_ok=True)
    return folder


def submission(stack: Any) -> list[str]:
    """The command of both sweeps."""
    file = stack.sweep_file(search={"algorithm": "random", "trials": 4, "seed": 1}, scheduler={"name": "none"})
    changes = ["--set", "trial.data.source=s3://agr/faces", "--set", "trial.schedule.epochs=3"]
    return ["submit", file, *changes, "--json"]


@pytest.fixture(scope="module")
def submitted(stack: Any) -> dict[str, Any]:
    stack.run("data", "synth", "-o", "s3://agr/faces", "--images", "300", "--size", "32")
    result: dict[str, Any] = json.loads(stack.run(*submission(stack)).stdout)
    return result


END_OF_EPOCH = "metrics.jsonl"
"""What a worker stores after each epoch."""

WAITS = "Retrying for up to 600 s; nothing is lost."
"""What a driver says when the store does not answer."""

OUTAGE_S = float(os.environ.get("OUTAGE_S", "0"))
"""S3, and MLflow with it, come back when that was felt, and so much later (seconds); docs/reliability.md: a minute."""


@dataclass
class Disturbed:
    """The same sweep while the services fail one after the other, and what was felt of it."""

    result: dict[str, Any]
    events: list[dict[str, Any]]
    driver_said: str
    writer_said: str
    refused: int
    """Requests that were answered with 503."""
    unused: tuple[int, int]
    """Of the harm to single answers what did not come to pass."""
    trained: dict[str, int]
    """Epochs that were journalled while a service was down."""


@pytest.fixture(scope="module")
def disturbed(stack: Any, submitted: dict[str, Any], proxy_before: Any, tmp_path_factory: Any) -> Disturbed:
    """Answers of S3 get lost, break off, come slowly, or are 503; PostgreSQL, MLflow and S3 are killed with -9."""
    keys = [stack.environment[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    store = S3Server(stack.environment["AWS_ENDPOINT_URL"], "agr", *keys)
    words = tmp_path_factory.mktemp("driver") / "said"
    with contextlib.ExitStack() as stays:
        proxy = stays.enter_context(proxy_before(store))
        proxy.cut, proxy.lose, proxy.slow = 3, 2, 0.1
        through = replace(stack, environment={**stack.environment, **proxy.server.environment})
        before = sweeps_in(store)
        driver = through.start(*submission(stack), stderr=words)
        stays.callback(driver.kill)  # which does nothing when it has ended

        def until(felt: Callable[[], Any]) -> Any:
            end = time.monotonic() + 120
            while not (found := felt()):
                assert driver.poll() is None, f"the sweep was over too early:\n{words.read_text()}"
                assert time.monotonic() < end, f"it did not happen:\n{words.read_text()}"
                time.sleep(0.1)
            return found

        def reported() -> int:
            return sum(event["kind"] == "trial_reported" for event in journal(store, sweep_id))

        def trained_without(service: str) -> int:
            """Kill a service, and see training go on; then let it wait at the end of an epoch."""
            kill(stack, service)
            at = reported()
            proxy.stop = ""
            until(lambda: reported() > at)
            proxy.stop = END_OF_EPOCH
            return reported() - at

        sweep_id = until(lambda: next(iter(sweeps_in(store) - before), None))
        log = stack.home / "logs" / f"sync-{sweep_id}.log"
        until(lambda: reported() > 0)
        trained = {"postgres": trained_without("postgres")}
        until(lambda: "Retrying" in log.read_text())
        stack.run("stack", "up")
        trained["mlflow"] = trained_without("mlflow")
        proxy.stop = ""

        proxy.down = True
        until(lambda: proxy.refused >= 3)
        proxy.down = False

        waits = words.read_text().count(WAITS)
        kill(stack, "s3")
        until(lambda: words.read_text().count(WAITS) > waits)
        time.sleep(OUTAGE_S)
        proxy.slow = 0.0
        stack.run("stack", "up")
        out, _ = driver.communicate(timeout=240)
        said = words.read_text()
        assert driver.returncode == 0, said
        return Disturbed(
            result=json.loads(out),
            events=journal(store, sweep_id),
            driver_said=said,
            writer_said=log.read_text(),
            refused=proxy.refused,
            unused=(proxy.cut, proxy.lose),
            trained=trained,
        )


def kill(stack: Any, name: str) -> None:
    """Kill -9 all processes of a service."""
    first = psutil.Process(StackFolder(stack.home / "stack").read().processes[name].pid)
    for process in (first, *first.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):  # PostgreSQL's end with their first one
            process.kill()


def sweeps_in(store: S3Server) -> set[str]:
    found = store.client().list_objects_v2(Bucket="agr", Prefix="agr/sweeps/", Delimiter="/").get("CommonPrefixes", ())
    return {entry["Prefix"].rstrip("/").rpartition("/")[2] for entry in found}


def journal(store: S3Server, sweep_id: str) -> list[dict[str, Any]]:
    """The events of a sweep, from the store itself."""
    client = store.client()
    entries = client.list_objects_v2(Bucket="agr", Prefix=f"agr/sweeps/{sweep_id}/journal/").get("Contents", ())
    segments = [client.get_object(Bucket="agr", Key=entry["Key"])["Body"].read() for entry in entries]
    return [json.loads(line) for segment in segments for line in segment.splitlines()]


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


def test_each_outage_was_felt_and_training_did_not_wait_for_mlflow(disturbed: Disturbed) -> None:
    assert WAITS in disturbed.driver_said
    assert "answers again after" in disturbed.driver_said
    assert "Retrying; nothing is lost, because the journal has everything." in disturbed.writer_said
    assert disturbed.refused >= 3
    assert disturbed.unused == (0, 0)
    assert all(epochs > 0 for epochs in disturbed.trained.values())


def test_a_sweep_through_all_outages_has_the_histories_of_an_undisturbed_one(
    stack: Any, submitted: dict[str, Any], disturbed: Disturbed, read_histories: Callable[..., Any]
) -> None:
    keys = [stack.environment[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")]
    calm = journal(S3Server(stack.environment["AWS_ENDPOINT_URL"], "agr", *keys), submitted["sweep_id"])
    assert (disturbed.result["status"], disturbed.result["trials"]["completed"]) == ("completed", 4)
    assert read_histories(disturbed.events) == read_histories(calm)
    assert Counter(event["kind"] for event in disturbed.events)["attempt_failed"] == 0
    epochs = Counter((e["trial_id"], e["epoch"]) for e in disturbed.events if e["kind"] == "trial_reported")
    assert set(epochs.values()) == {1}
    ends = Counter(event["trial_id"] for event in disturbed.events if event["kind"] == "trial_ended")
    assert sorted(ends.values()) == [1, 1, 1, 1]


def test_all_of_a_disturbed_sweep_is_in_mlflow_once(
    stack: Any, submitted: dict[str, Any], disturbed: Disturbed
) -> None:
    calm, runs = search_runs(stack, submitted), search_runs(stack, disturbed.result)
    trials = [run for run in runs if "agr.trial_id" in tags(run)]
    created = [event["trial_id"] for event in disturbed.events if event["kind"] == "trial_created"]
    assert Counter(tags(run)["agr.trial_id"] for run in trials) == Counter(created)
    assert len(runs) == len(trials) + 1
    assert {run["info"]["status"] for run in runs} == {"FINISHED"}
    assert params_by_number(runs) == params_by_number(calm)
    for run in trials:
        mine = tags(run)["agr.trial_id"]
        reports = [e for e in disturbed.events if e["kind"] == "trial_reported" and e["trial_id"] == mine]
        names = {metric["key"] for metric in run["data"]["metrics"]} & reports[0]["metrics"].keys()
        assert {"train/loss", "val/age_mae"} <= names
        for name in names:
            assert history(stack, run, name) == [(report["epoch"], report["metrics"][name]) for report in reports]


def params_by_number(runs: list[dict[str, Any]]) -> dict[str | None, dict[str, str]]:
    return {
        tags(run).get("agr.number"): {param["key"]: param["value"] for param in run["data"]["params"]} for run in runs
    }


def history(stack: Any, run: dict[str, Any], name: str) -> list[tuple[int, float]]:
    query = urllib.parse.urlencode({"run_id": run["info"]["run_id"], "metric_key": name})
    url = f"{stack.environment['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/metrics/get-history?{query}"
    with urllib.request.urlopen(url) as answer:
        return [(int(point.get("step", 0)), point["value"]) for point in json.load(answer)["metrics"]]


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


def only_error(stderr: str) -> str:
    """Return the last line, an error; before it are only the two steps of the start and warnings of the sweep file."""
    *before, error = stderr.strip().splitlines()
    assert error.startswith("error: ")
    reading, *warnings, checking = before
    assert re.fullmatch(r"reading \S+ \.\.\.", reading)
    assert [line for line in warnings if not line.startswith("warning: ")] == []
    assert checking == "checking that MLflow and the storage answer ..."
    return error


def test_a_bucket_that_is_not_there_is_one_clear_error(stack: Any) -> None:
    done = stack.run("submit", stack.sweep_file(), "--storage", "s3://no-such-bucket-here/x", code=1)
    assert "no-such-bucket-here" in only_error(done.stderr)


def test_wrong_credentials_are_one_clear_error_that_does_not_repeat_them(stack: Any) -> None:
    wrong = "wrong-secret-0123456789"
    right = dict(stack.environment)
    stack.environment["AWS_SECRET_ACCESS_KEY"] = wrong
    try:
        done = stack.run("submit", stack.sweep_file(), code=1)
    finally:
        stack.environment.update(right)
    assert wrong not in done.stderr
    assert "AWS_SECRET_ACCESS_KEY" in only_error(done.stderr)


def test_mlflow_that_does_not_answer_is_refused_at_the_start(stack: Any) -> None:
    right = dict(stack.environment)
    stack.environment["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
    try:
        done = stack.run("submit", stack.sweep_file(), code=1)
    finally:
        stack.environment.update(right)
    assert "http://127.0.0.1:9" in done.stderr
    assert "agr stack up" in done.stderr
