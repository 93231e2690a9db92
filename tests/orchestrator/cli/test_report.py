"""``agr report``: one file about sweeps, and one message for what cannot be written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import Result

AgrCommand = Callable[..., Result]


def test_a_report_is_written_into_a_new_folder(
    record_sweep: Callable[..., Any], agr: AgrCommand, tmp_path: Path
) -> None:
    sweep = record_sweep()
    trial = sweep.trial(0, [4.0])
    sweep.end()
    path = tmp_path / "new" / "faces.html"
    assert str(path) in agr("report", "faces", "-o", str(path)).stderr
    assert trial in path.read_text(encoding="utf-8")


def test_the_report_of_an_empty_sweep_states_that_it_is_empty(
    record_sweep: Callable[..., Any], agr: AgrCommand, tmp_path: Path
) -> None:
    sweep = record_sweep()
    result = agr("report", sweep.sweep_id, "-o", str(tmp_path / "empty.html"))
    assert "No trial was created yet." in result.stderr


def test_another_name_than_html_is_refused(record_sweep: Callable[..., Any], agr: AgrCommand, tmp_path: Path) -> None:
    record_sweep()
    result = agr("report", "faces", "-o", str(tmp_path / "faces.pdf"), code=2)
    assert "ends in .html" in result.stderr
