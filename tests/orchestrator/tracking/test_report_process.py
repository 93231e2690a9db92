"""The report in a child process: the same files as in this one, and its errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agr_core.errors import IntegrityError
from orchestrator.errors import TrackerError
from orchestrator.journal.segments import read_state
from orchestrator.journal.sweep_state import attempt_folder
from orchestrator.tracking.notes import write_report
from orchestrator.tracking.report_process import write_report_in_child

pytestmark = pytest.mark.slow

Recorder = Callable[..., Any]


@pytest.fixture
def sweep(record_sweep: Recorder) -> Any:
    sweep = record_sweep()
    sweep.trial(0, [9.0, 7.0], files=True)
    sweep.end()
    return sweep


def test_the_child_writes_the_same_report(sweep: Any, tmp_path: Path) -> None:
    for name in ("here", "child"):
        (tmp_path / name).mkdir()
    note = write_report(tmp_path / "here", sweep.storage, sweep.sweep_id)

    assert write_report_in_child(tmp_path / "child", sweep.storage, sweep.sweep_id) == note
    files = {path.name: path.read_bytes() for path in (tmp_path / "here").iterdir()}
    assert "report.html" in files
    assert {path.name: path.read_bytes() for path in (tmp_path / "child").iterdir()} == files


def test_a_damaged_file_is_the_same_error_as_without_a_child(sweep: Any, tmp_path: Path) -> None:
    [trial] = read_state(sweep.storage, sweep.sweep_id).trials.values()
    sweep.storage.write(f"{attempt_folder(sweep.sweep_id, trial)}/metrics.jsonl", b"no JSON")
    with pytest.raises(IntegrityError, match=r"metrics\.jsonl"):
        write_report_in_child(tmp_path, sweep.storage, sweep.sweep_id)


def test_a_child_that_ends_without_a_result_is_an_error(sweep: Any, tmp_path: Path) -> None:
    with pytest.raises(TrackerError, match="ended with exit code 1"):
        write_report_in_child(tmp_path / "absent", sweep.storage, sweep.sweep_id)
