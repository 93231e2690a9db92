"""The tracker for MLflow; it imports mlflow at the first call (two seconds)."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

from filelock import FileLock

from orchestrator.errors import TrackerError, TrackerFaultError, TrackerUnavailableError
from orchestrator.settings import sqlite_path
from orchestrator.tracking.address import database_uri, read_address, remove_misnamed
from orchestrator.tracking.base import MetricPoint, RunStatus, TrackedData, TrackedRun, Tracker
from orchestrator.tracking.inputs import dataset_inputs
from orchestrator.tracking.mlflow_limits import (
    MAX_NAME,
    MAX_PARAM,
    MAX_TAG,
    batches,
    cut,
    milliseconds,
    quoted,
    text_of,
)

_PAGE = 200
"""Runs that a search asks for at a time; a database without a server takes some 200 KB of this process for each."""

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

_OLDER_LIMIT = re.compile(r"length limit of (\d+)")
"""Servers before MLflow 2.0 take 250 characters of a param, those before 2.8 take 500."""

_PERMANENT_TEXTS = ("out-of-date database schema", "CERTIFICATE_VERIFY_FAILED")
_ANSWERED_500 = re.compile(r"failed with error code 500|too many 500 error responses")
"""MLflow's text for an answer of the server, unlike a failed connection or a gateway's 502 to 504."""

_SILENCES = {
    re.compile(r"Connection refused|RemoteDisconnected|Connection reset"): "the connection is refused",
    re.compile(r"timed out|Timeout"): "no answer in time",
    re.compile(r"NameResolutionError|Name or service not known"): "no machine of that name is known",
}
"""What users read for the long texts of a failed connection."""

_REFUSED_LOGIN = frozenset({"PERMISSION_DENIED", "UNAUTHENTICATED"})
_HOW_TO_LOG_IN = (
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to an account of that server that may do this."
)
_HOW_TO_FIX = "Start it (`agr stack up`), correct MLFLOW_TRACKING_URI, or unset it to use SQLite below AGR_HOME."


class MlflowTracker(Tracker):
    """An MLflow server, or an MLflow database (SQLite, PostgreSQL) without one.

    One process at a time may use an instance, from one thread. ``artifacts`` is the folder for artifacts of new
    experiments in a database without a server.
    """

    def __init__(self, uri: str, artifacts: Path | None = None, *, timeout_s: int = 30) -> None:
        self._raw_uri = uri
        self._address = read_address(uri)
        self._uri = self._address.shown
        self._artifacts = artifacts
        self._timeout_s = timeout_s
        self._max_param = MAX_PARAM
        self._served = uri.startswith(("http://", "https://"))
        self._client_uri = self._uri if self._served else database_uri(uri)
        self._environment = {
            # MLflow would repeat ``create_run`` blindly and duplicate the run; our callers search before they retry.
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
        """Raise ``TrackerError`` unless MLflow answers. Servers and SQLite are checked without importing mlflow."""
        if self._served:
            self._check_server()
        elif self._sqlite_path is not None:
            self._check_sqlite(self._sqlite_path)
        else:
            with self._errors("look at"):
                self._client.search_experiments(max_results=1)

    def experiment(self, name: str) -> str:
        """Return the ID of the experiment of that name, created if missing."""
        from mlflow.exceptions import MlflowException

        existing_id = self.find_experiment(name)
        if existing_id is not None:
            return existing_id
        location = self._artifacts.as_uri() if self._artifacts is not None and not self._served else None
        with self._errors(f"create experiment {name!r} in"):
            try:
                return str(self._client.create_experiment(name, artifact_location=location))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another sweep made it in between
                    raise
        return self.experiment(name)

    def find_experiment(self, name: str) -> str | None:
        """Return the ID of the experiment of that name, or None.

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

    def create_run(self, experiment_id: str, name: str, start_time: float, tags: dict[str, str]) -> str:
        """Create a run; return its ID."""
        cut_tags = {tag: cut(value, MAX_TAG) for tag, value in tags.items()}
        with self._errors(f"create run {name!r} in"):
            run = self._client.create_run(
                experiment_id, start_time=milliseconds(start_time), tags=cut_tags, run_name=cut(name, MAX_NAME)
            )
        return str(run.info.run_id)

    def runs(self, experiment_id: str, tags: Mapping[str, str]) -> list[TrackedRun]:
        """Return all runs of an experiment whose tags include all of ``tags``, those with most data first."""
        query = " AND ".join(f"tags.`{name}` = {quoted(value)}" for name, value in tags.items())
        found: list[tuple[int, str, TrackedRun]] = []
        token = None
        with self._errors("search runs in"):
            while True:
                page = self._client.search_runs([experiment_id], query, max_results=_PAGE, page_token=token)
                for run in page:
                    size = len(run.data.metrics) + len(run.data.params)
                    tracked = TrackedRun(run.info.run_id, run.info.status, dict(run.data.tags))
                    found.append((-size, run.info.run_id, tracked))
                token = page.token
                if not token:
                    break
        return [run for _, _, run in sorted(found, key=itemgetter(0, 1))]

    def get_run(self, run_id: str) -> TrackedRun | None:
        """Return the run of that ID, or None."""
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
        """Hide a run; MLflow keeps it among the deleted ones."""
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
        """Add params, points and tags to a run, in as few requests as MLflow's limits allow."""
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.exceptions import MlflowException

        entities: list[tuple[str, Any, int]] = []  # kind, entity, rough size in bytes
        for name, value in (params or {}).items():
            text = cut(text_of(value), self._max_param)
            entities.append(("params", Param(name, text), len(text.encode())))
        for name, value in (tags or {}).items():
            text = cut(value, MAX_TAG)
            entities.append(("tags", RunTag(name, text), len(text.encode())))
        entities.extend(
            ("metrics", Metric(point.name, point.value, milliseconds(point.time), point.step), 0) for point in metrics
        )
        with self._errors(f"log to run {run_id} of"):
            for batch in batches(entities):
                try:
                    self._client.log_batch(run_id, **batch)
                except MlflowException as error:
                    limit = _OLDER_LIMIT.search(str(error))
                    if limit is None or not batch["params"] or int(limit[1]) >= self._max_param:
                        raise
                    self._max_param = int(limit[1])
                    batch["params"] = [Param(param.key, cut(param.value, self._max_param)) for param in batch["params"]]
                    self._client.log_batch(run_id, **batch)

    def log_data(self, run_id: str, data: Sequence[TrackedData]) -> None:
        """Show data sets as the inputs of a run."""
        with self._errors(f"log the data of run {run_id} to"):
            self._client.log_inputs(run_id, datasets=dataset_inputs(data))

    def log_artifact(self, run_id: str, path: Path, folder: str = "") -> None:
        """Store a file, or all files of a folder, under the run."""
        # An artifact store is a plug-in of MLflow (S3, Azure, ...) and may raise any exception.
        with self._errors(f"store artifact {path.name} in", Exception, timeout_s=_ARTIFACT_TIMEOUT_S):
            store = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            store(run_id, str(path), folder or None)

    def note_sizes(self) -> None:
        """Let SQLite note how large its tables are.

        Without that it reads all metrics for each run of a view: .6 s for 4,000 runs instead of .01. It looks at a part
        of each index (https://sqlite.org/lang_analyze.html), which takes milliseconds; PostgreSQL does it by itself.
        """
        if self._sqlite_path is None or self._is_blank:
            return
        with self._errors("analyze"), closing(sqlite3.connect(self._sqlite_path, timeout=self._timeout_s)) as database:
            database.execute("PRAGMA analysis_limit = 1000")
            database.execute("ANALYZE")

    def end(self, run_id: str, *, status: RunStatus, time: float) -> None:
        """Close a run."""
        with self._errors(f"end run {run_id} of"):
            self._client.set_terminated(run_id, status, end_time=milliseconds(time))

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
            client = MlflowClient(tracking_uri=self._client_uri)
        remove_misnamed(Path(self._client_uri.removeprefix("sqlite:///")).parent, path.parent)
        return client

    @property
    def _sqlite_path(self) -> Path | None:
        return sqlite_path(self._client_uri)

    @property
    def _is_blank(self) -> bool:
        """Return whether it is a database without tables. MLflow would create them, in seconds, and find them empty."""
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
        """Check by one plain request and, if that fails, by MLflow's own client.

        The client supports more ways to log in and to trust a certificate (``~/.mlflow/credentials``,
        ``MLFLOW_TRACKING_SERVER_CERT_PATH``, plug-ins), and takes two seconds to import.
        """
        problem = self._plain_problem()
        if problem is None:
            return
        if isinstance(problem, TrackerUnavailableError):
            raise problem
        try:
            with self._errors("look at", timeout_s=min(_CHECK_TIMEOUT_S, self._timeout_s)):
                self._client.search_experiments(max_results=1)
        except TrackerError as error:
            raise problem from error

    def _plain_problem(self) -> TrackerError | None:
        """Return why a plain ``requests`` call fails; None if it succeeds."""
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
        except requests.exceptions.SSLError:
            return TrackerError(
                f"the certificate of MLflow at {self._uri} is not trusted. Set MLFLOW_TRACKING_SERVER_CERT_PATH to the "
                "PEM file of the authority that signed it."
            )
        except requests.RequestException as error:
            reason = "no answer in time" if isinstance(error, requests.Timeout) else "the connection is refused"
            return TrackerUnavailableError(f"MLflow at {self._uri} does not answer: {reason}. {_HOW_TO_FIX}")
        if response.status_code in (401, 403):
            return TrackerError(f"MLflow at {self._uri} refuses the login: {_HOW_TO_LOG_IN}")
        if not response.ok or not response.headers.get("Content-Type", "").startswith("application/json"):
            return TrackerError(f"the server at {self._uri} (HTTP {response.status_code}) is not MLflow. {_HOW_TO_FIX}")
        return None

    @contextmanager
    def _errors(self, doing: str, *unavailable: type[Exception], timeout_s: int | None = None) -> Iterator[None]:
        """Translate MLflow's exceptions into ``TrackerError``, separating refusals from outages.

        ``unavailable`` lists further exceptions that mean an outage.
        """
        # MLflow reads these at each call.
        os.environ.update({**self._environment, "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout_s or self._timeout_s)})
        import requests
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        silence: tuple[type[Exception], ...] = (
            OSError,
            requests.RequestException,
            SQLAlchemyError,
            sqlite3.Error,
            *unavailable,
        )
        try:
            yield
        except MlflowException as error:
            permanent = error.error_code in _PERMANENT or any(text in str(error) for text in _PERMANENT_TEXTS)
            kind = TrackerError if permanent else TrackerUnavailableError
            if not permanent and _ANSWERED_500.search(str(error)):
                kind = TrackerFaultError
            text = self._describe(doing, error)
            if error.error_code in _REFUSED_LOGIN:
                text = f"{text.rstrip('.')}. The login is refused: {_HOW_TO_LOG_IN}"
            raise kind(text) from error
        except silence as error:
            raise TrackerUnavailableError(self._describe(doing, error)) from error

    def _describe(self, doing: str, error: Exception) -> str:
        if "Max retries exceeded" in str(error):
            for text, reason in _SILENCES.items():
                if text.search(str(error)):
                    return f"MLflow at {self._uri} does not answer: {reason}. {_HOW_TO_FIX}"
        reason = self._address.hide(str(error).split("\n", 1)[0].replace(self._raw_uri, self._uri))
        return f"cannot {doing} MLflow at {self._uri}: {reason}"
