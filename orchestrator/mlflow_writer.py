"""The one process that writes MLflow for a running sweep: ``agr sync --follow``, started by the driver.

A process of its own, so that neither MLflow's import nor its latency touches the driver. It reads the journal from the
storage; when MLflow is down it waits, and the sweep goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import TrackerError
from orchestrator.settings import Settings
from orchestrator.storage.base import Storage


@dataclass(frozen=True)
class ParentRun:
    """Where MLflow shows the sweep."""

    tracking_uri: str
    experiment_id: str
    run_id: str
    link: str


class MlflowWriter:
    """The running child process. Its words go to a log file under ``AGR_HOME/logs``."""

    def __init__(self, storage: Storage, sweep_id: str, settings: Settings) -> None:
        self._place = storage.uri
        self.log = settings.home / "logs" / f"sync-{sweep_id}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "orchestrator.cli.main", "sync", storage.uri, "--follow", sweep_id]
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C is for the driver, and what it stored then must still be delivered.
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
        """Where the sweep is shown, as soon as MLflow has it; waits up to ``timeout_s`` for that."""
        self._known.wait(timeout_s)
        return self._parent

    def finish(self, timeout_s: float) -> bool:
        """Wait until everything is delivered; False if that takes longer, and then the writer goes on by itself.

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
    """The last line of a text file that is not blank; empty without one."""
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""
