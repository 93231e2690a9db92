"""Where MLflow is: addresses, logins, databases on disk, and what is said of one that does not answer."""

from __future__ import annotations

import base64
import shutil
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import make_url

from orchestrator.errors import TrackerError, TrackerUnavailableError
from orchestrator.settings import sqlite_uri
from orchestrator.tracking import open_tracker
from orchestrator.tracking.address import database_uri, read_address, without_credentials
from orchestrator.tracking.mlflow_tracker import MlflowTracker
from tests.parts.http_server import Answer, reply


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


def test_an_absent_server_is_named_with_the_way_out() -> None:
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


def test_a_database_in_a_folder_with_an_odd_name_is_used_there_and_nothing_is_made_beside_it(
    tmp_path: Path, empty_mlflow_database: Path
) -> None:
    home = tmp_path / "feature%2Fx?y#z"
    home.mkdir()
    shutil.copy(empty_mlflow_database, home / "mlflow.db")
    tracker = open_tracker(sqlite_uri(home / "mlflow.db"), home / "artifacts")

    experiment = tracker.experiment("faces")
    run = tracker.run(experiment, {"agr.sweep_id": "s"}, name="n", start_time=1.0)
    file = tmp_path / "a.txt"
    file.write_text("a")
    tracker.log_artifact(run, file)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", home.name]
    assert [path.read_text() for path in home.rglob("a.txt")] == ["a"]


def _asks_for_login(request: BaseHTTPRequestHandler) -> None:
    given = request.headers.get("Authorization")
    known = given == f"Basic {base64.b64encode(b'u:p').decode()}"
    reply(request, 200 if known else 401, '{"experiments": []}' if known else "{}")


def test_the_login_in_mlflows_own_file_is_used(
    serve: Callable[[Answer], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = serve(_asks_for_login)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(TrackerError, match="refuses the login"):
        open_tracker(f"http://{address}").check()

    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text(
        "[mlflow]\nmlflow_tracking_username = u\nmlflow_tracking_password = p\n"
    )

    open_tracker(f"http://{address}").check()


def test_a_certificate_of_ones_own_is_trusted_by_mlflows_variable_and_named_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    names = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, *names],
        check=True,
        capture_output=True,
    )

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            reply(self, 200, '{"experiments": []}')

        do_GET = do_POST  # noqa: N815

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        uri = f"https://127.0.0.1:{server.server_address[1]}"
        with pytest.raises(TrackerError, match=r"certificate.*not trusted. Set MLFLOW_TRACKING_SERVER_CERT_PATH"):
            open_tracker(uri).check()
        monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(certificate))
        open_tracker(uri).check()
    finally:
        server.shutdown()
        server.server_close()
