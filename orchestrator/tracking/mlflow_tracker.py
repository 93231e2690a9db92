"""MLflow as the tracker; the only module that imports mlflow, and only when the first call needs it (two seconds)."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from filelock import FileLock

from orchestrator.errors import TrackerError, TrackerUnavailableError
from orchestrator.tracking.address import database_uri, read_address
from orchestrator.tracking.base import MetricPoint, RunStatus, TrackedRun

CUT = " …(cut, see trial.json)"
"""End of a param or tag that is longer than MLflow takes."""

_MAX_PARAM = 6_000
_MAX_TAG = 8_000
_MAX_BATCH = {"params": 100, "tags": 100, "metrics": 800}  # together the 1,000 entities MLflow takes at most
_MAX_BATCH_BYTES = 500_000  # MLflow takes 1 MB of JSON

_CHECK_TIMEOUT_S = 10
_ARTIFACT_TIMEOUT_S = 600  # weights, which a server may pass on to S3 before it answers

_PERMANENT = frozenset(
    {
        "BAD_REQUEST",
        "ENDPOINT_NOT_FOUND",
        "INVALID_PARAMETER_VALUE",
        "INVALID_STATE",
        "PERMISSION_DENIED",
        "RESOURCE_ALREADY_EXISTS",
        "RESOURCE_DOES_NOT_EXIST",
        "UNAUTHENTICATED",
    }
)

_REFUSED_LOGIN = frozenset({"PERMISSION_DENIED", "UNAUTHENTICATED"})
_HOW_TO_LOG_IN = (
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to an account of that server that may do this."
)
_HOW_TO_FIX = "Start it (`agr stack up`), correct MLFLOW_TRACKING_URI, or unset it to use SQLite below AGR_HOME."


class MlflowTracker:
    """An MLflow server, or an MLflow database (SQLite, PostgreSQL) without one.

    One process at a time may use an instance, from one thread. ``artifacts`` is where a database without a server puts
    the artifacts of new experiments.
    """

    def __init__(self, uri: str, artifacts: Path | None = None, *, timeout_s: int = 30) -> None:
        self._raw_uri = uri
        self._address = read_address(uri)
        self._uri = self._address.shown
        self._artifacts = artifacts
        self._timeout_s = timeout_s
        self._served = uri.startswith(("http://", "https://"))
        self._client_uri = self._uri if self._served else database_uri(uri)
        self._environment = {
            # MLflow would repeat ``create_run`` blindly and double the run; our callers search before they retry.
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
            "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        if self._served and self._address.user is not None:
            self._environment |= {
                "MLFLOW_TRACKING_USERNAME": self._address.user,
                "MLFLOW_TRACKING_PASSWORD": self._address.password or "",
            }

    @property
    def uri(self) -> str:
        """Address without credentials."""
        return self._uri

    def check(self) -> None:
        """Raise ``TrackerError`` unless MLflow answers. Server and SQLite are asked without importing mlflow."""
        if self._served:
            self._check_server()
        elif self._sqlite_path is not None:
            self._check_sqlite(self._sqlite_path)
        else:
            with self._errors("look at"):
                self._client.search_experiments(max_results=1)

    def experiment(self, name: str) -> str:
        """ID of the experiment of that name, made if need be."""
        from mlflow.exceptions import MlflowException

        found = self.find_experiment(name)
        if found is not None:
            return found
        location = self._artifacts.as_uri() if self._artifacts is not None and not self._served else None
        with self._errors(f"create experiment {name!r} in"):
            try:
                return str(self._client.create_experiment(name, artifact_location=location))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another sweep made it in between
                    raise
        return self.experiment(name)

    def find_experiment(self, name: str) -> str | None:
        """ID of the experiment of that name, or None.

        Raises:
            TrackerError: If it was deleted: its name stays taken.
        """
        if self._is_blank:
            return None
        with self._errors(f"find experiment {name!r} in"):
            experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            return None
        if experiment.lifecycle_stage != "active":
            raise TrackerError(
                f"experiment {name!r} was deleted in MLflow ({self._uri}) and its name stays taken: restore it "
                f"(`mlflow experiments restore -x {experiment.experiment_id}`) or give the sweep another `experiment:`."
            )
        return str(experiment.experiment_id)

    def set_experiment_tags(self, experiment_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of an experiment."""
        with self._errors("tag an experiment in"):
            for name, value in tags.items():
                self._client.set_experiment_tag(experiment_id, name, value)

    def run(
        self,
        experiment_id: str,
        key: Mapping[str, str],
        *,
        name: str,
        start_time: float,
        parent_run_id: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """ID of the one run whose tags include all of ``key``, made if there is none."""
        found = self.find_run(experiment_id, key)
        if found is not None:
            return found
        all_tags = {name: _cut(value, _MAX_TAG) for name, value in {**(tags or {}), **key}.items()}
        if parent_run_id is not None:
            all_tags["mlflow.parentRunId"] = parent_run_id
        with self._errors(f"create run {name!r} in"):
            run = self._client.create_run(experiment_id, start_time=_ms(start_time), tags=all_tags, run_name=name)
        return str(run.info.run_id)

    def find_run(self, experiment_id: str, key: Mapping[str, str]) -> str | None:
        """ID of the run whose tags include all of ``key``, or None."""
        found = self.runs(experiment_id, key)
        return found[0].run_id if found else None

    def runs(self, experiment_id: str, tags: Mapping[str, str]) -> list[TrackedRun]:
        """All runs of an experiment whose tags include all of ``tags``, those with most data first."""
        query = " AND ".join(f"tags.`{name}` = {_quoted(value)}" for name, value in tags.items())
        found, token = [], None
        with self._errors("search runs in"):
            while True:
                page = self._client.search_runs([experiment_id], query, max_results=1000, page_token=token)
                found.extend(page)
                token = page.token
                if not token:
                    break
        found.sort(key=lambda run: (-len(run.data.metrics) - len(run.data.params), run.info.run_id))
        return [TrackedRun(run.info.run_id, run.info.status, dict(run.data.tags)) for run in found]

    def get_run(self, run_id: str) -> TrackedRun | None:
        """The run of that ID, or None."""
        if self._is_blank:
            return None
        from mlflow.exceptions import MlflowException

        with self._errors(f"read run {run_id} from"):
            try:
                run = self._client.get_run(run_id)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return None
        if run.info.lifecycle_stage != "active":
            return None
        return TrackedRun(run.info.run_id, run.info.status, dict(run.data.tags))

    def delete_run(self, run_id: str) -> None:
        """Remove a run from sight; MLflow keeps it among the deleted ones."""
        with self._errors(f"delete run {run_id} from"):
            self._client.delete_run(run_id)

    def log(
        self,
        run_id: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Sequence[MetricPoint] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Add params, points and tags to a run, in as few calls as MLflow's limits allow."""
        from mlflow.entities import Metric, Param, RunTag

        entities: list[tuple[str, Any, int]] = []  # kind, entity, rough size in bytes
        for name, value in (params or {}).items():
            text = _cut(_text(value), _MAX_PARAM)
            entities.append(("params", Param(name, text), len(text.encode())))
        for name, value in (tags or {}).items():
            text = _cut(value, _MAX_TAG)
            entities.append(("tags", RunTag(name, text), len(text.encode())))
        entities.extend(
            ("metrics", Metric(point.name, point.value, _ms(point.time), point.step), 0) for point in metrics
        )
        with self._errors(f"log to run {run_id} of"):
            for batch in _batches(entities):
                self._client.log_batch(run_id, **batch)

    def log_artifact(self, run_id: str, path: Path, folder: str = "") -> None:
        """Store a file, or all that is in a folder, under the run."""
        # An artifact store is a plug-in of MLflow (S3, Azure, ...) and raises what it likes.
        with self._errors(f"store artifact {path.name} in", Exception, timeout_s=_ARTIFACT_TIMEOUT_S):
            store = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            store(run_id, str(path), folder or None)

    def end(self, run_id: str, *, status: RunStatus, time: float) -> None:
        """Close a run."""
        with self._errors(f"end run {run_id} of"):
            self._client.set_terminated(run_id, status, end_time=_ms(time))

    def reopen(self, run_id: str) -> None:
        """Make a closed run ``RUNNING`` again."""
        with self._errors(f"reopen run {run_id} of"):
            self._client.update_run(run_id, status="RUNNING")

    @cached_property
    def _client(self) -> Any:
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        path = self._sqlite_path
        if path is None:
            return MlflowClient(tracking_uri=self._client_uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        # The client makes the schema of a new database. Two processes that do so at once break each other.
        with FileLock(f"{path}.lock"):
            return MlflowClient(tracking_uri=self._client_uri)

    @property
    def _sqlite_path(self) -> Path | None:
        scheme, _, path = self._client_uri.partition("sqlite:///")
        return None if scheme else Path(path)

    @property
    def _is_blank(self) -> bool:
        """Whether it is a database without tables. MLflow would make them, in seconds, to find nothing in them."""
        path = self._sqlite_path
        return path is not None and (not path.exists() or path.stat().st_size == 0)

    def _check_sqlite(self, path: Path) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("PRAGMA schema_version")
        except (OSError, sqlite3.Error) as error:
            raise TrackerError(f"cannot use the MLflow database {path}: {error}. {_HOW_TO_FIX}") from error

    def _check_server(self) -> None:
        import requests

        login = (
            self._address.user or os.environ.get("MLFLOW_TRACKING_USERNAME", ""),
            self._address.password or os.environ.get("MLFLOW_TRACKING_PASSWORD", ""),
        )
        token = os.environ.get("MLFLOW_TRACKING_TOKEN")
        try:
            response = requests.get(
                f"{self._uri.rstrip('/')}/api/2.0/mlflow/experiments/search",
                params={"max_results": 1},
                auth=login if login[0] else None,
                headers={"Authorization": f"Bearer {token}"} if token and not login[0] else None,
                timeout=min(_CHECK_TIMEOUT_S, self._timeout_s),
            )
        except requests.RequestException as error:
            reason = "no answer in time" if isinstance(error, requests.Timeout) else "nothing there takes a connection"
            raise TrackerUnavailableError(f"MLflow at {self._uri} does not answer: {reason}. {_HOW_TO_FIX}") from error
        if response.status_code in (401, 403):
            raise TrackerError(f"MLflow at {self._uri} refuses the login: {_HOW_TO_LOG_IN}")
        if not response.ok or not response.headers.get("Content-Type", "").startswith("application/json"):
            raise TrackerError(
                f"what answers at {self._uri} (HTTP {response.status_code}) is not MLflow. {_HOW_TO_FIX}"
            )

    @contextmanager
    def _errors(self, doing: str, *unavailable: type[Exception], timeout_s: int | None = None) -> Iterator[None]:
        """Turn what MLflow raises into ``TrackerError``, telling refusal from silence.

        ``unavailable`` names further exceptions that mean silence.
        """
        # MLflow reads these at each call.
        os.environ.update({**self._environment, "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout_s or self._timeout_s)})
        import requests
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        silence: tuple[type[Exception], ...] = (OSError, requests.RequestException, SQLAlchemyError, *unavailable)
        try:
            yield
        except MlflowException as error:
            permanent = error.error_code in _PERMANENT or "out-of-date database schema" in str(error)
            kind = TrackerError if permanent else TrackerUnavailableError
            text = self._describe(doing, error)
            if error.error_code in _REFUSED_LOGIN:
                text = f"{text.rstrip('.')}. The login is refused: {_HOW_TO_LOG_IN}"
            raise kind(text) from error
        except silence as error:
            raise TrackerUnavailableError(self._describe(doing, error)) from error

    def _describe(self, doing: str, error: Exception) -> str:
        reason = self._address.hide(str(error).split("\n", 1)[0].replace(self._raw_uri, self._uri))
        return f"cannot {doing} MLflow at {self._uri}: {reason}"


def _batches(entities: Sequence[tuple[str, Any, int]]) -> Iterator[dict[str, list[Any]]]:
    """Arguments of ``log_batch`` calls that keep within MLflow's limits, in order."""
    batch: dict[str, list[Any]] = {kind: [] for kind in _MAX_BATCH}
    size = 0
    for kind, entity, entity_bytes in entities:
        if len(batch[kind]) == _MAX_BATCH[kind] or size + entity_bytes > _MAX_BATCH_BYTES:
            yield batch
            batch, size = {kind: [] for kind in _MAX_BATCH}, 0
        batch[kind].append(entity)
        size += entity_bytes
    if any(batch.values()):
        yield batch


def _text(value: Any) -> str:
    """A param as YAML would show it: words as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - len(CUT)] + CUT


def _quoted(value: str) -> str:
    """A string literal of MLflow's filter language, which has no escapes."""
    if "'" not in value:
        return f"'{value}'"
    if '"' not in value:
        return f'"{value}"'
    raise TrackerError(f"{value!r} holds both kinds of quotes; MLflow cannot search for it.")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
