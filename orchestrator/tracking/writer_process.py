"""The child process that writes MLflow for a running sweep: ``agr sync --follow``, started by the driver.

A separate process keeps MLflow's import and latency out of the driver. It reads the journal from the storage; when
MLflow is down it waits, and the sweep continues.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import TrackerError
from orchestrator.settings import Settings
from orchestrator.storage.base import Storage

_FULL = re.compile(r"disk is full|disk full|no space left|quota exceeded|disk I/O error", re.IGNORECASE)
"""Messages of SQLite, the system and this project for a full disk."""

_LEAST_BYTES = 2**20
"""Free bytes below which SQLite cannot commit."""


@dataclass(frozen=True)
class ParentRun:
    """MLflow's run of the sweep."""

    tracking_uri: str
    experiment_id: str
    run_id: str
    link: str


class MlflowWriter:
    """The running child process. Its output goes to a log file under ``AGR_HOME/logs``."""

    def __init__(self, storage: Storage, sweep_id: str, settings: Settings) -> None:
        self._place = storage.uri
        self.log = settings.home / "logs" / f"sync-{sweep_id}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-P", "-m", "orchestrator.cli.main", "sync", storage.uri, "--follow", sweep_id]
        with self.log.open("ab") as log:
            # Own session: Ctrl-C is for the driver, and its last events must still be delivered.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        self._parent: ParentRun | None = None
        self._known = threading.Event()
        self._reader = threading.Thread(target=self._read, name="mlflow-writer", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None, "stdout is a pipe"
        for line in self._process.stdout:
            document: dict[str, Any] = json.loads(line)
            self._parent = ParentRun(
                tracking_uri=document["tracking_uri"],
                experiment_id=document["experiment_id"],
                run_id=document["run_id"],
                link=document["link"],
            )
            self._known.set()
        self._known.set()

    def parent_run(self, timeout_s: float | None = 0.0) -> ParentRun | None:
        """Return MLflow's run of the sweep as soon as it exists; wait up to ``timeout_s`` seconds for it."""
        self._known.wait(timeout_s)
        return self._parent

    def full_disk(self) -> str | None:
        """Return the message that MLflow cannot be written because a local disk is full; None otherwise.

        It is the writer's last output, or a check of the disks of its log and of the embedded database.
        """
        words = last_line(self.log)
        if _FULL.search(words) is not None:
            return words
        free = shutil.disk_usage(self.log.parent).free
        return f"the disk of {self.log.parent} is full" if free < _LEAST_BYTES else None

    def finish(self, timeout_s: float) -> bool:
        """Wait until everything is delivered; return False after ``timeout_s``, and let the writer continue alone.

        Raises:
            TrackerError: If the writer failed.
        """
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        self._reader.join(timeout=5)
        if code != 0:
            raise TrackerError(
                f"the MLflow writer ended with exit code {code}: {last_line(self.log)} (log: {self.log}). "
                f"`agr sync {self._place}` delivers the rest."
            )
        return True


def last_line(path: Path) -> str:
    """Return the last line of a text file that is not blank; empty without one."""
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""
