"""The MLflow server: records in the stack's PostgreSQL, artifacts in its S3 store, both behind one address."""

from __future__ import annotations

import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping

from orchestrator.errors import ServiceError
from orchestrator.services.postgres import Postgres
from orchestrator.services.process import Command
from orchestrator.services.record import HOST
from orchestrator.services.seaweedfs import REGION, SeaweedFS
from orchestrator.services.service import NotReadyError
from orchestrator.tracking.opening_page import GUNICORN_OPTIONS

_ANSWER_S = 5.0


class MlflowServer:
    """The tracking server (``Service``)."""

    name = "mlflow"
    needs: tuple[str, ...] = ("postgres",)
    ports: tuple[str, ...] = ("mlflow",)
    stop_signal = signal.SIGTERM
    grace_s = 10.0
    timeout_s = 180.0  # a new database takes all of MLflow's migrations

    def __init__(self, postgres: Postgres, s3: SeaweedFS, ports: Mapping[str, int]) -> None:
        self._postgres = postgres
        self._s3 = s3
        self._ports = ports

    @property
    def address(self) -> str:
        """Address for ``MLFLOW_TRACKING_URI`` and the browser."""
        return f"http://{HOST}:{self._ports['mlflow']}"

    def command(self) -> Command:
        """The server's command (``Service.command``).

        gunicorn with two workers of four threads logs a run of 96 points 3.8 times faster than uvicorn with two
        workers; importing once for both (``--preload``) halves the start-up time.
        """
        credentials = self._s3.credentials()
        if credentials is None:
            raise ServiceError("the S3 store has no credentials yet: it must start before MLflow.")
        arguments = [sys.executable, "-P", "-m", "mlflow", "server", "--host", HOST]
        arguments += ["--port", str(self._ports["mlflow"])]
        arguments += ["--backend-store-uri", self._postgres.address, "--artifacts-destination", "s3://mlflow"]
        # --workers, because MLflow appends a worker count of its own to these options.
        arguments += ["--workers", "2", "--gunicorn-opts", f"{GUNICORN_OPTIONS} --preload"]
        return Command(
            tuple(arguments),
            environment={
                "AWS_ACCESS_KEY_ID": credentials.access_key,
                "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
                "AWS_DEFAULT_REGION": REGION,
                "MLFLOW_S3_ENDPOINT_URL": self._s3.address,
                "MLFLOW_DISABLE_TELEMETRY": "true",
                # Its jobs evaluate language models, and their seven idle processes take 1.6 GB.
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "PYTHONSAFEPATH": "1",
            },
        )

    def check(self) -> None:
        """Request ``/health`` (``Service.check``)."""
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy for the loopback address
        try:
            with direct.open(f"{self.address}/health", timeout=_ANSWER_S) as response:
                answer = response.read(64)
        except (urllib.error.URLError, OSError) as error:
            raise NotReadyError(f"{self.address}/health: {error}") from error
        if answer != b"OK":
            raise NotReadyError(f"{self.address}/health answered {answer!r}, not OK: is it MLflow?")

    def complete(self) -> None:
        """Do nothing: it is complete once it answers (``Service.complete``)."""

    def clean(self) -> None:
        """Do nothing: it leaves no files behind (``Service.clean``)."""
