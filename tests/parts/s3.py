"""Fixtures: a real S3 store, SeaweedFS."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest


@dataclass(frozen=True)
class S3Server:
    """Running SeaweedFS with one bucket. The keys exist only for this run."""

    endpoint: str
    bucket: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables that a client process needs."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def client(self) -> Any:
        """Return a plain boto3 client, to inspect the store directly."""
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
    """Return the S3 store of the local stack, started on first use in this test session."""
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
    """Return the S3 server and point this test's environment at it."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture
def s3_uri(s3_environment: S3Server) -> str:
    """Return an empty prefix on the S3 server for this test only."""
    return f"s3://{s3_environment.bucket}/{secrets.token_hex(6)}"
