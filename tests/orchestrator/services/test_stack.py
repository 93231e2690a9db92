"""The real stack, once: PostgreSQL, SeaweedFS and MLflow of this module. Tests share it and leave it up."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import stat
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from mlflow import MlflowClient

from orchestrator.errors import ServiceError
from orchestrator.services.process import MARK
from orchestrator.services.record import HOST, StackRecord
from orchestrator.services.stack import Stack

pytestmark = [pytest.mark.services, pytest.mark.slow]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    # Not in pytest's folder, which pytest closes to the account that root's PostgreSQL runs under.
    home = Path(tempfile.mkdtemp(prefix="agr-stack-test-"))
    stack = Stack(home, print)
    assert stack.up() == ["postgres", "s3", "mlflow"]
    yield stack
    record = stack.folder.read()
    stack.down()
    assert_nothing_is_left(stack, record)
    shutil.rmtree(home)


def assert_nothing_is_left(stack: Stack, record: StackRecord) -> None:
    marked = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == str(stack.folder.path):
                marked.append(process)
        except psutil.Error:
            continue
    assert marked == []
    assert not any(
        str(stack.folder.path) in " ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])
    )
    for port in record.ports.values():
        with socket.socket() as probe:
            assert probe.connect_ex((HOST, port)) != 0
    sockets = [path.name for path in Path("/tmp").glob("seaweedfs-*.sock")]
    assert not any(f"-{port}.sock" in name for port in record.ports.values() for name in sockets)


def s3(stack: Stack, **changed: str) -> Any:
    values = stack.environment() | changed
    return boto3.session.Session().client(
        "s3",
        endpoint_url=values["AWS_ENDPOINT_URL"],
        aws_access_key_id=values["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=values["AWS_SECRET_ACCESS_KEY"],
        region_name=values["AWS_DEFAULT_REGION"],
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )


def mlflow(stack: Stack) -> MlflowClient:
    return MlflowClient(stack.environment()["MLFLOW_TRACKING_URI"])


def kill(stack: Stack, service: str) -> None:
    pid = stack.folder.read().processes[service].pid
    os.kill(pid, signal.SIGKILL)
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.02)


def states(stack: Stack) -> dict[str, str]:
    return {service.name: service.state for service in stack.status()}


def test_all_three_answer_once_up_returns(stack: Stack) -> None:
    assert states(stack) == {"postgres": "up", "s3": "up", "mlflow": "up"}
    names = [bucket["Name"] for bucket in s3(stack).list_buckets()["Buckets"]]
    assert sorted(names) == ["agr", "mlflow"]
    with urllib.request.urlopen(stack.environment()["MLFLOW_TRACKING_URI"]) as page:
        text = page.read()
    assert b"<title>MLflow</title>" in text
    assert b'"mlflow.workflowType_v1": "machine_learning"' in text  # orchestrator.tracking.opening_page


def listening(stack: Stack) -> list[Any]:
    """Listening TCP sockets of all processes of the stack."""
    found = []
    for record in stack.folder.read().processes.values():
        process = psutil.Process(record.pid)
        for each in (process, *process.children(recursive=True)):
            found += [socket.laddr for socket in each.net_connections("tcp") if socket.status == psutil.CONN_LISTEN]
    return found


def answer_of(port: int, method: str, path: str, **headers: str) -> int | None:
    """The status of an HTTP request; None where no HTTP is spoken."""
    connection = http.client.HTTPConnection(HOST, port, timeout=10)
    try:
        connection.request(method, path, body=b"x" if method == "POST" else None, headers=headers)
        return connection.getresponse().status
    except (http.client.HTTPException, OSError):
        return None
    finally:
        connection.close()


def test_every_socket_of_the_stack_listens_on_the_loopback_address(stack: Stack) -> None:
    sockets = listening(stack)
    assert {socket.port for socket in sockets} >= set(stack.folder.read().ports.values()) - {0}
    assert {socket.ip for socket in sockets} == {HOST}


@pytest.mark.parametrize("foreign", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}], ids=str)
def test_a_web_page_changes_nothing_through_any_port_of_the_stack(stack: Stack, foreign: dict[str, str]) -> None:
    requests = [
        ("POST", "/page/upload"),  # the filer
        ("DELETE", "/page/upload"),
        ("POST", "/dir/assign"),  # the master
        ("GET", "/col/delete?collection=agr"),
        ("POST", "/vol/grow?count=1"),
        ("POST", "/1,0123456789"),  # a volume
        ("DELETE", "/1,0123456789"),
        ("PUT", "/agr/page"),  # S3
        ("POST", "/api/2.0/mlflow/experiments/create"),
    ]
    answers = {
        (port, *request): answer_of(port, *request, **foreign)
        for port in sorted({socket.port for socket in listening(stack)})
        for request in requests
    }
    assert {key: status for key, status in answers.items() if status is not None and status < 400} == {}
    assert sum(status is not None for status in answers.values()) >= 4 * len(requests), "those that speak HTTP"


def test_mlflow_keeps_records_in_postgresql_and_artifacts_in_s3(stack: Stack, tmp_path: Path) -> None:
    import psycopg2

    client = mlflow(stack)
    run = client.create_run(client.create_experiment("where things go"))
    (tmp_path / "note.txt").write_text("an artifact")
    client.log_artifact(run.info.run_id, str(tmp_path / "note.txt"))
    database = psycopg2.connect(host=str(stack.folder.data("postgres")), user="postgres", dbname="mlflow")
    with database, database.cursor() as cursor:
        cursor.execute("select count(*) from runs where run_uuid = %s", (run.info.run_id,))
        assert cursor.fetchone() == (1,)
    database.close()
    stored = s3(stack).list_objects_v2(Bucket="mlflow")["Contents"]
    assert [entry["Key"].rsplit("/")[-1] for entry in stored] == ["note.txt"]


def test_the_store_asks_for_the_right_keys_and_makes_no_bucket_by_itself(stack: Stack) -> None:
    for wrong in ({"AWS_SECRET_ACCESS_KEY": "guessed"}, {"AWS_ACCESS_KEY_ID": "guessed"}):
        with pytest.raises(ClientError, match=r"SignatureDoesNotMatch|InvalidAccessKeyId"):
            s3(stack, **wrong).list_buckets()
    with pytest.raises(ClientError, match="NoSuchBucket"):
        s3(stack).put_object(Bucket="mistyped", Key="a", Body=b"")


def test_nothing_listens_beyond_the_loopback_address(stack: Stack) -> None:
    listening = [
        connection.laddr
        for record in stack.folder.read().processes.values()
        for process in (psutil.Process(record.pid), *psutil.Process(record.pid).children(recursive=True))
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {address.ip for address in listening} == {HOST}
    assert {address.port for address in listening} == set(stack.folder.read().ports.values())


def test_no_secret_is_seen_on_a_command_line_or_in_a_file_that_others_may_read(stack: Stack) -> None:
    secret = stack.environment()["AWS_SECRET_ACCESS_KEY"]
    assert len(secret) >= 40
    assert not any(secret in " ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"]))
    holding = [path for path in stack.folder.path.glob("*") if path.is_file() and secret in path.read_text()]
    assert holding == [stack.folder.identities]
    for path in (stack.folder.identities, stack.folder.record, *stack.folder.logs.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not any(secret in log.read_text() for log in stack.folder.logs.iterdir())
    for service in ("postgres", "s3"):
        assert stat.S_IMODE(stack.folder.data(service).stat().st_mode) == 0o700


def test_up_again_changes_nothing(stack: Stack) -> None:
    before = stack.folder.read()
    assert stack.up() == []
    assert stack.folder.read() == before


def test_what_died_is_started_again_and_the_rest_is_left_alone(stack: Stack) -> None:
    s3(stack).put_object(Bucket="agr", Key="kept", Body=b"bytes")
    before = stack.folder.read()
    for service in ("postgres", "s3"):
        kill(stack, service)
    assert states(stack) == {"postgres": "down", "s3": "down", "mlflow": "up"}
    assert stack.up() == ["postgres", "s3"]
    assert stack.folder.read().processes["mlflow"] == before.processes["mlflow"]
    assert stack.folder.read().ports == before.ports
    assert s3(stack).get_object(Bucket="agr", Key="kept")["Body"].read() == b"bytes"
    mlflow(stack).search_experiments()


def test_two_who_call_up_at_once_get_one_stack_also_when_mlflow_left_its_workers_behind(stack: Stack) -> None:
    kill(stack, "mlflow")  # its gunicorn lives on and holds the port
    said: list[str] = []
    started: list[list[str]] = []
    callers = [
        threading.Thread(target=lambda: started.append(Stack(stack.folder.path.parent, said.append).up()))
        for _ in range(2)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sorted(started) == [[], ["mlflow"]]
    assert "another `agr stack` command is running; waiting for it" in said
    assert set(states(stack).values()) == {"up"}


def test_down_leaves_nothing_running_and_the_way_out_of_a_taken_port_keeps_keys_and_data(stack: Stack) -> None:
    s3(stack).put_object(Bucket="agr", Key="stays", Body=b"x" * 5_000_000)
    mlflow(stack).create_experiment("stays")
    before, environment = stack.folder.read(), stack.environment()
    assert stack.down() == ["mlflow", "s3", "postgres"]
    assert_nothing_is_left(stack, before)
    assert set(states(stack).values()) == {"down"}
    assert stack.down() == []

    # Another program takes MLflow's port meanwhile: the same port is tried, and what was started is ended again.
    taken = rf"port {before.ports['mlflow']} of mlflow .* delete .*stack\.json and run `agr stack up`"
    with socket.create_server((HOST, before.ports["mlflow"])), pytest.raises(ServiceError, match=taken):
        stack.up()
    assert_nothing_is_left(stack, before)

    stack.folder.record.unlink()
    assert stack.up() == ["postgres", "s3", "mlflow"]
    assert set(stack.folder.read().ports.values()).isdisjoint(before.ports.values())
    for kept in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert stack.environment()[kept] == environment[kept]
    assert s3(stack).get_object(Bucket="agr", Key="stays")["Body"].read() == b"x" * 5_000_000
    s3(stack).put_object(Bucket="agr", Key="more", Body=b"bytes")
    assert mlflow(stack).get_experiment_by_name("stays") is not None
