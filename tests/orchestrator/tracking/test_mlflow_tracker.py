"""What is MLflow's own: addresses, logins, limits, schema, creations that time out."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from orchestrator.errors import TrackerError, TrackerUnavailableError
from orchestrator.tracking import open_tracker
from orchestrator.tracking.address import database_uri, read_address, without_credentials
from orchestrator.tracking.base import MetricPoint, Tracker
from orchestrator.tracking.mlflow_tracker import CUT, MlflowTracker

Answer = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], str]]:
    """Runs an HTTP server that answers as told; yields its address without ``http://``."""
    servers: list[ThreadingHTTPServer] = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *arguments: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def reply(request: BaseHTTPRequestHandler, status: int, body: str, kind: str = "application/json") -> None:
    request.send_response(status)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(body.encode())))
    request.end_headers()
    request.wfile.write(body.encode())


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory, empty_mlflow_database: Path) -> Tracker:
    folder = tmp_path_factory.mktemp("sqlite")
    return open_tracker(f"sqlite:///{shutil.copy(empty_mlflow_database, folder)}", folder / "artifacts")


# ---- addresses


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "mlruns", "", "databricks", "mysql://root:hunter2@host/db"])
def test_an_address_that_is_not_mlflows_is_refused_with_the_way_out(uri: str) -> None:
    with pytest.raises(TrackerError, match="set MLFLOW_TRACKING_URI") as caught:
        open_tracker(uri)

    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://ann:hunter2@host:5000/path", "http://host:5000/path"),
        ("postgresql://ann:p%40ss@host/db", "postgresql://host/db"),
        ("sqlite:////folder/with@sign.db", "sqlite:////folder/with@sign.db"),
        ("http://host:5000", "http://host:5000"),
        ("http://host:5000/of@somebody", "http://host:5000/of@somebody"),
        ("http://[::1]:5000/a", "http://[::1]:5000/a"),
        ("http://ann@host", "http://host"),
        ("http://ann:a#b@host:5000", "http://host:5000"),
        ("postgresql://ann:a/b@host/db", "postgresql://host/db"),
        ("postgresql://ann:1/b@host/db", "postgresql://host/db"),
        ("postgresql://ann:a#b?c@host:5432/db", "postgresql://host:5432/db"),
        ("postgresql://ann:a[b]@host/db", "postgresql://host/db"),
        ("postgresql://ann:a@b@host/db", "postgresql://host/db"),
        ("postgresql://host/db?user=ann&password=hunter2", "postgresql://host/db?user=ann&password=***"),
        ("postgresql:///db?host=/run/pg&sslpassword=a@b", "postgresql:///db?host=/run/pg&sslpassword=***"),
    ],
)
def test_a_shown_address_has_no_login(uri: str, shown: str) -> None:
    assert without_credentials(uri) == shown
    assert open_tracker(uri).uri == shown


@pytest.mark.parametrize("password", ["hunter2", "a/b", "a#b?c", "1/b", "a:b", "a b", "a%40b"])
def test_a_password_is_read_as_sqlalchemy_reads_it_and_hidden(password: str) -> None:
    """SQLAlchemy is what connects: what it takes for the password must not be shown, in either form."""
    uri = f"postgresql://ann:{password}@host/db"
    theirs = make_url(uri)

    address = read_address(uri)

    assert (address.user, address.password) == (theirs.username, theirs.password)
    assert address.shown == f"postgresql://{theirs.host}/{theirs.database}"
    assert address.hide(f"no way in: {uri}, {theirs.password}!") == "no way in: postgresql://ann:***@host/db, ***!"


def test_postgresql_is_read_with_the_driver_we_have() -> None:
    assert database_uri("postgresql://host/db") == "postgresql+psycopg2://host/db"
    assert database_uri("postgresql+psycopg2://host/db") == "postgresql+psycopg2://host/db"
    assert database_uri("sqlite:////a.db") == "sqlite:////a.db"


def test_opening_a_tracker_contacts_nobody_and_imports_no_mlflow() -> None:
    program = (
        "import sys\nfrom orchestrator.tracking import open_tracker\n"
        "open_tracker('http://127.0.0.1:9')\nprint('mlflow' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


# ---- check


def test_a_server_that_is_not_there_is_said_to_be_so_with_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    with pytest.raises(TrackerUnavailableError, match=rf"127\.0\.0\.1:{port} does not answer.*agr stack up.*unset"):
        open_tracker(f"http://ann:hunter2@127.0.0.1:{port}").check()


def test_a_server_that_hangs_is_not_waited_for_long(serve: Callable[[Answer], str]) -> None:
    hanging = threading.Event()
    address = serve(lambda _: (hanging.wait(20), None)[1])

    with pytest.raises(TrackerUnavailableError, match="no answer in time"):
        MlflowTracker(f"http://{address}", timeout_s=1).check()
    hanging.set()


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_login_says_which_variables_hold_it(serve: Callable[[Answer], str], status: int) -> None:
    address = serve(lambda request: reply(request, status, "{}"))

    with pytest.raises(TrackerError, match="MLFLOW_TRACKING_USERNAME") as caught:
        open_tracker(f"http://ann:hunter2@{address}").check()

    assert "hunter2" not in str(caught.value)


def test_something_else_that_answers_is_not_taken_for_mlflow(serve: Callable[[Answer], str]) -> None:
    address = serve(lambda request: reply(request, 200, "<html>hello</html>", "text/html"))

    with pytest.raises(TrackerError, match="is not MLflow"):
        open_tracker(f"http://{address}").check()


@pytest.mark.parametrize("where", ["address", "environment"])
def test_the_login_of_the_address_or_the_environment_is_used(
    serve: Callable[[Answer], str], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    seen: list[str | None] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.headers["Authorization"])
        found = request.path.startswith("/api/2.0/mlflow/experiments/search")
        reply(request, 200 if found else 404, '{"error_code": "RESOURCE_DOES_NOT_EXIST"}')

    address = serve(answer)
    if where == "environment":
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "p@ss")
    tracker = open_tracker(f"http://{address}" if where == "environment" else f"http://ann:p%40ss@{address}")
    tracker.check()
    tracker.find_experiment("faces")  # MLflow's own client

    assert set(seen) == {"Basic YW5uOnBAc3M="}  # base64 of ann:p@ss


@pytest.mark.parametrize("checked", [False, True])
def test_looking_into_a_database_that_is_not_made_yet_finds_nothing_and_makes_no_tables(
    tmp_path: Path, checked: bool
) -> None:
    path = tmp_path / "mlflow.db"
    tracker = open_tracker(f"sqlite:///{path}", tmp_path / "artifacts")
    if checked:  # makes the file
        tracker.check()

    assert tracker.find_experiment("faces") is None
    assert tracker.get_run("f" * 32) is None
    assert path.exists() == checked
    if checked:
        with closing(sqlite3.connect(path)) as database:
            assert database.execute("select count(*) from sqlite_master").fetchone() == (0,)


def test_a_database_that_is_not_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is text, and more text than a header of SQLite has")

    with pytest.raises(TrackerError, match="cannot use the MLflow database"):
        open_tracker(f"sqlite:///{tmp_path}/mlflow.db").check()


def test_a_database_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(TrackerError, match="cannot use the MLflow database"):
        open_tracker(f"sqlite:///{tmp_path}/file/mlflow.db").check()


# ---- creations, retries


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
        (500, '{"error_code": "INTERNAL_ERROR"}', TrackerUnavailableError),
        (429, "{}", TrackerUnavailableError),
        (503, "busy", TrackerUnavailableError),
        (400, '{"error_code": "INVALID_PARAMETER_VALUE", "message": "no such thing"}', TrackerError),
        (403, '{"error_code": "PERMISSION_DENIED", "message": "not yours"}', TrackerError),
    ],
)
def test_refusal_is_told_from_silence(
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
    with closing(sqlite3.connect(path)) as connection:  # through MLflow, a thousand runs would take a minute
        columns = [row[1] for row in connection.execute("PRAGMA table_info(runs)")]
        copied = ", ".join("? || substr(run_uuid, 5)" if name == "run_uuid" else name for name in columns)
        for number in range(1100):
            prefix = f"{number:04x}"
            connection.execute(f"INSERT INTO runs SELECT {copied} FROM runs WHERE run_uuid = ?", (prefix, first))
            connection.execute(
                "INSERT INTO tags SELECT key, value, ? FROM tags WHERE run_uuid = ?", (prefix + first[4:], first)
            )
        connection.commit()

    found = sqlite.runs(experiment_id, {"agr.sweep_id": "many"})

    assert len({run.run_id for run in found}) in (1100, 1101)  # one copy may have the first one's ID


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
