"""Driver in a background process of this machine, which outlives the command and terminal that started it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.cluster.jobs import JobState

_LAST_LINES = 12


@dataclass
class BackgroundDriver:
    """An ``agr`` command that runs in its own session, with its output in a file."""

    log: Path
    address: str | None = None
    """Address of the Ray cluster; None: that of the environment."""
    _process: subprocess.Popen[bytes] | None = None

    def run(self, command: Sequence[str]) -> None:
        """Start ``agr`` with these arguments.

        Raises:
            InputError: If the log file cannot be written.
        """
        from agr_core.errors import InputError

        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            output = self.log.open("ab")
        except OSError as error:
            raise InputError(f"the log {self.log} cannot be written ({error.strerror}); set AGR_HOME.") from error
        # The child inherits ignored signals. In its own session it does not receive the terminal's Ctrl-C.
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "orchestrator.cli.main", *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ if self.address is None else {**os.environ, "RAY_ADDRESS": self.address},
                start_new_session=True,
            )
        signal.signal(signal.SIGHUP, before)

    @property
    def where(self) -> str:
        """Where it runs, as text."""
        assert self._process is not None, "run was called"
        return f"process {self._process.pid} of this machine; log: {self.log}"

    def state(self) -> JobState:
        """Return the state of the process."""
        from orchestrator.cluster.jobs import JobState

        assert self._process is not None, "run was called"
        code = self._process.poll()
        return JobState(code is not None, code == 0, "runs" if code is None else f"ended with exit code {code}")

    def last_words(self) -> str:
        """Return the last lines of its output."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([line for line in lines if line.strip()][-_LAST_LINES:])
