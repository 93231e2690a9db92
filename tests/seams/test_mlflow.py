"""How MLflow behaves where we rely on it, or work around it. A failure here after an upgrade is news, not a bug."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from orchestrator.tracking import mlflow_limits


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory, empty_mlflow_database: Path) -> str:
    return f"sqlite:///{shutil.copy(empty_mlflow_database, tmp_path_factory.mktemp('mlflow'))}"


@pytest.fixture(scope="module")
def client(uri: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


@pytest.fixture
def run_id(client: Any) -> str:
    experiment = client.get_experiment_by_name("seams")
    experiment_id = client.create_experiment("seams") if experiment is None else experiment.experiment_id
    return str(client.create_run(experiment_id, start_time=1_000).info.run_id)


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("val/age_f1.utk7", True),
        ("a b-c:d", True),
        ("f1@utk7", False),
        ("f1[utk7]", False),
        ("val//loss", False),
    ],
)
def test_metric_names(client: Any, run_id: str, name: str, taken: bool) -> None:
    from mlflow.exceptions import MlflowException

    if taken:
        client.log_metric(run_id, name, 1.0)
    else:
        with pytest.raises(MlflowException, match="Invalid value"):
            client.log_metric(run_id, name, 1.0)


def test_limits_are_those_we_keep_to() -> None:
    from mlflow.utils import validation

    assert mlflow_limits.MAX_PARAM == validation.MAX_PARAM_VAL_LENGTH
    assert mlflow_limits.MAX_TAG == validation.MAX_TAG_VAL_LENGTH
    assert mlflow_limits._MAX_BATCH["params"] == validation.MAX_PARAMS_TAGS_PER_BATCH
    assert mlflow_limits._MAX_BATCH["tags"] == validation.MAX_PARAMS_TAGS_PER_BATCH
    assert sum(mlflow_limits._MAX_BATCH.values()) == validation.MAX_ENTITIES_PER_BATCH
    assert mlflow_limits._MAX_BATCH_BYTES <= validation.MAX_BATCH_LOG_REQUEST_SIZE / 2
    assert validation.MAX_EXPERIMENT_TAG_VAL_LENGTH == 20_000


def test_a_long_param_is_cut_silently_which_is_why_we_cut_it_ourselves(client: Any, run_id: str) -> None:
    client.log_param(run_id, "long", "x" * 7000)

    assert client.get_run(run_id).data.params["long"] == "x" * 6000


def test_an_identical_point_is_kept_once_and_another_value_twice(client: Any, run_id: str) -> None:
    for value in (1.0, 1.0, 2.0):
        client.log_metric(run_id, "m", value, timestamp=5, step=1)

    assert sorted(point.value for point in client.get_metric_history(run_id, "m")) == [1.0, 2.0]


def test_a_changed_param_is_refused(client: Any, run_id: str) -> None:
    from mlflow.exceptions import MlflowException

    client.log_param(run_id, "seed", "1")
    client.log_param(run_id, "seed", "1")

    with pytest.raises(MlflowException) as caught:
        client.log_param(run_id, "seed", "2")
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_infinity_becomes_a_number_which_is_why_we_refuse_it(client: Any, run_id: str) -> None:
    client.log_metric(run_id, "inf", float("inf"))

    assert client.get_run(run_id).data.metrics["inf"] == pytest.approx(sys.float_info.max)


def test_explicit_times_are_kept(client: Any, run_id: str) -> None:
    client.set_terminated(run_id, "KILLED", end_time=9_000)

    info = client.get_run(run_id).info
    assert (info.start_time, info.end_time, info.status) == (1_000, 9_000, "KILLED")


def test_an_ended_run_takes_more_and_can_run_again(client: Any, run_id: str) -> None:
    client.set_terminated(run_id, "FINISHED", end_time=9_000)
    client.log_metric(run_id, "late", 1.0)
    client.update_run(run_id, status="RUNNING")

    assert client.get_run(run_id).info.status == "RUNNING"


def test_the_name_of_a_deleted_experiment_stays_taken(client: Any) -> None:
    from mlflow.exceptions import MlflowException

    experiment_id = client.create_experiment("deleted")
    client.delete_experiment(experiment_id)

    assert client.get_experiment_by_name("deleted").lifecycle_stage == "deleted"
    with pytest.raises(MlflowException) as caught:
        client.create_experiment("deleted")
    assert caught.value.error_code == "RESOURCE_ALREADY_EXISTS"


def test_filters_need_backticks_around_names_with_slashes(client: Any, run_id: str) -> None:
    from mlflow.exceptions import MlflowException

    client.log_metric(run_id, "best/age_mae", 5.0)
    experiment_id = client.get_run(run_id).info.experiment_id

    found = client.search_runs([experiment_id], "metrics.`best/age_mae` = 5.0", order_by=["metrics.`best/age_mae`"])

    assert [run.info.run_id for run in found] == [run_id]
    with pytest.raises(MlflowException):
        client.search_runs([experiment_id], "metrics.best/age_mae = 5.0")


@pytest.mark.slow
def test_making_a_client_makes_the_schema_which_is_why_it_is_made_under_a_lock(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/new.db")

    assert (tmp_path / "new.db").stat().st_size > 100_000


def test_the_file_store_is_refused_which_is_why_sqlite_is_the_default(tmp_path: Path) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException, match="file"):
        MlflowClient(tracking_uri=f"file://{tmp_path}/mlruns").search_experiments()


def test_sqlalchemy_reads_postgresql_as_the_driver_we_do_not_have() -> None:
    from sqlalchemy.engine import make_url

    assert make_url("postgresql://host/db").get_driver_name() == "psycopg"
    assert make_url("postgresql+psycopg2://host/db").get_driver_name() == "psycopg2"


def test_mlflow_imports_neither_torch_nor_ray() -> None:
    program = "import sys\nfrom mlflow import MlflowClient\nprint({'torch', 'ray'} & sys.modules.keys())"

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "set()"


@pytest.fixture
def refusing() -> Iterator[tuple[str, list[str]]]:
    """A server that answers 503 to everything; yields its address and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_response(503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("retries", [0, 2])
def test_a_creation_is_repeated_blindly_unless_retries_are_off(
    refusing: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch, retries: int
) -> None:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    address, asked = refusing
    client = MlflowClient(tracking_uri=address)
    # Set after the client was made: the settings are read at each call.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", str(retries))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")

    with pytest.raises(MlflowException):
        client.create_run("1")

    assert len([path for path in asked if path.endswith("runs/create")]) == 1 + retries


@pytest.mark.services
def test_ending_a_run_prints_its_address_unless_told_not_to(
    mlflow_server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=mlflow_server.uri)
    run_id = client.create_run("0").info.run_id
    client.set_terminated(run_id)
    assert run_id in capsys.readouterr().out

    monkeypatch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    client.set_terminated(run_id)
    assert capsys.readouterr().out == ""
