"""What is MLflow's own: limits, schema, refusals, creations that time out."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import TrackerError, TrackerFaultError, TrackerUnavailableError
from orchestrator.tracking import open_tracker
from orchestrator.tracking.base import MetricPoint, Tracker
from orchestrator.tracking.mlflow_limits import CUT
from orchestrator.tracking.mlflow_tracker import MlflowTracker
from tests.parts.http_server import Answer, reply


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory, empty_mlflow_database: Path) -> Tracker:
    folder = tmp_path_factory.mktemp("sqlite")
    return open_tracker(f"sqlite:///{shutil.copy(empty_mlflow_database, folder)}", folder / "artifacts")


def test_an_answer_of_500_is_distinguished_from_no_answer(serve: Callable[[Answer], str]) -> None:
    address = serve(lambda request: reply(request, 500, '{"error_code": "INTERNAL_ERROR"}'))

    with pytest.raises(TrackerFaultError):
        open_tracker(f"http://{address}").log("run", tags={"a": "b"})
    with pytest.raises(TrackerUnavailableError) as silence:
        open_tracker("http://127.0.0.1:1").log("run", tags={"a": "b"})
    assert not isinstance(silence.value, TrackerFaultError)


def test_params_are_cut_to_what_an_older_server_takes(serve: Callable[[Answer], str]) -> None:
    taken: list[str] = []

    def older(request: BaseHTTPRequestHandler) -> None:
        body = json.loads(request.rfile.read(int(request.headers["Content-Length"])))
        values = [param["value"] for param in body["params"]]
        if max(map(len, values)) > 500:
            text = "Param value 'x' had length 900, which exceeded length limit of 500"
            return reply(request, 400, json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": text}))
        taken.extend(values)
        return reply(request, 200, "{}")

    open_tracker(f"http://{serve(older)}").log("run", params={"short": "s", "long": "x" * 900})

    assert sorted(map(len, taken)) == [1, 500]
    assert max(taken, key=len).endswith(CUT)


def test_what_no_database_takes_is_replaced_and_a_long_name_cut(sqlite: Tracker) -> None:
    from mlflow import MlflowClient

    experiment = sqlite.experiment("odd texts")
    run = sqlite.run(experiment, {"agr.sweep_id": "odd"}, name="n" * 300, start_time=1.0, tags={"t": "a\0b"})
    sqlite.log(run, params={"p": "c\0d"})

    found = MlflowClient(tracking_uri=sqlite.uri).get_run(run)
    assert found.info.run_name == "n" * (250 - len(CUT)) + CUT
    assert (found.data.tags["t"], found.data.params["p"]) == ("a␀b", "c␀d")


def test_a_server_that_is_gone_is_named_without_the_texts_of_the_network_library() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    for address, reason in (
        (f"127.0.0.1:{port}", "the connection is refused"),
        ("no.such.host.invalid", "no machine of"),
    ):
        with pytest.raises(TrackerUnavailableError) as caught:
            open_tracker(f"http://{address}").find_experiment("faces")
        assert str(caught.value).startswith(f"MLflow at http://{address} does not answer: {reason}")
        assert "retries" not in str(caught.value)


def test_a_creation_that_fails_is_not_repeated_by_the_client(serve: Callable[[Answer], str]) -> None:
    creations = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        if request.path.endswith("runs/create"):
            creations.append(request.path)
            reply(request, 503, "{}")
        else:
            reply(request, 200, "{}")

    tracker = open_tracker(f"http://ann:hunter2@{serve(answer)}")
    with pytest.raises(TrackerUnavailableError, match="cannot create run '000' in MLflow at") as caught:
        tracker.run("1", {"agr.trial_id": "0"}, name="000", start_time=1.0)

    assert len(creations) == 1
    assert "hunter2" not in str(caught.value)


@pytest.mark.services
def test_a_creation_whose_answer_is_lost_makes_no_second_run(
    serve: Callable[[Answer], str], mlflow_server: Any
) -> None:
    """A proxy passes the creation on and then hangs up; the retry finds the run by its tags."""
    import urllib.request

    lost = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        length = int(request.headers.get("Content-Length", 0))
        passed = urllib.request.Request(
            mlflow_server.uri + request.path,
            data=request.rfile.read(length) if length else None,
            headers={"Content-Type": "application/json"},
            method=request.command,
        )
        with urllib.request.urlopen(passed) as response:
            body = response.read().decode()
        if request.path.endswith("runs/create") and not lost:
            lost.append(json.loads(body)["run"]["info"]["run_id"])
            request.close_connection = True
        else:
            reply(request, 200, body)

    experiment_id = open_tracker(mlflow_server.uri).experiment("lost-answers")
    tracker = open_tracker(f"http://{serve(answer)}")
    key = {"agr.trial_id": "lost"}
    with pytest.raises(TrackerUnavailableError):
        tracker.run(experiment_id, key, name="000", start_time=1.0)

    assert tracker.run(experiment_id, key, name="000", start_time=1.0) == lost[0]
    assert len(tracker.runs(experiment_id, key)) == 1


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (500, '{"error_code": "INTERNAL_ERROR"}', TrackerFaultError),
        (429, "{}", TrackerUnavailableError),
        (503, "busy", TrackerUnavailableError),
        (400, '{"error_code": "INVALID_PARAMETER_VALUE", "message": "no such thing"}', TrackerError),
        (403, '{"error_code": "PERMISSION_DENIED", "message": "not yours"}', TrackerError),
    ],
)
def test_a_refusal_is_distinguished_from_no_answer(
    serve: Callable[[Answer], str], status: int, body: str, error: type[Exception]
) -> None:
    tracker = open_tracker(f"http://{serve(lambda request: reply(request, status, body))}")

    with pytest.raises(TrackerError) as caught:
        tracker.log("0" * 32, tags={"a": "b"})

    assert type(caught.value) is error


# ---- SQLite


def test_a_deleted_experiment_is_named_with_the_way_to_get_it_back(sqlite: Tracker) -> None:
    from mlflow import MlflowClient

    experiment_id = sqlite.experiment("gone")
    MlflowClient(tracking_uri=sqlite.uri).delete_experiment(experiment_id)

    with pytest.raises(TrackerError, match=rf"'gone' was deleted.*restore -x {experiment_id}.*another `experiment:`"):
        sqlite.experiment("gone")


def test_a_database_of_another_mlflow_is_a_refusal_that_says_how_to_upgrade(
    tmp_path: Path, empty_mlflow_database: Path
) -> None:
    path = shutil.copy(empty_mlflow_database, tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
        connection.commit()

    with pytest.raises(TrackerError, match="mlflow db upgrade") as caught:
        open_tracker(f"sqlite:///{path}").experiment("faces")

    assert not isinstance(caught.value, TrackerUnavailableError)


def test_artifacts_of_the_embedded_mlflow_lie_in_the_given_folder(sqlite: Tracker, tmp_path: Path) -> None:
    run_id = sqlite.run(sqlite.experiment("artifacts"), {"k": "v"}, name="000", start_time=1.0)
    (tmp_path / "trial.json").write_text("{}")

    sqlite.log_artifact(run_id, tmp_path)

    artifacts = Path(sqlite.uri.removeprefix("sqlite:///")).parent / "artifacts"
    assert (artifacts / run_id / "artifacts" / "trial.json").read_text() == "{}"


def test_a_param_or_tag_that_is_too_long_ends_in_words_that_say_so(sqlite: Tracker) -> None:
    from mlflow import MlflowClient

    run_id = sqlite.run(sqlite.experiment("long"), {"k": "v"}, name="000", start_time=1.0, tags={"a": "x" * 9000})
    sqlite.log(run_id, params={"long": "y" * 6001, "fits": "y" * 6000}, tags={"b": "z" * 9000})

    data = MlflowClient(tracking_uri=sqlite.uri).get_run(run_id).data
    assert data.params["fits"] == "y" * 6000
    for text, limit in ((data.params["long"], 6000), (data.tags["a"], 8000), (data.tags["b"], 8000)):
        assert len(text) == limit
        assert text.endswith(CUT)


def test_params_read_as_in_yaml(sqlite: Tracker) -> None:
    from mlflow import MlflowClient

    run_id = sqlite.run(sqlite.experiment("values"), {"k": "v"}, name="000", start_time=1.0)
    values = {"word": "adam", "truth": True, "none": None, "float": 1e-4, "list": [0, 13, 20], "int": 3}

    sqlite.log(run_id, params=values)

    assert MlflowClient(tracking_uri=sqlite.uri).get_run(run_id).data.params == {
        "word": "adam",
        "truth": "true",
        "none": "null",
        "float": "0.0001",
        "list": "[0, 13, 20]",
        "int": "3",
    }


def test_a_tag_with_both_kinds_of_quotes_cannot_be_searched_for(sqlite: Tracker) -> None:
    experiment_id = sqlite.experiment("quotes")
    for value in ("it's", 'a "word"'):
        run_id = sqlite.run(experiment_id, {"k": value}, name="000", start_time=1.0)
        assert sqlite.find_run(experiment_id, {"k": value}) == run_id

    with pytest.raises(TrackerError, match="both kinds of quotes"):
        sqlite.find_run(experiment_id, {"k": 'it\'s "that"'})


def test_more_runs_than_a_page_are_all_found(sqlite: Tracker) -> None:
    experiment_id = sqlite.experiment("many")
    path = sqlite.uri.removeprefix("sqlite:///")
    first = sqlite.run(experiment_id, {"agr.sweep_id": "many", "agr.trial_id": "0"}, name="0", start_time=1.0)
    with closing(sqlite3.connect(path)) as connection:  # through MLflow, as many runs would take half a minute
        columns = [row[1] for row in connection.execute("PRAGMA table_info(runs)")]
        copied = ", ".join("? || substr(run_uuid, 5)" if name == "run_uuid" else name for name in columns)
        for number in range(450):
            prefix = f"x{number:03}"  # no hexadecimal digit, so no copy has the first one's ID
            connection.execute(f"INSERT INTO runs SELECT {copied} FROM runs WHERE run_uuid = ?", (prefix, first))
            connection.execute(
                "INSERT INTO tags SELECT key, value, ? FROM tags WHERE run_uuid = ?", (prefix + first[4:], first)
            )
        connection.commit()

    found = sqlite.runs(experiment_id, {"agr.sweep_id": "many"})

    assert len({run.run_id for run in found}) == 451


@pytest.mark.slow
def test_processes_that_start_at_once_on_a_new_database_all_succeed(tmp_path: Path) -> None:
    program = (
        "from orchestrator.tracking import open_tracker\n"
        f"print(open_tracker('sqlite:///{tmp_path}/new/mlflow.db').experiment('faces'))"
    )
    command = [sys.executable, "-c", program]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]

    ids = {process.communicate(timeout=120)[0] for process in processes}

    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(ids) == 1


@pytest.mark.slow
def test_nothing_is_printed(tmp_path: Path) -> None:
    program = (
        "from orchestrator.tracking import open_tracker\n"
        f"tracker = open_tracker('sqlite:///{tmp_path}/mlflow.db')\n"
        "run = tracker.run(tracker.experiment('faces'), {'k': 'v'}, name='0', start_time=1.0)\n"
        "tracker.end(run, status='FINISHED', time=2.0)\n"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout == ""
    assert "INFO" not in done.stderr


def test_a_long_list_of_points_goes_in_as_few_calls_as_the_limits_allow(
    sqlite: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    sizes: list[int] = []
    original = MlflowClient.log_batch

    def counted(self: Any, run_id: str, metrics: Any, params: Any, tags: Any) -> Any:
        sizes.append(len(metrics) + len(params) + len(tags))
        return original(self, run_id, metrics, params, tags)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    run_id = sqlite.run(sqlite.experiment("batches"), {"k": "v"}, name="0", start_time=1.0)

    sqlite.log(run_id, params={"a": "1"}, metrics=[MetricPoint("m", 1.0, n, n) for n in range(801)], tags={"b": "2"})
    sqlite.log(run_id)

    assert sizes == [802, 1]
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "0"


def test_sqlite_joins_the_metrics_of_a_view_by_an_index_once_it_knows_its_sizes(
    empty_mlflow_database: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copy(empty_mlflow_database, tmp_path))
    tracker = open_tracker(f"sqlite:///{path}", tmp_path / "artifacts")
    experiment = tracker.experiment("faces")
    with closing(sqlite3.connect(path)) as database:
        for number in range(300):
            database.execute(
                "INSERT INTO runs (run_uuid, experiment_id, lifecycle_stage) VALUES (?, ?, 'active')",
                (str(number), experiment),
            )
            database.execute(
                "INSERT INTO latest_metrics (key, value, step, is_nan, run_uuid) VALUES ('rank', ?, 0, 0, ?)",
                (float(number), str(number)),
            )
        database.commit()
    # As MLflow's `search_runs` orders runs by a metric.
    view = (
        "EXPLAIN QUERY PLAN SELECT DISTINCT runs.*, ranks.value FROM runs LEFT OUTER JOIN"
        " (SELECT * FROM latest_metrics WHERE key = 'rank') AS ranks ON runs.run_uuid = ranks.run_uuid"
        " WHERE runs.lifecycle_stage IN ('active') ORDER BY ranks.value LIMIT 101"
    )

    def plan() -> str:
        with closing(sqlite3.connect(path)) as database:
            return "\n".join(str(row) for row in database.execute(view))

    assert "SCAN ranks" in plan(), "every metric for each run"
    tracker.note_sizes()
    assert "SCAN ranks" not in plan()


def test_a_blank_database_stays_blank_and_a_locked_one_is_tried_again(
    empty_mlflow_database: Path, tmp_path: Path
) -> None:
    blank = tmp_path / "blank.db"
    open_tracker(f"sqlite:///{blank}", tmp_path / "artifacts").note_sizes()
    assert not blank.exists()

    path = Path(shutil.copy(empty_mlflow_database, tmp_path))
    with closing(sqlite3.connect(path)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TrackerUnavailableError, match=r"cannot analyze MLflow at .*locked"):
            MlflowTracker(f"sqlite:///{path}", timeout_s=0).note_sizes()
