from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.cli.driving import Watch
from orchestrator.errors import TrackerError
from orchestrator.ray_tune.driver import Engine, SweepResult
from orchestrator.settings import Settings
from orchestrator.tracking.writer_process import MlflowWriter, last_line


def test_the_last_words_of_a_log_are_its_last_line_that_says_something(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\ntwo\n\n")
    assert last_line(log) == "two"
    log.write_text("")
    assert last_line(log) == ""


def test_a_killed_writer_is_reported_with_the_command_that_delivers_the_rest(record_sweep: Any) -> None:
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
    the_writer().send_signal(signal.SIGKILL)


def the_writer() -> psutil.Process:
    """The newest child process that delivers a sweep; its command line may take a moment to be seen."""
    while True:
        children = psutil.Process(os.getpid()).children()
        running = [child for child in children if child.status() != psutil.STATUS_ZOMBIE]
        writers = [child for child in running if "--follow" in child.cmdline()]
        if writers:
            return max(writers, key=lambda child: child.create_time())
        time.sleep(0.05)


@pytest.mark.parametrize("words", ["(sqlite3.OperationalError) database or disk is full", "No space left on device"])
def test_for_an_mlflow_on_a_full_disk_the_result_does_not_wait(
    record_sweep: Any, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    """Its writer would try for as long as it is let."""
    sweep, settings = record_sweep(), Settings.from_environment()
    sweep.end("failed")
    watch = Watch(settings, Engine(settings=settings, storage=sweep.storage), sweep.started)
    watch.begin()
    writer = the_writer()
    writer.suspend()
    (log,) = (settings.home / "logs").glob("sync-*.log")
    log.write_text(f"{words}\n")
    result = SweepResult(
        sweep_id=sweep.sweep_id,
        status="failed",
        reason="",
        counts=dict.fromkeys(("completed", "pruned", "diverged", "failed", "interrupted"), 0),
        best=None,
        wall_s=1.0,
    )
    try:
        watch.end(result, as_json=False)
    finally:
        writer.kill()
        writer.wait()

    said = capsys.readouterr().err
    assert f"cannot write to MLflow: {words}" in said
    assert f"`agr sync {sweep.storage.uri}` delivers the rest" in said
    assert "delivering to MLflow" not in said
