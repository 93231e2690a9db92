"""What tests of all parts share: a clean environment, real S3 and MLflow servers, recorded sweeps."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection, HTTPException, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

import hypothesis
import pytest
from filelock import FileLock

# How long one example takes says more about the machine's other work than about our code.
hypothesis.settings.register_profile("agr", deadline=None)
hypothesis.settings.load_profile("agr")

_OURS = ("AGR_", "AWS_", "MLFLOW_", "RAY_")
_MLFLOW_START_TIMEOUT_S = 90.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Clusters and sweeps first: where files run side by side, a long one begun last runs alone."""
    tests = Path(__file__).parent
    first = ("cluster", "integration")

    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(tests).parts[0]
        return first.index(folder) if folder in first else len(first)

    items.sort(key=place)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the person who runs the tests reaches them, and nothing of theirs is written to."""
    for name in [name for name in os.environ if name.startswith(_OURS)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AGR_HOME", str(tmp_path / "agr-home"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "no-aws-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "no-aws-credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # else boto3 asks the network for credentials


@dataclass(frozen=True)
class S3Server:
    """A running SeaweedFS with one bucket. The keys exist only for this run."""

    endpoint: str
    bucket: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to reach it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def client(self) -> Any:
        """A plain boto3 client of it, to look at the store from outside."""
        import boto3
        from botocore.config import Config

        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, connect_timeout=2),
        )


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The local stack's S3 store alone, of this test session, started when the first test asks for it."""
    from orchestrator.services.process import end, last_lines, start
    from orchestrator.services.record import StackFolder, choose_ports
    from orchestrator.services.seaweedfs import BUCKETS, SeaweedFS
    from orchestrator.services.service import NotReadyError

    folder = StackFolder(tmp_path_factory.mktemp("s3"))
    folder.logs.mkdir()
    store = SeaweedFS(folder, choose_ports(SeaweedFS.ports))
    process = start(store.command(), folder=folder.path, log=folder.log(store.name))
    try:
        deadline = time.monotonic() + store.timeout_s
        while True:
            try:
                store.complete()
                break
            except NotReadyError as error:
                if time.monotonic() > deadline:
                    pytest.fail(f"SeaweedFS does not answer: {error}\n{last_lines(folder.log(store.name), 40)}")
                time.sleep(0.1)
        keys = store.credentials()
        assert keys is not None
        yield S3Server(store.address, BUCKETS[0], keys.access_key, keys.secret_key)
    finally:
        end(process, folder=folder.path, ask=signal.SIGKILL, grace_s=store.grace_s)
        store.clean()


@pytest.fixture
def s3_environment(s3_server: S3Server, clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The S3 server, with the environment of this test pointing at it."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def s3_uri(s3_environment: S3Server) -> str:
    """An empty place on the S3 server that no other test uses."""
    return f"s3://{s3_environment.bucket}/{secrets.token_hex(6)}"


@dataclass
class MlflowServer:
    """An MLflow server on a free loopback port, its database and artifacts below ``folder``."""

    folder: Path
    port: int
    _process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, again after a stop, and wait until it answers."""
        self.folder.mkdir(parents=True, exist_ok=True)
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        options += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        options += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self.folder / "mlflow.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *options],
                cwd=self.folder, env=environment, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        deadline = time.monotonic() + _MLFLOW_START_TIMEOUT_S
        while True:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"MLflow does not answer:\n{(self.folder / 'mlflow.log').read_text()[-3000:]}")
                time.sleep(0.1)

    def stop(self) -> None:
        """Stop it and its workers; no error if it does not run."""
        if self._process is not None:
            import psutil

            family = [self._process, *psutil.Process(self._process.pid).children(recursive=True)]
            for process in family:
                process.terminate()
            self._process.wait(timeout=20)
            psutil.wait_procs(family[1:], timeout=20)
            self._process = None


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """An MLflow server of this test session, started when the first test asks for it. Leave it running."""
    server = MlflowServer(tmp_path_factory.mktemp("mlflow"), _free_ports(["mlflow"])["mlflow"])
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_mlflow_server(tmp_path: Path) -> Iterator[MlflowServer]:
    """An MLflow server of this test alone, not started yet."""
    server = MlflowServer(tmp_path / "mlflow", _free_ports(["mlflow"])["mlflow"])
    yield server
    server.stop()


@pytest.fixture(scope="session")
def empty_mlflow_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with MLflow's tables, which take seconds to make: tests that run side by side share it."""
    from orchestrator.tracking import open_tracker

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    path, unfinished = folder / "empty-mlflow.db", folder / "unfinished-mlflow.db"
    with FileLock(folder / "empty-mlflow.lock"):
        if not path.exists():
            unfinished.unlink(missing_ok=True)
            open_tracker(f"sqlite:///{unfinished}").find_experiment("none")
            unfinished.rename(path)
    return path


@pytest.fixture
def embedded_mlflow(empty_mlflow_database: Path, clean_environment: None) -> None:
    """The embedded MLflow of this test, empty."""
    home = Path(os.environ["AGR_HOME"])
    home.mkdir(parents=True)
    shutil.copy(empty_mlflow_database, home / "mlflow.db")


class SmallDisk:
    """A file system of 8 MB, to be filled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, *, leave: int = 0) -> None:
        """Leave room for so many bytes, a whole number of pages."""
        with self._ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(2**12)):
                pass
        os.truncate(self._ballast, self._ballast.stat().st_size - leave)

    def make_room(self) -> None:
        """Free what ``fill`` took."""
        self._ballast.unlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk of this test alone. Mounting one needs root: skips without, in words; where CI is set it fails instead."""
    if os.geteuid() != 0:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "a disk to be filled is mounted by root, and this is not"
        )
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], check=True)
    yield SmallDisk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # lazy: a worker may still have a file open


class RecordedSweep:
    """Writes the journal, and the files of the trials, of a sweep that never ran."""

    def __init__(self, storage: Any, sweep_id: str = "faces-20260102-030405-abcd", **more: Any) -> None:
        from agr_core.objective import Objective
        from orchestrator.journal import JournalWriter
        from orchestrator.records import DriverStarted, SweepStarted

        self.storage = storage
        self.sweep_id = sweep_id
        self.now = 1_767_323_045.0
        self.writer = JournalWriter(storage, sweep_id)
        self._events: list[Any] = []
        started: dict[str, Any] = {
            "name": "faces",
            "experiment": "faces",
            "description": "Which small model reads faces best?",
            "tags": ("cpu", "example"),
            "objective": Objective(metric="val/age_mae", direction="minimize"),
            "document": {"name": "faces", "search": {"algorithm": "tpe", "trials": 4, "seed": 7}, "scheduler": "none"},
            "provenance": {"python": "3.11", "packages": {"torch": "2"}},
        }
        self.started = SweepStarted(time=self.tick(), sweep_id=sweep_id, **{**started, **more})
        self.record(self.started)
        self.record(DriverStarted(time=self.tick(), driver_id="0", host="here", pid=1, resumed=False))

    def tick(self, seconds: float = 1.0) -> float:
        """Let time pass; returns the time it is."""
        self.now += seconds
        return self.now

    def record(self, *events: Any) -> None:
        """Store events as the next segment, and the summary, as a driver does at each flush."""
        from orchestrator.pareto import plain
        from orchestrator.state import SweepState
        from orchestrator.storage import layout

        for event in events:
            self.writer.append(event)
        self.writer.flush()
        self._events = [*self._events, *events]
        state = SweepState.from_events(self._events)
        best = state.best()
        summary = {
            "sweep_id": self.sweep_id,
            "name": self.started.name,
            "status": state.status,
            "started": self.started.time,
            "heartbeat": self.now,
            "wall_s": self.now - self.started.time,
            "budget_wall_s": None,
            "objective": self.started.objective_document,
            "trials": {**state.counts(), "running": state.running},
            "planned": 4,
            "best": None
            if best is None or best.ended is None
            else {"trial_id": best.trial_id, "value": plain(best.ended.point)},
            "rerun_of": self.started.rerun_of,
        }
        self.storage.write(layout.summary(self.sweep_id), json.dumps(summary).encode())

    def create(self, number: int, params: dict[str, Any] | None = None, **more: Any) -> str:
        """A trial is proposed; ``params`` are dotted paths, laid over the default configuration."""
        from agr_core.config import TrialConfig
        from orchestrator.ids import trial_id
        from orchestrator.records import TrialCreated

        document: dict[str, Any] = {"model": {"name": "basic_cnn"}, "schedule": {"name": "constant", "epochs": 6}}
        document |= {"optimizer": {"name": "adam"}, "age": {"encoding": "onehot"}}
        for path, value in (params or {}).items():
            *folders, name = path.split(".")
            inner = document
            for folder in folders:
                inner = inner.setdefault(folder, {})
            inner[name] = value
        config = TrialConfig.from_document(document)
        created: dict[str, Any] = {"configuration": number, "data_digest": "d" * 64, "split_digest": "5" * 64}
        created |= {
            "config": config.to_document(),
            "params": params or {},
            "data_uri": f"{self.storage.uri}/datasets/d",
        }
        event = TrialCreated(
            time=self.tick(),
            trial_id=trial_id(self.sweep_id, number),
            number=number,
            proposal={},
            config_digest=f"{number:064x}",
            **{**created, **more},
        )
        self.record(event)
        return event.trial_id

    def start(self, trial: str, attempt: int = 0) -> None:
        """An attempt begins."""
        from orchestrator.records import AttemptStarted

        self.record(AttemptStarted(time=self.tick(), trial_id=trial, attempt=attempt, node="node-1"))

    def report(self, trial: str, epoch: int, value: float, attempt: int = 0, **more: float) -> None:
        """An epoch is over; ``value`` is its age error."""
        from agr_core.objective import weighted_sums
        from orchestrator.records import TrialReported

        metrics = {"train/loss": value / 10, "val/loss": value / 9, "val/age_mae": value, "val/age_cs5": 1 / value}
        metrics |= {"val/gender_acc": 1 - value / 40, "val/race_acc": 1 - value / 30, "time/epoch_s": 1.0, **more}
        metrics |= weighted_sums(self.started.objectives, metrics)
        objective = self.started.objective.value(metrics)
        event = TrialReported(
            time=self.tick(), trial_id=trial, attempt=attempt, epoch=epoch, value=objective, metrics=metrics
        )
        self.record(event)

    def end_trial(self, trial: str, outcome: Any, values: list[float], **more: Any) -> None:
        """A trial is over; ``values`` are those it reported."""
        from orchestrator.records import TrialEnded

        best = None
        if values:
            best = (min if self.started.objective.direction == "minimize" else max)(values)
        ended: dict[str, Any] = {"epochs": len(values), "value": best, "attempt": 0 if values else None}
        ended["best_epoch"] = None if best is None else values.index(best) + 1
        self.record(TrialEnded(time=self.tick(), trial_id=trial, outcome=outcome, **{**ended, **more}))

    def trial(
        self,
        number: int,
        values: list[float],
        outcome: Any = "completed",
        params: Any = None,
        *,
        files: bool = False,
        kept_epochs: dict[str, int] | None = None,
        **more: Any,
    ) -> str:
        """A whole trial, from proposal to end; its files only where asked for, because pictures of them take time."""
        trial = self.create(number, params, **more)
        self.start(trial)
        for epoch, value in enumerate(values, start=1):
            self.report(trial, epoch, value)
        if files:
            self.write_files(trial, values)
        self.end_trial(trial, outcome, values, kept_epochs=kept_epochs or {})
        return trial

    def write_files(self, trial: str, values: list[float], attempt: int = 0) -> None:
        """What an attempt leaves in the storage: record, metrics with a confusion matrix, log, weights."""
        from agr_core.reporting import EpochReport
        from orchestrator.storage import layout

        folder = layout.attempt(self.sweep_id, trial, attempt)
        tables = {"val/gender_confusion": {"labels": ["female", "male"], "counts": [[40, 10], [5, 45]]}}
        reports = [
            EpochReport(epoch=epoch, metrics={"val/age_mae": value, "val/loss": value}, tables=tables)
            for epoch, value in enumerate(values, start=1)
        ]
        lines = "".join(json.dumps(report.to_json()) + "\n" for report in reports)
        self.storage.write(
            f"{folder}/trial.json", json.dumps({"trial_id": trial, "config": {}, "provenance": {}}).encode()
        )
        self.storage.write(f"{folder}/metrics.jsonl", lines.encode())
        self.storage.write(f"{folder}/log.txt", f"trial {trial} trained\n".encode())
        for epoch in {1, values.index(min(values)) + 1} if values else ():
            self.storage.write(layout.best_weights(folder, epoch), f"weights of {trial}, {epoch}".encode())

    def read_test(self, trial: str, metrics: dict[str, float], label: str = "best") -> None:
        """The sealed test part is read with the weights kept for ``label``."""
        from orchestrator.records import TestRead

        tables = {"test/gender_confusion": {"labels": ["female", "male"], "counts": [[4, 1], [0, 5]]}}
        self.record(TestRead(time=self.tick(), trial_id=trial, label=label, metrics=metrics, tables=tables))

    def end(self, status: Any = "completed", reason: str = "") -> None:
        """The driver lets go."""
        from orchestrator.records import SweepEnded

        self.record(SweepEnded(time=self.tick(), status=status, reason=reason, wall_s=60.0))

    def resume(self) -> None:
        """Another driver takes over."""
        from orchestrator.records import DriverStarted

        self.record(DriverStarted(time=self.tick(), driver_id="1", host="there", pid=2, resumed=True))


@pytest.fixture
def record_sweep(tmp_path: Path) -> Callable[..., RecordedSweep]:
    """Begins a recorded sweep in the storage folder ``tmp_path / "storage"``."""
    from orchestrator.storage import open_storage

    return lambda *arguments, **more: RecordedSweep(open_storage(str(tmp_path / "storage")), *arguments, **more)


class S3Proxy:
    """Stands between a test and the S3 server: writes down every request, and does harm when told to.

    Attributes:
        server: The S3 server, at the proxy's address.
        requests: Method and path of each request, in order.
        down: Answer every request with 503; ``refused`` counts them.
        slow: Wait so long before each answer (seconds).
        lose: Let so many of the next writes through, and drop the connection instead of answering.
        damage: Change one byte in so many of the next answers to object reads.
        cut: Break off so many of the next answers to object reads in their middle.
        hold: Answer no read of an object of this file name until it is "".
        stop: Answer no write of an object of this file name until it is "".
    """

    def __init__(self, server: S3Server, port: int) -> None:
        self.server = replace(server, endpoint=f"http://127.0.0.1:{port}")
        self.target = server.endpoint.removeprefix("http://")
        self.requests: list[tuple[str, str]] = []
        self.down = False
        self.refused = 0
        self.slow = 0.0
        self.lose = self.damage = self.cut = 0
        self.hold = self.stop = ""
        self._lock = Lock()

    def reads_of(self, name: str) -> int:
        """How often objects of this file name were read, whole or in part."""
        return sum(method == "GET" and path.partition("?")[0].endswith(f"/{name}") for method, path in self.requests)

    def take(self, harm: str) -> bool:
        """Whether this harm is due, counting it down."""
        with self._lock:
            due = getattr(self, harm) > 0
            setattr(self, harm, getattr(self, harm) - due)
            return due


def _forwarding(proxy: S3Proxy) -> type[BaseHTTPRequestHandler]:
    class Forward(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            proxy.requests.append((self.command, self.path))
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            while self.waits():
                time.sleep(0.02)
            time.sleep(proxy.slow)
            if proxy.down:
                proxy.refused += 1
                self.send_error(503)
                return
            try:
                answer, data = self.ask(body)
            except (OSError, HTTPException):  # the server is down: so is what stands before it
                self.close_connection = True
                return
            is_object = self.command == "GET" and answer.status in (200, 206) and "list-type" not in self.path
            if self.command in ("PUT", "POST") and proxy.take("lose"):
                self.close_connection = True
                return
            if is_object and data and proxy.take("damage"):
                data[len(data) // 2] ^= 1
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "server", "date"):
                    self.send_header(name, value)
            length = answer.headers["Content-Length"] if self.command == "HEAD" else len(data)
            self.send_header("Content-Length", str(length or 0))
            self.end_headers()
            if is_object and data and proxy.take("cut"):
                del data[len(data) // 2 :]
                self.close_connection = True
            self.wfile.write(data)

        def waits(self) -> bool:
            name = {"GET": proxy.hold, "PUT": proxy.stop}.get(self.command)
            return bool(name) and self.path.endswith(f"/{name}")

        def ask(self, body: bytes) -> tuple[HTTPResponse, bytearray]:
            connection = HTTPConnection(proxy.target, timeout=30)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():  # the host too: it is signed
                if name.lower() != "expect":
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer, bytearray(answer.read())

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Tests look at ``requests``."""

    return Forward


@contextlib.contextmanager
def _before(server: S3Server) -> Iterator[S3Proxy]:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as listener:
        proxy = S3Proxy(server, listener.server_port)
        listener.RequestHandlerClass = _forwarding(proxy)
        listener.daemon_threads = True
        thread = Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield proxy
        listener.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def proxy_before() -> Callable[[S3Server], contextlib.AbstractContextManager[S3Proxy]]:
    """Puts a proxy before an S3 server."""
    return _before


@pytest.fixture
def s3_proxy(s3_environment: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Proxy]:
    """A proxy before the S3 server, with the environment of this test pointing at it."""
    with _before(s3_environment) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.server.endpoint)
        yield proxy


def _free_ports(names: list[str]) -> dict[str, int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    try:
        return {name: listener.getsockname()[1] for name, listener in zip(names, sockets, strict=True)}
    finally:
        for listener in sockets:
            listener.close()
