"""What a command prepares before a driver runs."""

from __future__ import annotations

import getpass
import socket

from orchestrator.cli.driving import started_of
from tests.parts.sweeps import small_sweep


def test_a_sweep_names_who_started_it_and_where() -> None:
    assert started_of(small_sweep()).started_by == f"{getpass.getuser()}@{socket.gethostname()}"
