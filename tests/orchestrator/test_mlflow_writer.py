from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.cli.driving import Watch
from orchestrator.errors import TrackerError
from orchestrator.mlflow_writer import MlflowWriter, last_line
from orchestrator.ray_tune.driver import Engine, SweepResult
from orchestrator.settings import Settings


def test_the_last_words_of_a_log_are_its_last_line_that_says_something(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\ntwo\n\n")
    assert last_line(log) == "two"
    log.write_text("")
    assert last_line(log) == ""


def test_a_writer_that_was_killed_is_told_with_what_delivers_the_rest(record_sweep: Any) -> None:
    sweep = record_sweep()
    writer = MlflowWriter(sweep.storage, sweep.sweep_id, Settings.from_environment())
    kill_the_writer()
    with pytest.raises(TrackerError, match=f"exit code -9.*`agr sync {sweep.storage.uri}` delivers the rest"):
        writer.finish(30)


def test_the_result_of_a_sweep_is_printed_although_its_writer_was_killed(
    record_sweep: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep, settings = record_sweep(), Settings.from_environment()
    watch = Watch(settings, Engine(settings=settings, storage=sweep.storage), sweep.started)
    watch.begin()
    kill_the_writer()
    result = SweepResult(
        sweep_id=sweep.sweep_id, status="completed", reason="", counts={"completed": 4}, best=None, wall_s=1.0
    )
    with pytest.raises(TrackerError, match="delivers the rest"):
        watch.end(result, as_json=True)
    assert json.loads(capsys.readouterr().out)["trials"] == {"completed": 4}


def kill_the_writer() -> None:
    """As ``kill -9`` of the child process."""
    (child,) = [child for child in psutil.Process(os.getpid()).children() if "--follow" in child.cmdline()]
    child.send_signal(signal.SIGKILL)
